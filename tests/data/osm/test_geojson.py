import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from graticule.data.osm.entities import Ledger
from graticule.data.osm.geojson import read_geojson
from graticule.data.osm.source import osm
from graticule.errors import DataError

SQUARE = {"type": "Polygon", "coordinates": [[[10, 50], [10.1, 50], [10.1, 50.1], [10, 50.1], [10, 50]]]}
POINT = {"type": "Point", "coordinates": [10, 50]}


def feature(properties=None, geometry=SQUARE, **more):
    return {"type": "Feature", "properties": properties, "geometry": geometry, **more}


def write(path, *features, **more):
    text = json.dumps({"type": "FeatureCollection", "features": list(features), **more})
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(path, **options):
    ledger = Ledger()
    parts = list(read_geojson(path, ledger=ledger, **options))
    for kind, found in ledger.found.items():
        dropped = sum(count for (of, _), count in ledger.dropped.items() if of == kind)
        assert ledger.kept[kind] + dropped == found
    ids = [name for part in parts for name in part.ids]
    tags = [dictionary for part in parts for dictionary in part.tags]
    shapes = [shape for part in parts for shape in part.geometry]
    assert all(shapely.is_valid(shape) and not shape.is_empty for shape in shapes)
    return ids, tags, shapes, ledger


@pytest.mark.parametrize(
    "told",
    [
        feature({"osm_type": "way", "osm_id": 7, "building": "yes"}),
        feature({"osm_type": "W", "osm_id": "7", "building": "yes"}),
        feature({"osm_type": "ways_poly", "osm_id": 7.0, "building": "yes"}),
        feature({"@id": "way/7", "@timestamp": "2020", "building": "yes"}),
        feature({"id": "way/7", "building": "yes"}, id="relation/9"),
        feature({"building": "yes"}, id="way/7"),
        feature({"full_id": "w7", "osm_id": "7", "osm_type": "way", "building": "yes"}),
        feature({"@type": "way", "@id": 7, "building": "yes"}),
        feature({"type": "way", "id": 7, "tags": {"building": "yes"}, "meta": {}, "relations": []}),
    ],
)
def test_an_id_is_found_wherever_converters_write_it(tmp_path, told):
    ids, tags, shapes, ledger = read(write(tmp_path / "a.geojson", told))
    assert ids == ["way/7"]
    assert tags == [{"building": "yes"}]
    assert shapes[0].equals(shapely.geometry.shape(SQUARE))
    assert ledger.as_json() == {"found": {"way": 1}, "kept": {"way": 1}, "dropped": {}, "noted": {}, "examples": {}}


def test_tags_are_text_and_only_those_of_the_entity(tmp_path):
    properties = {
        "osm_type": "relation",
        "osm_id": 3,
        "type": "multipolygon",
        "label": 1,
        "building:levels": 3.0,
        "height": 3.5,
        "roof": True,
        "lit": False,
        "shop": None,
        "amenity": "",
        "name": "x",
        "landuse": "a;b",
        "members": [1, 2],
    }
    _, (tags,), _, ledger = read(write(tmp_path / "a.geojson", feature(properties)))
    assert tags == {
        "type": "multipolygon",
        "building:levels": "3",
        "height": "3.5",
        "roof": "yes",
        "lit": "no",
        "landuse": "a;b",
    }
    assert ledger.noted == {"properties that are no tags left out": 1}
    _, (tags,), _, _ = read(tmp_path / "a.geojson", dropped_keys=("*e*", "roof"))
    assert tags == {"lit": "no"}


def test_everything_dropped_or_mended_is_counted(tmp_path):
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    flat = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0], [0, 0]]]}
    short = {"type": "LineString", "coordinates": [[1, 1], [1, 1]]}
    high = {"type": "Point", "coordinates": [1, 2, 300]}
    mixed = {"type": "GeometryCollection", "geometries": [POINT, SQUARE]}
    tag = {"building": "yes"}
    path = write(
        tmp_path / "a.geojson.gz",
        feature(tag, id="way/1"),
        feature(tag, id="way/1", geometry=POINT),
        feature(tag),
        feature(None, id=5),
        feature(tag, id="way/2", geometry=None),
        feature({"name": "x"}, id="way/3"),
        feature(tag, id="way/4", geometry=bow),
        feature(tag, id="way/5", geometry=flat),
        feature(tag, id="way/6", geometry=short),
        feature(tag, id="node/1", geometry=high),
        feature(tag, id="node/2", geometry={"type": "Point", "coordinates": [460000, 5240000]}),
        feature(tag, id="node/3", geometry={"type": "Point", "coordinates": []}),
        feature(tag, id="node/4", geometry={"type": "Point", "coordinates": ["a", "b"]}),
        feature(tag, id="node/5", geometry={"type": "Circle"}),
        feature(tag, id="relation/1", geometry=mixed),
        feature(tag, id="relation/2", geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}),
        feature({"id": "way/8"}, geometry={"type": "Polygon", "coordinates": []}),
        crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
    )
    ids, _, shapes, ledger = read(path, chunk=3)
    assert ids == ["way/1", "way/4", "node/1", "relation/1"]
    assert shapes[1].area == pytest.approx(0.5)
    assert not shapes[2].has_z
    assert shapes[3].geom_type == "Polygon"
    assert ledger.found == {"way": 8, "feature": 2, "node": 5, "relation": 2}
    assert dict(ledger.dropped) == {
        ("way", "id occurs again"): 1,
        ("feature", "no OSM id"): 2,
        ("way", "no geometry"): 1,
        ("way", "no tags"): 1,
        ("way", "no tags left"): 1,
        ("way", "geometry without extent"): 2,
        ("node", "coordinates that are no degrees"): 1,
        ("node", "geometry without extent"): 1,
        ("node", "geometry that cannot be read"): 2,
        ("relation", "geometry that cannot be read"): 1,
    }
    assert ledger.noted == {"geometry not valid, mended": 1}
    assert ledger.examples["no OSM id"] == ["feature/2", "feature/3"]


@given(st.lists(st.tuples(st.sampled_from(["node", "way", "relation"]), st.integers(1, 20)), max_size=40), st.data())
def test_any_chunks_give_each_id_once_in_order(tmp_path_factory, names, data):
    path = tmp_path_factory.getbasetemp() / "chunks.geojson"
    write(path, *(feature({"osm_type": k, "osm_id": n, "shop": "yes"}) for k, n in names))
    chunk = data.draw(st.integers(1, 50))
    parts = list(read_geojson(path, ledger=Ledger(), chunk=chunk))
    assert [i for part in parts for i in part.ids] == list(dict.fromkeys(f"{k}/{n}" for k, n in names))
    assert all(0 < len(part) <= chunk for part in parts)


def test_what_is_no_geojson_is_named(tmp_path, monkeypatch):
    metres = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32645"}}
    for text, sentence in (
        ("{", "is no GeoJSON"),
        ("[]", "is no GeoJSON FeatureCollection"),
        ('{"features": [1]}', "is no GeoJSON FeatureCollection"),
        ('{"features": {}}', "is no GeoJSON FeatureCollection"),
        (json.dumps({"features": [], "crs": metres}), "is in urn:ogc:def:crs:EPSG::32645, but"),
    ):
        path = tmp_path / "bad.geojson"
        path.write_text(text)
        with pytest.raises(DataError, match=rf"bad\.geojson {sentence}"):
            read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is no GeoJSON"):
        read(path)
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "absent.geojson")
    assert read(write(tmp_path / "a.json", crs=None), chunk=1)[0] == []
    monkeypatch.setattr("graticule.data.osm.geojson.LARGEST", 2)
    with pytest.raises(DataError, match=r"0\.0 GB: GeoJSON is read at once"):
        read(path)


@pytest.mark.parametrize("name", ["urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"])
def test_degrees_by_any_name(tmp_path, name):
    crs = {"type": "name", "properties": {"name": name}}
    assert read(write(tmp_path / "a.geojson", feature({"shop": "yes"}, id="way/1"), crs=crs))[0] == ["way/1"]


def banepa():
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name the folder of real data")
    return Path(os.environ["GRATICULE_DATA"]) / "aerial"


def test_real_buildings_with_ids_and_roofs():
    ids, tags, shapes, ledger = read(banepa() / "banepa_osm_buildings.geojson")
    assert len(set(ids)) == len(ids) == 1466
    assert sum("roof:material" in t for t in tags) == 1316
    assert sum("roof:shape" in t for t in tags) == 1264
    assert all("building" in t for t in tags)
    assert not {key for t in tags for key in t} & {"osm_id", "osm_type", "label", "name", "source", "addr:city"}
    assert all(isinstance(value, str) and value for t in tags for value in t.values())
    assert {shape.geom_type for shape in shapes} == {"Polygon"}
    assert ledger.kept == {"way": 1466}


def test_real_regions_with_aerial_images():
    folder = banepa()
    source = osm(
        folder / "banepa_osm_buildings.geojson", cells="slippy:18", images=folder / "banepa_chips", image_pixels=16
    )
    rows = list(source.rows())
    assert len({name for row in rows for name in row.content.ids}) == 1466
    assert all(row.content.image.shape == (3, 16, 16) for row in rows)
    covered = np.mean([row.content.covered.mean() for row in rows])
    assert 0.2 < covered <= 1
