"""The page of regions and the numbers inside it, read back the way the browser reads them."""

import base64
import gzip
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import DataError
from graticule.geo.coords import great_circle_km, local_km

shapely = pytest.importorskip("shapely", reason="shapely is not installed")
from graticule.web.region_page import EntityLayer, entity_colours, three_colours, write_region_map  # noqa: E402

RNG = np.random.default_rng(0)


def squares(count, side_deg=0.005, lon=11.5, lat=48.1):
    """A row of squares from west to east."""
    left = lon + side_deg * np.arange(count)
    return list(shapely.box(left, lat, left + side_deg, lat + side_deg))


def entities(count=6):
    """Points, lines, areas, a multipolygon with a hole and a collection, in the first square."""
    kinds = [
        shapely.Point(11.501, 48.101),
        shapely.LineString([(11.501, 48.102), (11.504, 48.104)]),
        shapely.box(11.501, 48.101, 11.5012, 48.1012),
        shapely.MultiPolygon([shapely.box(11.5, 48.1, 11.504, 48.104) - shapely.box(11.501, 48.101, 11.503, 48.103)]),
        shapely.MultiPoint([(11.502, 48.103), (11.503, 48.103)]),
        shapely.GeometryCollection([shapely.Point(11.502, 48.102), shapely.MultiPoint([(11.503, 48.101)])]),
    ]
    ids = [f"way/{i}" for i in range(count)]
    rng = np.random.default_rng(1)
    return EntityLayer(
        ids, [kinds[i % 6] for i in range(count)], rng.normal(size=(count, 5)), [f"kind={i % 6}" for i in range(count)]
    )


def written(tmp_path, **changes):
    given = {
        "outlines": squares(9),
        "ids": [f"r{i}" for i in range(9)],
        "vectors": np.random.default_rng(2).normal(size=(9, 40)),
    }
    return write_region_map(tmp_path / "regions.html", **(given | changes))


def data_of(path):
    script = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S)
    return json.loads(script[1])


def unpacked(text, kind):
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), kind)


def shapes_of(entry, unit_m):
    """For each row its parts: (kind, (n, 2) metres)."""
    kinds, rows, lengths = (
        unpacked(entry[name], kind) for name, kind in (("kinds", "u1"), ("rows", "<u4"), ("lengths", "<u4"))
    )
    metres = unpacked(entry["steps"], "<i4").reshape(2, -1).T.cumsum(axis=0) * unit_m
    found = {}
    for kind, row, vertices in zip(kinds, rows, np.split(metres, lengths.cumsum()[:-1]), strict=True):
        found.setdefault(int(row), []).append((int(kind), vertices))
    return [found[row] for row in range(len(found))]


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def page_cosines(layer):
    codes = unpacked(layer["codes"], "i1").reshape(len(layer["means"]), layer["count"]).T
    return cosines(codes * np.array(layer["scales"]) + np.array(layer["means"]))


# ---- colours ---------------------------------------------------------------------------------------------------------


def naive_colours(vectors):
    """Standardise, clip, take the eigenvectors of the covariance matrix, stretch between the percentiles."""
    standard = np.clip((vectors - vectors.mean(0)) / vectors.std(0), -3, 3)
    variance, axes = np.linalg.eigh(np.cov(standard.T))
    colours = []
    for axis in axes[:, np.argsort(-variance)[:3]].T:
        score = standard @ (axis if axis[np.abs(axis).argmax()] > 0 else -axis)
        place = (np.arange(len(score)) + 0.5) / len(score)
        low, high = np.interp([0.02, 0.98], place, np.sort(score))
        colours.append(255 * np.clip((score - low) / (high - low), 0, 1))
    return np.array(colours).T


@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=15)
def test_colours_equal_the_definition_whatever_the_scale_of_a_column(seed, scale):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(80, 6)) @ rng.normal(size=(6, 6))
    expected = naive_colours(vectors)
    np.testing.assert_allclose(three_colours(vectors * [scale, 1, 1, 1, 1, 1]).astype(float), expected, atol=1.1)
    order = rng.permutation(80)
    np.testing.assert_allclose(three_colours(vectors[order]).astype(float), expected[order], atol=1.1)


def test_a_few_far_rows_do_not_take_the_colours():
    vectors = RNG.normal(size=(500, 3))
    spread = three_colours(vectors).std(axis=0)
    vectors[:2] = [[1e3, 0, 0], [0, -1e3, 1e3]]
    assert (three_colours(vectors).std(axis=0)[2] > 0.5 * spread).all()


@pytest.mark.parametrize("vectors", [np.ones((5, 4)), np.zeros((3, 2)), np.full((1, 7), 0.3), np.full((4, 2), 1e9)])
def test_what_all_vectors_share_is_grey(vectors):
    assert (three_colours(vectors) == 128).all()


def test_colours_of_no_rows_and_of_one_that_differs():
    assert three_colours(np.zeros((0, 5))).shape == (0, 3)
    rare = np.zeros((400, 2))
    rare[7, 0] = 1
    colours = three_colours(rare)
    assert colours.dtype == np.uint8
    assert colours[7].tolist() == [255, 128, 128]
    assert (np.delete(colours, 7, axis=0) == [0, 128, 128]).all()


@pytest.mark.parametrize("vectors", [[[np.nan, 1]], [1, 2], [["a"]]])
def test_colours_of_what_is_no_table_of_numbers_are_refused(vectors):
    with pytest.raises(DataError, match=r"numbers"):
        three_colours(vectors)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_few_entities_and_those_without_difference_have_colours(count):
    places_km = RNG.normal(size=(count, 2))
    assert (entity_colours(np.ones((count, 4)), places_km) == 128).all()
    colours = entity_colours(RNG.normal(size=(count, 4)), places_km)
    assert colours.shape == (count, 3)
    assert len(np.unique(colours, axis=0)) == count


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_holds_the_vectors_and_colours(tmp_path):
    vectors = np.random.default_rng(2).normal(size=(9, 40))
    layer = data_of(written(tmp_path, counts=range(9)))["regions"]
    np.testing.assert_allclose(page_cosines(layer), cosines(vectors), atol=0.01)
    np.testing.assert_array_equal(unpacked(layer["colours"], "u1").reshape(-1, 3), three_colours(vectors))
    assert layer["counts"] == list(range(9))
    assert layer["ids"] == [f"r{i}" for i in range(9)]
    assert 0 < sum(layer["colour_shares"]) <= 1


@pytest.mark.parametrize(("lon", "lat"), [(11.5, 48.1), (179.99, -17), (-180, 0), (20, 89.98), (0, -90)])
def test_the_page_holds_the_outlines_in_metres(tmp_path, lon, lat):
    outlines = squares(9, lon=lon, lat=lat)
    data = data_of(written(tmp_path, outlines=outlines))
    shapes = shapes_of(data["regions"]["shapes"], data["unit_m"])
    corners = np.array([shapely.get_coordinates(outline) for outline in outlines])
    centre = np.array([[(lon + 0.0225 + 180) % 360 - 180, lat + 0.0025]])
    for (part,), expected in zip(shapes, corners, strict=True):
        kind, metres = part
        assert kind == 2
        np.testing.assert_allclose(metres, 1000 * local_km(expected, centre), atol=0.5 if abs(lat) < 80 else 2)
        along = np.linalg.norm(np.diff(metres, axis=0), axis=1)
        np.testing.assert_allclose(along, 1000 * great_circle_km(expected[1:], expected[:-1]), atol=0.2)


def test_neighbours_share_their_corners(tmp_path):
    data = data_of(written(tmp_path))
    shapes = shapes_of(data["regions"]["shapes"], data["unit_m"])
    corners = [{tuple(vertex) for vertex in part[1].round(3).tolist()} for (part,) in shapes]
    assert all(len(a & b) == 2 for a, b in pairwise(corners))


def test_entities_are_ordered_from_large_areas_to_points_and_keep_their_rows(tmp_path):
    layer = entities()
    data = data_of(written(tmp_path, entities=layer))
    entry = data["entities"]
    assert entry["ids"] == ["way/3", "way/2", "way/1", "way/0", "way/4", "way/5"]
    order = [int(identity[4:]) for identity in entry["ids"]]
    labels = np.array(entry["labels"]["labels"])[unpacked(entry["labels"]["rows"], "<u4")]
    assert labels.tolist() == [layer.labels[i] for i in order]
    places = shapely.get_coordinates([layer.geometries[i].centroid for i in order])
    expected = entity_colours(layer.vectors[order], local_km(places, np.array([[11.5225, 48.1025]])))
    np.testing.assert_array_equal(unpacked(entry["colours"], "u1").reshape(-1, 3), expected)
    assert len(np.unique(expected, axis=0)) == 6
    assert entry["colour_shares"] == []
    np.testing.assert_allclose(page_cosines(entry), cosines(layer.vectors[order]), atol=0.02)
    shapes = shapes_of(entry["shapes"], data["unit_m"])
    assert [[kind for kind, _ in parts] for parts in shapes] == [[2, 2], [2], [1], [0], [0, 0], [0, 0]]


@pytest.mark.parametrize("count", [1, 2])
def test_one_region_and_one_entity_are_enough(tmp_path, count):
    some = entities()
    one = EntityLayer(some.ids[:1], some.geometries[:1], some.vectors[:1])
    data = data_of(
        written(tmp_path, outlines=squares(count), ids=["r"] * count, vectors=np.ones((count, 3)), entities=one)
    )
    np.testing.assert_allclose(page_cosines(data["regions"]), 1)
    assert data["entities"]["labels"] is None


def test_no_entities_are_no_layer(tmp_path):
    assert data_of(written(tmp_path))["entities"] is None
    assert data_of(written(tmp_path, entities=EntityLayer([], [], np.zeros((0, 3)))))["entities"] is None


def test_the_page_is_self_contained_and_the_same_each_time(tmp_path):
    path = written(tmp_path, entities=entities())
    text = path.read_text("utf-8")
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]|\bfetch\(|XMLHttpRequest|import\(|@import|url\(", text)
    assert re.findall(r"\b(?:src|href)\s*=\s*[\"']?([^\"'\s>]*)", text) == ["data:,"]
    assert "default-src 'none'" in text
    assert "{{" not in text
    assert written(tmp_path, entities=entities()).read_text("utf-8") == text


def test_text_cannot_break_out_of_the_page(tmp_path):
    evil = '</script><script>alert("{{title}}")</script>&\u2028'
    some = entities()
    layer = EntityLayer([evil] * 6, some.geometries, some.vectors, [evil] * 6)
    path = written(tmp_path, title=evil, about=evil, ids=[evil] * 9, entities=layer)
    assert path.read_text("utf-8").count("<script") == 2
    assert data_of(path)["regions"]["ids"] == [evil] * 9


def test_a_city_stays_below_eight_megabytes(tmp_path):
    """500 regions and 20,000 entities of noise, which does not compress."""
    rng = np.random.default_rng(0)
    centres = rng.uniform([11.4, 48.0], [11.7, 48.2], (20_000, 2))
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], -1) * rng.uniform(0.5, 1, (20_000, 12, 1)) * 3e-4
    layer = EntityLayer(
        [f"way/{i}" for i in rng.integers(10**8, 10**9, 20_000)],
        list(shapely.polygons(centres[:, None] + ring)),
        rng.normal(size=(20_000, 128)),
        [f"landuse={i}" for i in rng.integers(0, 200, 20_000)],
    )
    left, bottom = np.meshgrid(11.4 + 0.012 * np.arange(25), 48 + 0.01 * np.arange(20))
    outlines = list(shapely.box(left.ravel(), bottom.ravel(), left.ravel() + 0.012, bottom.ravel() + 0.01))
    vectors = rng.normal(size=(500, 768))
    path = written(tmp_path, outlines=outlines, ids=list(map(str, range(500))), vectors=vectors, entities=layer)
    assert 1e6 < path.stat().st_size < 8e6


def with_row(bad):
    vectors = RNG.normal(size=(9, 40))
    vectors[4] = bad
    return vectors


SOME = entities()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": with_row(np.nan)}, "region vectors must have a direction; row 4 has NaN"),
        ({"vectors": with_row(0)}, "row 4 has only zeros"),
        ({"vectors": np.ones((8, 3))}, "Each region needs one of vectors: 9 ids, 8 vectors"),
        ({"vectors": np.ones(9)}, r"region vectors must be an \(n, d\) array"),
        ({"counts": [1]}, "9 ids, 1 counts"),
        ({"outlines": squares(3)}, "9 ids, 3 geometries"),
        ({"outlines": [*squares(8), shapely.Point(1, 1)]}, "must be a polygon; that of 'r8' is a Point"),
        ({"outlines": [*squares(8), shapely.Polygon()]}, "region 'r8' is empty"),
        ({"outlines": [*squares(8), b"wkb"]}, "'r8' needs a shapely geometry, got b'wkb'"),
        ({"outlines": [], "ids": [], "vectors": np.zeros((0, 3))}, "at least one region"),
        ({"entities": EntityLayer(["a"], SOME.geometries, SOME.vectors)}, "Each entity needs .* 1 ids, 6 geometries"),
        ({"entities": EntityLayer(SOME.ids, SOME.geometries, SOME.vectors * 0)}, "entity vectors must have"),
        ({"entities": EntityLayer(SOME.ids, SOME.geometries, SOME.vectors, ["x"])}, "6 ids, 1 labels"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        written(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []
