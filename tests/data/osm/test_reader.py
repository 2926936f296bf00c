import bz2
import gzip
import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiLineString, MultiPoint, Point, Polygon

from graticule.data.osm import extract as extract_module
from graticule.data.osm.entities import Ledger
from graticule.data.osm.reader import read_entities
from graticule.errors import DataError
from tests.data.osm.write_osm import N, R, W, ring, square, write

YES = {"building": "yes"}
FOREST = {"type": "multipolygon", "natural": "wood"}


def read(path, **options):
    """{id: (tags, geometry)} and the ledger; every id of the file is accounted for."""
    ledger = Ledger()
    entities = {}
    for chunk in read_entities(path, ledger=ledger, **options):
        assert len(chunk.ids) == len(chunk.tags) == len(chunk.geometry) > 0
        for identity, tags, geometry in zip(chunk.ids, chunk.tags, chunk.geometry, strict=True):
            assert identity not in entities
            assert tags
            assert not geometry.is_empty
            assert geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_valid
            entities[identity] = (tags, geometry)
    assert_adds_up(ledger)
    assert Counter(identity.split("/")[0] for identity in entities) == +ledger.kept
    return entities, ledger


def assert_adds_up(ledger):
    dropped = Counter()
    for (kind, _), count in ledger.dropped.items():
        assert count > 0
        dropped[kind] += count
    for kind in ("node", "way", "relation"):
        assert ledger.found[kind] == ledger.kept[kind] + dropped[kind], (kind, ledger)


def test_nodes_become_points_and_untagged_ones_are_counted(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        N(1, 10.5, -3.25, {"amenity": "bench"}),
        N(2, 0, 0),
        N(3, 0, 0, {"source": "survey"}),
        N(4, 1, 1, {"addr:housenumber": "3"}),
    )
    entities, ledger = read(path)
    assert entities == {
        "node/1": ({"amenity": "bench"}, Point(10.5, -3.25)),
        "node/4": ({"address": "yes"}, Point(1, 1)),
    }
    assert ledger.found == {"node": 4}
    assert ledger.dropped == {("node", "no tags"): 1, ("node", "no tags left"): 1}
    assert ledger.examples["no tags left"] == ["node/3"]


def test_ways_become_lines_or_polygons(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1),
        W(1, [1, 2, 3], {"highway": "path"}),
        W(2, ring(1), YES),
        W(3, ring(1), {"highway": "residential"}),
        W(4, [1, 2, 3, 4], YES),
        W(5, [1, 2]),
        W(6, [1, 2], {"name": "x"}),
    )
    entities, ledger = read(path)
    corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
    assert entities["way/1"][1] == LineString(corners[:3])
    assert entities["way/2"][1].equals(Polygon(corners))
    assert entities["way/2"][1].geom_type == "Polygon"
    assert entities["way/3"][1] == LineString([*corners, corners[0]])
    assert entities["way/4"][1] == LineString(corners)
    assert ledger.dropped == {("node", "no tags"): 4, ("way", "no tags"): 1, ("way", "no tags left"): 1}


def test_degenerate_ways(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1),
        N(5, 0, 0),
        N(6, 0.5, 0),
        W(1, [1, 5], {"highway": "path"}),
        W(2, [1, 2, 1], YES),
        W(3, [1, 6, 2, 1], YES),
        W(4, [1], YES),
        W(5, [1, 5, 1], YES),
    )
    entities, ledger = read(path)
    assert entities["way/1"][1] == Point(0, 0) == entities["way/5"][1]
    assert entities["way/2"][1].geom_type == "LineString"
    assert entities["way/3"][1].geom_type == "LineString"
    assert ledger.noted == {
        "way at one place, kept as a point": 2,
        "area of two places, kept as a line": 1,
        "polygon without an area, kept as a line": 1,
    }
    assert ledger.dropped["way", "fewer than two located nodes"] == 1


def test_a_bow_tie_is_mended(tmp_path):
    nodes = [N(1, 0, 0), N(2, 1, 1), N(3, 1, 0), N(4, 0, 1)]
    entities, ledger = read(write(tmp_path / "a.osm.pbf", *nodes, W(1, ring(1), YES)))
    assert entities["way/1"][1].geom_type == "MultiPolygon"
    assert entities["way/1"][1].area == pytest.approx(0.5)
    assert ledger.noted == {"polygon not valid, mended": 1}


def test_missing_nodes(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1),
        N(5, 200, 0),
        N(6, 10, 10),
        N(7, 185, 0, {"amenity": "bench"}),
        W(1, [1, 99, 2], {"highway": "path"}),
        W(2, [99, 1, 98], {"highway": "path"}),
        W(3, [1, 2, 99, 3, 4, 1], YES),
        W(4, [99, 1, 2, 3, 99], YES),
        W(5, [1, 5, 2], {"highway": "path"}),
    )
    entities, ledger = read(path)
    assert entities["way/1"][1] == LineString([(0, 0), (1, 0)]) == entities["way/5"][1]
    assert entities["way/3"][1].area == 1
    assert entities["way/4"][1].geom_type == "LineString"
    assert ledger.noted == {"nodes missing from the file": 4}
    assert ledger.dropped["way", "fewer than two located nodes"] == 1
    assert ledger.dropped["node", "no place"] == 1


def test_a_multipolygon_with_a_hole(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1, side=4),
        *square(5, 1, 1, 2),
        *square(9, 10, 10, 1),
        W(1, [1, 2, 3]),
        W(2, [3, 4, 1]),
        W(3, ring(5), {"natural": "water"}),
        W(4, ring(9)),
        R(1, [("w", 1, "outer"), ("w", 2, "outer"), ("w", 3, "inner")], FOREST),
        R(2, [("w", 1, "outer"), ("w", 2, "outer"), ("w", 3, "inner"), ("w", 4, "outer")], FOREST),
    )
    entities, ledger = read(path)
    tags, geometry = entities["relation/1"]
    assert tags == {"natural": "wood"}
    assert geometry.geom_type == "Polygon"
    assert len(geometry.interiors) == 1
    assert geometry.area == 16 - 4
    assert entities["relation/2"][1].geom_type == "MultiPolygon"
    assert entities["relation/2"][1].area == 16 - 4 + 1
    assert entities["way/3"][1].area == 4
    assert not ledger.noted


def test_an_old_style_multipolygon_keeps_its_outer_way(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1),
        W(1, ring(1), {"natural": "wood"}),
        R(1, [("w", 1, "outer")], {"type": "multipolygon", "source": "x"}),
    )
    entities, ledger = read(path)
    assert list(entities) == ["way/1"]
    assert ledger.dropped["relation", "no tags left"] == 1


def test_rings_that_do_not_close_become_lines(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1),
        N(5, 0, 0.5),
        W(1, [1, 2, 3]),
        R(1, [("w", 1, "outer"), ("w", 2, "outer")], FOREST),
        R(2, [("w", 1, "outer")], FOREST),
        R(3, [("w", 9, "outer"), ("n", 5, "label")], {"type": "boundary", "boundary": "administrative"}),
    )
    entities, ledger = read(path)
    assert entities["relation/1"][1] == LineString([(0, 0), (1, 0), (1, 1)]) == entities["relation/2"][1]
    assert entities["relation/3"] == ({"boundary": "administrative"}, MultiPoint([(0, 0.5)]))
    assert ledger.noted == {
        "rings do not close, kept as lines": 2,
        "rings do not close, kept as points": 1,
        "members missing from the file": 2,
    }


def test_a_route_is_its_ways_merged_and_a_site_without_ways_its_nodes(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1),
        N(5, 5, 5),
        N(6, 6, 6),
        W(1, [1, 2]),
        W(2, [3, 2]),
        W(3, [5, 6]),
        R(1, [("w", 1, ""), ("w", 2, ""), ("w", 1, ""), ("n", 4, "stop")], {"type": "route", "route": "bus"}),
        R(2, [("w", 1, ""), ("w", 3, "")], {"type": "route", "route": "hiking"}),
        R(3, [("n", 5, ""), ("n", 6, ""), ("n", 99, "")], {"type": "site", "site": "wind_farm"}),
    )
    entities, ledger = read(path)
    assert entities["relation/1"][0] == {"type": "route", "route": "bus"}
    assert entities["relation/1"][1].equals(LineString([(0, 0), (1, 0), (1, 1)]))
    assert entities["relation/1"][1].geom_type == "LineString"
    assert entities["relation/2"][1].equals(MultiLineString([[(0, 0), (1, 0)], [(5, 5), (6, 6)]]))
    assert entities["relation/3"][1] == MultiPoint([(5, 5), (6, 6)])
    assert not ledger.noted


def test_relations_without_a_geometry_are_dropped_for_a_reason(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1),
        W(1, [1, 2], {"highway": "path"}),
        R(1, [("w", 1, "from"), ("n", 2, "via")], {"type": "restriction", "restriction": "no_u_turn"}),
        R(2, [("r", 1, "")], {"type": "route_master", "route_master": "bus"}),
        R(3, [("w", 77, "")], {"type": "route", "route": "bus"}),
        R(4, [("r", 1, "")], {"type": "site", "site": "x"}),
        R(5, [], {"type": "site", "site": "x"}),
        R(6, [("w", 1, "")]),
    )
    _, ledger = read(path)
    assert {reason: n for (kind, reason), n in ledger.dropped.items() if kind == "relation"} == {
        "relation type without a geometry of its own": 2,
        "members not in the file": 1,
        "members are relations only": 1,
        "no members": 1,
        "no tags": 1,
    }


def test_a_relation_that_contains_itself(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1),
        W(1, [1, 2]),
        R(1, [("r", 1, ""), ("w", 1, "")], {"type": "site", "site": "x"}),
        R(2, [("r", 2, "")], {"type": "site", "site": "x"}),
        R(3, [("r", 3, ""), ("w", 1, "outer")], FOREST),
    )
    entities, ledger = read(path)
    assert set(entities) == {"relation/1", "relation/3"}
    assert ledger.noted["members that are relations, not followed"] == 2


def test_ids_that_occur_again_are_dropped(tmp_path):
    path = write(
        tmp_path / "a.osm.pbf",
        *square(1),
        N(9, 0, 0, {"amenity": "bench"}),
        N(9, 1, 1, {"amenity": "cafe"}),
        W(1, ring(1), YES),
        W(1, [1, 2], YES),
        R(1, [("w", 1, "outer")], FOREST),
        R(1, [("w", 1, "outer")], FOREST),
        R(2, [("w", 1, "")], {"type": "route", "route": "bus"}),
        R(2, [("w", 1, "")], {"type": "route", "route": "bus"}),
    )
    entities, ledger = read(path)
    assert entities["node/9"][1] == Point(0, 0)
    assert entities["way/1"][1].area == 1
    assert ledger.dropped["node", "id occurs again"] == ledger.dropped["way", "id occurs again"] == 1
    assert ledger.dropped["relation", "id occurs again"] == 2


def test_the_order_within_the_file_does_not_matter(tmp_path):
    things = [
        *square(1, side=4),
        N(5, 9, 9, {"amenity": "bench"}),
        W(1, [1, 2, 3], {"highway": "path"}),
        W(2, [3, 4, 1]),
        R(1, [("w", 1, "outer"), ("w", 2, "outer")], FOREST),
        R(2, [("w", 2, ""), ("n", 5, "")], {"type": "route", "route": "bus"}),
    ]
    inorder, _ = read(write(tmp_path / "a.osm.pbf", *things))
    reverse, _ = read(write(tmp_path / "b.osm.pbf", *reversed(things)))
    assert set(inorder) == set(reverse)
    assert inorder["relation/1"][1].area == 16
    for identity, (tags, geometry) in inorder.items():
        assert reverse[identity][0] == tags
        assert reverse[identity][1].equals(geometry)
    repeated = [*things[:-1], W(1, [3, 4, 1]), things[-1], N(5, 8, 8, {"amenity": "cafe"})]
    again, ledger = read(write(tmp_path / "c.osm.pbf", *repeated))
    assert again["node/5"][1] == Point(9, 9)
    assert again["way/1"][1] == inorder["way/1"][1]
    assert ledger.dropped["node", "id occurs again"] == ledger.dropped["way", "id occurs again"] == 1


def test_all_formats_give_the_same(tmp_path):
    things = [
        *square(1),
        N(5, 7, 7, {"amenity": "café", "note": "ü"}),
        W(1, ring(1), YES),
        R(1, [("w", 1, "outer")], FOREST),
    ]
    first, _ = read(write(tmp_path / "a.osm.pbf", *things))
    assert list(first) == ["node/5", "way/1", "relation/1"]
    for name in ("a.osm", "a.osm.gz", "a.osm.bz2", "B.OSM.PBF"):
        path = tmp_path / name
        if name == "B.OSM.PBF":
            path.write_bytes((tmp_path / "a.osm.pbf").read_bytes())
        else:
            write(path, *things)
        other, _ = read(path)
        assert other == first


def test_text_of_any_script_is_kept_and_long_values_are_cut(tmp_path):
    path = write(tmp_path / "a.osm.pbf", N(1, 0, 0, {"shop": "ハサミ" * 60, "cuisine": "x" * 1000, "höhe": "3;4"}))
    entities, ledger = read(path)
    assert entities["node/1"][0] == {"shop": "ハサミ" * 60, "cuisine": "x" * 255, "höhe": "3;4"}
    assert ledger.noted == {"value cut to 255 characters": 1}


def test_values_of_ten_kilobytes_are_cut_and_broken_text_is_dropped(tmp_path):
    path = tmp_path / "a.osm"
    path.write_text(
        "<osm version='0.6'><node id='1' lon='1' lat='2'><tag k='shop' v='" + "x" * 900 + "'/></node></osm>"
    )
    entities, ledger = read(path)
    assert len(entities["node/1"][0]["shop"]) == 255
    assert ledger.noted
    import osmium

    with osmium.SimpleWriter(osmium.io.File(str(tmp_path / "b.osm.pbf"), "pbf,pbf_compression=none")) as writer:
        writer.add_node(osmium.osm.mutable.Node(id=1, location=(1, 2), tags={"amenity": "QQQQQ"}))
        writer.add_node(osmium.osm.mutable.Node(id=2, location=(1, 2), tags={"amenity": "bench"}))
    broken = tmp_path / "c.osm.pbf"
    broken.write_bytes((tmp_path / "b.osm.pbf").read_bytes().replace(b"QQQQQ", b"QQQQ\xc3"))
    entities, ledger = read(broken)
    assert list(entities) == ["node/2"]
    assert ledger.dropped == {("node", "tags are not UTF-8"): 1}


def test_files_without_ways_and_without_anything(tmp_path):
    assert len(read(write(tmp_path / "a.osm.pbf", N(1, 0, 0, {"amenity": "bench"})))[0]) == 1
    assert read(write(tmp_path / "b.osm.pbf"))[0] == {}
    assert list(read(write(tmp_path / "c.osm.pbf", W(1, [1, 2], YES), R(1, [("w", 1, "outer")], FOREST)))[0]) == []


def test_chunks_have_the_size_asked_for_and_end_early_for_long_lines(tmp_path, monkeypatch):
    path = write(tmp_path / "a.osm.pbf", *(N(i, i / 10, 0, {"amenity": "bench"}) for i in range(1, 8)))
    chunks = list(read_entities(path, ledger=Ledger(), chunk=3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert isinstance(chunks[0].geometry, np.ndarray)
    monkeypatch.setattr("graticule.data.osm.shapes.CHUNK_BYTES", 42)
    assert [len(chunk) for chunk in read_entities(path, ledger=Ledger())] == [2, 2, 2, 1]


def test_places_on_disk_give_the_same(tmp_path, monkeypatch):
    path = write(tmp_path / "a.osm.pbf", *square(1), W(1, ring(1), YES), R(1, [("n", 2, "")], {"site": "x"}))
    memory, counted = read(path)
    monkeypatch.setattr(extract_module, "IN_MEMORY_BYTES", 0)
    disk, again = read(path)
    assert disk == memory
    assert again == counted


def test_own_dropped_keys(tmp_path):
    path = write(tmp_path / "a.osm.pbf", N(1, 0, 0, {"name": "x", "amenity": "bench"}))
    assert read(path, dropped_keys=["amenity"])[0]["node/1"][0] == {"name": "x"}


def bad(path, match):
    with pytest.raises(DataError, match=match) as caught:
        list(read_entities(path, ledger=Ledger()))
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    rng = np.random.default_rng(0)
    nodes = [N(i + 1, *xy, {"amenity": f"{i}"}) for i, xy in enumerate(rng.uniform(-80, 80, (20_000, 2)))]
    whole = write(tmp_path / "whole.osm.pbf", *nodes).read_bytes()
    xml = write(tmp_path / "whole.osm", *nodes[:2000]).read_bytes()
    contents = {
        "half.osm.pbf": whole[: len(whole) // 2],
        "start.osm.pbf": whole[:20],
        "other.osm.pbf": b"PK\x03\x04 this is something else" * 9,
        "half.osm.gz": gzip.compress(xml)[:5000],
        "half.osm.bz2": bz2.compress(xml)[:5000],
        "half.osm": xml[: len(xml) // 2],
        "page.osm": b"<html><body>404</body></html>",
        "other.osm.gz": b"hello",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        bad(tmp_path / name, "cannot be read as OpenStreetMap data.*truncated, damaged or misnamed; download it again")
    (tmp_path / "empty.osm.pbf").write_bytes(b"")
    bad(tmp_path / "empty.osm.pbf", "is empty: download it again")
    bad(tmp_path / "missing.osm.pbf", "There is no OpenStreetMap extract")
    (tmp_path / "a.geojson").write_text("{}")
    bad(tmp_path / "a.geojson", "expected .osm.pbf, .osm.gz")


def test_histories_and_ids_below_zero_are_refused(tmp_path):
    (tmp_path / "a.osh.pbf").write_bytes(write(tmp_path / "a.osh.pbf", N(1, 0, 0, YES)).read_bytes())
    bad(tmp_path / "a.osh.pbf", "history")
    bad(write(tmp_path / "a.osm", N(-1, 0, 0, YES)), "node/-1: ids below 0")
    bad(write(tmp_path / "a.osm", N(1, 0, 0), W(-2, [1, 1], YES)), "way/-2")
    bad(write(tmp_path / "a.osm", R(-3, [], FOREST)), "relation/-3")
    bad(write(tmp_path / "a.osm", N(-1, 0, 0), N(-2, 1, 0), W(1, [-1, -2], YES)), "node/-1")
    with pytest.raises(DataError, match="at least 1"):
        read_entities(tmp_path / "a.osm", ledger=Ledger(), chunk=0)


TAGS = st.sampled_from(
    [
        {},
        YES,
        {"name": "x"},
        {"highway": "path"},
        {"area": "yes"},
        FOREST,
        {"type": "route", "a": "b"},
        {"type": "no_u"},
    ]
)
PLACES = st.sampled_from([-180.0, -1.0, 0.0, 0.5, 1.0, 90.0])


@st.composite
def maps(draw):
    """Small maps with everything that can be wrong: missing nodes, crossings, repeated ids, any order."""
    things = [
        N(draw(st.integers(1, 9)), draw(PLACES), draw(PLACES) / 2, draw(TAGS)) for _ in range(draw(st.integers(0, 9)))
    ]
    for _ in range(draw(st.integers(0, 5))):
        nodes = draw(st.lists(st.integers(1, 10), min_size=0, max_size=6))
        things.append(W(draw(st.integers(1, 6)), nodes + nodes[:1] * draw(st.integers(0, 1)), draw(TAGS)))
    member = st.tuples(st.sampled_from("nwr"), st.integers(1, 7), st.sampled_from(["", "outer", "inner"]))
    for _ in range(draw(st.integers(0, 4))):
        things.append(R(draw(st.integers(1, 4)), draw(st.lists(member, max_size=5)), draw(TAGS)))
    return things


@given(things=maps(), shuffled=st.booleans(), chunk=st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_every_id_is_accounted_for(things, shuffled, chunk):
    ordered = things if shuffled else sorted(things, key=lambda thing: ("NWR".index(type(thing).__name__), thing.id))
    with TemporaryDirectory() as folder:
        path = write(Path(folder, "a.osm.pbf"), *ordered)
        entities, ledger = read(path, chunk=chunk)
        again, _ = read(path, chunk=10)
    assert ledger.found == Counter({N: "node", W: "way", R: "relation"}[type(thing)] for thing in things)
    assert list(entities) == list(again)
    assert entities == again


@pytest.mark.skipif("GRATICULE_DATA" not in os.environ, reason="needs real extracts: set GRATICULE_DATA")
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("sydney-2020.osm.pbf", 690),
        ("boston-2020.osm.pbf", 1094),
        ("nyc-manhattan-2015.osm.pbf", 2680),  # ids do not ascend
        ("dublin-docklands-2019.osm.pbf", 5617),
        ("north-bayreuth-2014.osm.gz", 8770),
    ],
)
def test_real_extracts(name, kept):
    ledger = Ledger()
    entities = list(read_entities(Path(os.environ["GRATICULE_DATA"], "osm", name), ledger=ledger))
    assert_adds_up(ledger)
    assert sum(map(len, entities)) == kept
    geometry = np.concatenate([chunk.geometry for chunk in entities])
    assert not shapely.is_empty(geometry).any()
    areal = shapely.get_dimensions(geometry) == 2
    assert shapely.is_valid(geometry[areal]).all()
    assert areal.mean() > 0.1
