import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graticule.evaluation.regions.answers import entity_rows
from graticule.evaluation.regions.entity_tasks import BUILDING_TYPES, ENTITY_TASKS, HIGHWAY_CLASSES, ROOF_MATERIALS
from tests.evaluation.regions.maps import region

TYPE, HIGHWAY, ROOF, LEVELS = (ENTITY_TASKS[n] for n in ("building_type", "highway_class", "roof_material", "levels"))
LEFT = [  # tags, what the task leaves of them
    (TYPE, {"building": "school", "amenity": "school", "building:use": "education", "operator": "x", "height": "9",
            "roof:shape": "flat", "building:levels": "2", "building:part": "school", "religion": "none"},
     {"building": "yes", "height": "9", "roof:shape": "flat", "building:levels": "2", "building:part": "yes"}),
    (TYPE, {"landuse": "retail", "was:building": "farm", "building:use": "shop"}, {"landuse": "retail"}),
    (TYPE, {"type": "building"}, None),
    (HIGHWAY, {"highway": "primary", "ref": "A1", "lanes": "2", "maxspeed": "50", "network": "x", "surface": "asphalt",
               "designation": "x", "tiger:cfcc": "A41", "sidewalk": "both", "foot": "no", "bridge": "yes"},
     {"highway": "yes", "surface": "asphalt", "bridge": "yes"}),
    (HIGHWAY, {"highway": "service", "service": "driveway"}, {"highway": "yes"}),
    (HIGHWAY, {"highway": "construction", "construction": "primary"}, {"highway": "yes"}),
    (HIGHWAY, {"type": "route", "route": "road", "network": "E-road"}, None),
    (HIGHWAY, {"highway": "motorway_junction", "ref": "5"}, None),
    (HIGHWAY, {"area:highway": "primary", "landuse": "x"}, {"landuse": "x"}),
    (HIGHWAY, {"highway": "bus_stop", "bench": "yes"}, {"highway": "bus_stop", "bench": "yes"}),
    (ROOF, {"building": "house", "roof:material": "metal", "roof:colour": "red", "building:material": "brick",
            "building:colour": "red", "material": "wood", "wall": "no", "building:structure": "x", "CONS_TYPE": "RCC",
            "roof:tin_roof": "yes", "roof:shape": "hipped"},
     {"building": "house", "roof:shape": "hipped"}),
    (LEVELS, {"building": "yes", "building:levels": "3", "height": "9", "building:height": "9", "roof:levels": "1",
              "min_height": "2", "building:min_level": "1", "building:levels:underground": "1", "building:flats": "4",
              "roof:height": "2", "roof:shape": "flat"},
     {"building": "yes", "roof:shape": "flat"}),
    (LEVELS, {"shop": "x", "level": "2", "addr:floor": "2"}, {"shop": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("task", "tags", "left"), LEFT)
def test_what_is_left(task, tags, left):
    assert task.remove(tags) == left


VALUES = st.sampled_from([v for classes in (BUILDING_TYPES, HIGHWAY_CLASSES, ROOF_MATERIALS) for c in classes.values()
                          for v in sorted(c)])  # fmt: skip
OTHER_KEYS = """
    building building:part building:use amenity shop highway service ref lanes route maxspeed tracktype roof:material
    roof:colour material building:levels levels height roof:levels level surface natural
"""
KEYS = st.sampled_from(OTHER_KEYS.split())
ANSWERS = [("building", TYPE, BUILDING_TYPES), ("highway", HIGHWAY, HIGHWAY_CLASSES),
           ("roof:material", ROOF, ROOF_MATERIALS), ("building:levels", LEVELS, {"": {"1", "3"}})]  # fmt: skip


@given(st.dictionaries(KEYS, VALUES | st.sampled_from(["1", "2", "7.5"]), max_size=6))
def test_entities_that_differ_in_the_answer_alone_look_the_same(tags):
    for key, task, values in ANSWERS:
        looks = [task.remove(tags | {key: value}) for accepted in values.values() for value in accepted]
        assert all(look == looks[0] for look in looks)
        assert looks[0] is not None
        assert task.label(looks[0]) is None


def test_labels():
    assert TYPE.classes[TYPE.label({"building": "garages"})] == "garage"
    assert HIGHWAY.classes[HIGHWAY.label({"highway": "trunk_link"})] == "motorway"
    assert ROOF.classes[ROOF.label({"building": "yes", "roof:material": "slate"})] == "tiles"
    assert LEVELS.label({"building": "yes", "building:levels": "3.5"}) == pytest.approx(math.log(4.5))
    for task, tags in (
        (TYPE, {"building": "yes"}),
        (HIGHWAY, {"highway": "crossing"}),
        (ROOF, {"roof:material": "tin"}),
        (LEVELS, {"building:levels": "2"}),
        (LEVELS, {"building": "yes", "building:levels": "2-3"}),
        (LEVELS, {"building": "yes", "building:levels": "-1"}),
    ):
        assert task.label(tags) is None


@pytest.mark.parametrize("classes", [BUILDING_TYPES, HIGHWAY_CLASSES, ROOF_MATERIALS])
def test_no_value_has_two_classes(classes):
    values = [value for accepted in classes.values() for value in accepted]
    assert len(values) == len(set(values))


def test_an_entity_counts_once_where_its_share_is_largest():
    """And rows are numbers within the region after hiding: the levels task drops the first entity of the second."""
    low, part = {"building": "yes", "building:levels": "1"}, {"building:part": "yes", "building:levels": "3"}
    a = region({"natural": "tree"}, low, ids=["node/1", "way/7"], shares=[1, 0.4])
    b = region({"level": "2"}, low, part, ids=["node/2", "way/7", "way/8"], shares=[1, 0.6, 1])
    rows = entity_rows(LEVELS, [a, region(), b])
    assert rows.region.tolist() == [2, 2]
    assert rows.entity.tolist() == [0, 1]
    assert [LEVELS.hidden([a, b][-1]).ids[i] for i in rows.entity] == ["way/7", "way/8"]
    assert rows.label == pytest.approx([math.log(2), math.log(4)])
    assert len(entity_rows(LEVELS, [])) == 0


def test_a_labelled_entity_without_other_tags_stays():
    rows = entity_rows(HIGHWAY, [region({"highway": "track"})])
    assert HIGHWAY.hidden(region({"highway": "track"})).tags == ({"highway": "yes"},)
    assert len(rows) == 1
    left, before = ROOF.hide(region({"material": "x"}, {"building": "yes", "roof:material": "tin"}))
    assert left.tags == ({"building": "yes"},)
    assert before.tolist() == [1]


def test_a_draw_is_seeded_and_capped():
    many = [region(*[{"highway": "track"}] * 50, ids=[f"way/{j}-{i}" for i in range(50)]) for j in range(4)]
    a, b, c = (entity_rows(HIGHWAY, many, most=30, seed=seed) for seed in (0, 0, 1))
    assert len(a) == 30
    assert a.entity.tolist() == b.entity.tolist() != c.entity.tolist()
