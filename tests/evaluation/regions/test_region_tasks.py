import math
from itertools import pairwise

import numpy as np
import pytest
import shapely

from graticule.evaluation.regions.answers import region_labels
from graticule.evaluation.regions.region_tasks import KINDS, REGION_TASKS, kmh
from graticule.geo.coords import great_circle_km
from tests.evaluation.regions.maps import region

BUILDINGS, SIGNALS, BRIDGES, SPEED, PLACES = (REGION_TASKS[n] for n in
                                              ("buildings", "signals", "bridges", "speed", "amenities"))  # fmt: skip
TREE = {"natural": "tree"}
TELLING = {
    "buildings": [
        {"building": "yes"}, {"building": "house", "amenity": "school"}, {"building:part": "yes"},
        {"building:levels": "2", "landuse": "residential"}, {"abandoned:building": "yes"}, {"entrance": "main"},
        {"type": "building"}, {"disused_building": "yes"}, {"man_made": "building"}, {"roof:shape": "flat"},
        {"door": "hinged", "access": "yes"},
    ],
    "signals": [
        {"highway": "traffic_signals", "tactile_paving": "yes"}, {"crossing": "traffic_signals"},
        {"crossing": "zebra"}, {"traffic_signals": "signal"}, {"traffic_signals:sound": "yes"},
        {"crossing:signals": "yes"}, {"enforcement": "traffic_signals"}, {"crossing_ref": "pelican"},
        {"button_operated": "yes"},
    ],
    "bridges": [
        {"bridge": "yes"}, {"bridge:name": "x"}, {"layer": "1"}, {"man_made": "bridge", "area": "yes"},
        {"seamark:bridge:category": "fixed"}, {"seamark:type": "bridge"}, {"bridge": "viaduct"},
        {"man_made": "bridge_support"}, {"description": "The Viaduct"}, {"building": "bridge", "height": "3"},
    ],
    "speed": [
        {"maxspeed": "50"}, {"source:maxspeed": "sign"}, {"zone:maxspeed": "DE:30"}, {"zone:traffic": "DE:urban"},
        {"maxspeed:type": "sign"}, {"traffic_sign": "DE:274"}, {"traffic_sign:2": "30"}, {"minspeed": "60"},
        {"highway": "speed_camera", "direction": "5"}, {"enforcement": "maxspeed"}, {"railway:signal:speed_limit": "x"},
    ],
    "amenities": [
        {"amenity": "bar", "building": "yes"}, {"shop": "yes"}, {"disused:shop": "yes"}, {"leisure": "park"},
        {"office": "company"}, {"healthcare": "clinic"}, {"tourism": "hotel"}, {"cuisine": "thai"},
        {"opening_hours": "24/7"}, {"contact:phone": "1"}, {"brand:wikidata": "Q1"}, {"building:use": "hotel"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "tags"), [(name, tags) for name, found in TELLING.items() for tags in found])
def test_what_tells_the_answer_is_gone(name, tags):
    assert REGION_TASKS[name].hidden(region(tags)).tags == ()


@pytest.mark.parametrize("name", REGION_TASKS)
def test_other_things_stay_as_they_are(name):
    plain = [TREE, {"highway": "residential", "surface": "asphalt"}, {"waterway": "stream"}, {"landuse": "forest"}]
    before = region(*plain, shares=[1.0, 0.5, 0.2, 0.1])
    after = REGION_TASKS[name].hidden(before)
    assert after.tags == tuple(plain)
    assert (after.ids, after.geometries, after.shares) == (before.ids, before.geometries, before.shares)


def test_hiding_takes_the_right_rows_and_keeps_the_image():
    image = np.ones((3, 4, 4), np.uint8)
    before = region(TREE, {"building": "yes"}, {"barrier": "wall"}, {}, shares=[1, 0.3, 0.7, 1], image=image)
    after = BUILDINGS.hidden(before)
    assert after.ids == ("node/0", "node/2")
    assert after.shares == (1, 0.7)
    assert after.image is image


def test_regions_that_differ_in_the_answer_alone_look_the_same():
    """The rest of the map is equal, so nothing at all of the label may be left."""
    road = {"highway": "residential", "surface": "asphalt"}
    signal = [road, {"highway": "crossing", "crossing": "traffic_signals", "button_operated": "yes"}]
    zebra = [road, {"highway": "crossing", "crossing": "uncontrolled", "crossing_ref": "zebra"}]
    assert SIGNALS.label(region(*signal)) != SIGNALS.label(region(*zebra))
    assert SIGNALS.hidden(region(*signal)).tags == SIGNALS.hidden(region(*zebra)).tags
    for name, extra in {"bridges": {"bridge": "yes", "layer": "1"}, "speed": {"maxspeed": "30"}}.items():
        assert REGION_TASKS[name].hidden(region(road | extra)).tags == (road,)
    for name, more in {"buildings": {"building": "yes"}, "amenities": {"shop": "bakery"}}.items():
        assert REGION_TASKS[name].hidden(region(road, more)).tags == (road,)


def test_counts():
    ids = ["way/1", "way/2", "relation/3", "way/4", "way/5"]
    tags = [{"building": "yes"}, {"building": "house"}, {"building": "no"}, {"building:part": "yes"}, TREE]
    got = BUILDINGS.label(region(*tags, ids=ids, shares=[1, 0.25, 1, 1, 1]))
    assert got == pytest.approx(math.log1p(1.25))
    lights = [{"highway": "traffic_signals"}, {"highway": "crossing", "crossing": "traffic_signals"}, TREE]
    assert SIGNALS.label(region(*lights)) == pytest.approx(math.log1p(2))
    assert SIGNALS.label(region(*lights, ids=["way/1", "way/2", "way/3"])) == 0
    spans = [{"bridge": "yes"}, {"bridge": "viaduct"}, {"bridge": "no"}]
    assert BRIDGES.label(region(*spans, ids=ids[:2] + ids[3:4], shares=[0.5, 1, 1])) == pytest.approx(math.log1p(1.5))
    assert [REGION_TASKS[name].label(region()) for name in ("buildings", "signals", "bridges")] == [0, 0, 0]


def test_buildings_become_plain_where_places_are_asked_for():
    assert PLACES.hidden(region({"building": "hotel", "building:levels": "3"})).tags == (
        {"building": "yes", "building:levels": "3"},
    )


def test_mix_of_places():
    tags = [{"amenity": "bar"}, {"amenity": "cafe"}, {"shop": "books"}, {"shop": "vacant"}, {"office": "yes"}, TREE]
    got = dict(zip(KINDS, PLACES.label(region(*tags)), strict=True))
    one = math.log(2)
    assert got == pytest.approx(
        {"food": math.log(3), "shops": one, "services": one, "care": 0, "lodging": 0, "leisure": 0}
    )


@pytest.mark.parametrize(("text", "speed"), [
    ("50", 50), ("30 mph", 48.28032), ("30mph", 48.28032), ("50 km/h", 50), ("40;60", 50), ("none", None),
    ("RU:urban", None), ("walk", None), ("", None), ("0", None), ("5000", None), ("7.5", 7.5),
])  # fmt: skip
def test_kmh(text, speed):
    assert kmh(text) == pytest.approx(speed)


def test_speed_is_weighted_by_length():
    lines = [[[11.0, 48.0], [11.001, 48.0]], [[11.0, 48.0], [11.003, 48.0], [11.003, 48.001]]]
    lengths = [sum(float(great_circle_km(np.array(a), np.array(b))) for a, b in pairwise(line)) for line in lines]
    both = shapely.MultiLineString([lines[0], lines[1]])
    wkb = [shapely.to_wkb(shapely.LineString(line)) for line in lines] + [shapely.to_wkb(both)]
    road, fast, rail = ({"highway": "primary", "maxspeed": "30 mph"}, {"highway": "trunk", "maxspeed": "100"},
                        {"railway": "rail", "maxspeed": "200"})  # fmt: skip
    got = SPEED.label(region(road, fast, rail, geometries=wkb))
    assert got == pytest.approx((lengths[0] * 48.28032 + lengths[1] * 100) / sum(lengths), rel=1e-5)
    assert SPEED.label(region(fast, geometries=wkb[2:])) == pytest.approx(100)
    assert SPEED.label(region(rail, geometries=wkb[2:])) is None
    assert SPEED.label(region(road)) is None  # a point has no length


def test_labels_of_many_regions():
    line = shapely.to_wkb(shapely.LineString([[11.0, 48.0], [11.001, 48.0]]))
    many = [region(TREE), region({"highway": "x", "maxspeed": "20"}, geometries=[line]), region()]
    rows, label = region_labels(SPEED, many)
    assert rows.tolist() == [1]
    np.testing.assert_allclose(label, [20])
    rows, label = region_labels(PLACES, many)
    assert label.shape == (3, len(KINDS))
    assert region_labels(PLACES, [])[1].shape == (0, len(KINDS))
    assert region_labels(SPEED, [])[1].shape == (0,)
