"""The page and the numbers inside it, read back the way the browser reads them."""

import base64
import gzip
import html
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import CoordinateError, DataError, SettingError
from graticule.geo.coords import fibonacci_lattice, great_circle_km, unit_sphere
from graticule.web.page import (
    area_weights,
    cosine_error,
    nearest_rows,
    principal_components,
    quantise,
    world_lattice,
    write_map,
)


def smooth(places, dimensions=24, seed=0):
    """A random smooth embedding with a mean far from zero."""
    rng = np.random.default_rng(seed)
    phases = unit_sphere(places) @ rng.normal(scale=2, size=(3, dimensions)) + rng.uniform(0, 6, dimensions)
    return np.cos(phases) + 0.5


def written(tmp_path, **changes):
    places = world_lattice(10)
    settings = {"lonlat": places, "vectors": smooth(places), "title": "A map"} | changes
    return write_map(tmp_path / "map.html", **settings)


def data_of(path):
    script = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.S)
    return json.loads(script[1])


def unpacked(text, kind):
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), kind)


def scores_of(data):
    """Scores and cosines as the script computes them."""
    codes = unpacked(data["codes"], "i1").reshape(len(data["means"]), data["places"]["count"]).T
    return codes * np.array(data["scales"]) + np.array(data["means"])


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def test_questions_are_cosines_with_every_place(tmp_path):
    places = world_lattice(10)
    vectors, asked = smooth(places), np.random.default_rng(3).normal(size=24) * 7
    data = data_of(written(tmp_path, questions={"hills": asked, "the opposite": -asked}))
    expected = [
        sum(a * b for a, b in zip(place, asked, strict=True)) / np.linalg.norm(place) / np.linalg.norm(asked)
        for place in vectors
    ]
    assert [one["name"] for one in data["questions"]] == ["hills", "the opposite"]
    hills, opposite = (unpacked(one["similarity"], "<i2") / 32767 for one in data["questions"])
    np.testing.assert_allclose(hills, expected, atol=2e-5)
    np.testing.assert_allclose(opposite, -hills, atol=1e-9)
    assert data_of(written(tmp_path))["questions"] == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [(np.zeros(24), "only zeros"), (np.ones(23), "24 numbers, as a place has, got 23"), (np.full(24, np.nan), "NaN")],
)
def test_questions_without_direction_or_of_another_width_are_refused(tmp_path, asked, said):
    with pytest.raises(DataError, match=said):
        written(tmp_path, questions={"hills": asked})


def test_the_lattice_is_cell_centres_row_by_row_from_the_north_west():
    places = world_lattice(1)
    assert places.shape == (64_800, 2)
    assert places[0].tolist() == [-179.5, 89.5]
    assert places[1].tolist() == [-178.5, 89.5]
    assert places[360].tolist() == [-179.5, 88.5]
    assert places[-1].tolist() == [179.5, -89.5]
    assert len(np.unique(places, axis=0)) == 64_800


def test_the_lattice_covers_the_sphere():
    """No place on Earth is farther from the lattice than half the diagonal of a cell at the equator."""
    places, anywhere = world_lattice(5), fibonacci_lattice(500)
    nearest = great_circle_km(anywhere[:, None], places[None]).min(axis=1)
    assert nearest.max() <= 2.5 * np.sqrt(2) * 111.2


@pytest.mark.parametrize("step", [0, -1, 7, 181, 0.7])
def test_a_step_that_does_not_divide_180_is_refused(step):
    with pytest.raises(SettingError, match="divide 180"):
        world_lattice(step)


@given(st.sampled_from([2, 3, 4, 4.5, 7.5, 10]))
@settings(deadline=None, max_examples=6)
def test_a_regular_grid_is_its_own_raster(step):
    places = world_lattice(step)
    shuffled = np.random.default_rng(0).permutation(len(places))
    raster = nearest_rows(places[shuffled])
    assert (shuffled[raster.ravel()] == np.arange(len(places))).all()


def test_the_raster_of_other_lattices_holds_the_nearest_place():
    """Naive oracle: all distances."""
    places = fibonacci_lattice(700)
    raster = nearest_rows(places)
    rows, columns = raster.shape
    lon, lat = np.meshgrid((np.arange(columns) + 0.5) * 360 / columns - 180, 90 - (np.arange(rows) + 0.5) * 180 / rows)
    centres = np.column_stack([lon.ravel(), lat.ravel()])[::13]
    distances = great_circle_km(centres[:, None], places[None])
    ours = distances[np.arange(len(centres)), raster.ravel()[::13]]
    np.testing.assert_allclose(ours, distances.min(axis=1), atol=1e-3)


def test_the_raster_is_blank_where_no_place_is_near():
    places = world_lattice(3)
    north = places[places[:, 1] > 0]
    raster = nearest_rows(north)
    assert (raster[30:] == len(north)).all()
    assert (raster[:30] < len(north)).all()
    scattered = fibonacci_lattice(2000)
    scattered = scattered[scattered[:, 1] > 0]
    assert (nearest_rows(scattered)[-40:] == len(scattered)).all()


@pytest.mark.parametrize("places", [world_lattice(5), fibonacci_lattice(3000)], ids=["grid", "fibonacci"])
def test_weights_are_areas(places):
    """A weighted mean over any lattice is the integral over the sphere: 1/3 for the square of any axis."""
    weights = area_weights(nearest_rows(places), len(places))
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights @ unit_sphere(places) ** 2, np.full(3, 1 / 3), atol=5e-3)
    np.testing.assert_allclose(weights @ unit_sphere(places), np.zeros(3), atol=5e-3)


def test_weights_of_a_grid_are_cosines_of_latitude():
    places = world_lattice(10)
    cosine = np.cos(np.radians(places[:, 1]))
    np.testing.assert_allclose(area_weights(nearest_rows(places), len(places)), cosine / cosine.sum())


def test_principal_components_equal_a_repeated_sample():
    """Whole-number weights are copies: the weighted components are those of numpy's SVD of the copied rows."""
    rng = np.random.default_rng(3)
    vectors, copies = rng.normal(size=(40, 6)) * [5, 4, 3, 2, 1, 0.5], rng.integers(1, 6, 40)
    axes, shares = principal_components(vectors, copies / copies.sum(), 4)
    repeated = np.repeat(vectors, copies, axis=0)
    _, singular, expected = np.linalg.svd(repeated - repeated.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs((axes * expected[:4].T).sum(axis=0)), np.ones(4), rtol=1e-9)
    np.testing.assert_allclose(shares, (singular**2 / (singular**2).sum())[:4])
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-12)


def test_signs_and_order_do_not_depend_on_the_order_of_rows():
    places = world_lattice(6)
    vectors, shuffled = smooth(places), np.random.default_rng(1).permutation(len(places))
    weights = area_weights(nearest_rows(places), len(places))
    first, _ = principal_components(vectors, weights, 5)
    again, _ = principal_components(vectors[shuffled], weights[shuffled], 5)
    np.testing.assert_allclose(first, again, atol=1e-8)
    assert (np.take_along_axis(first, np.abs(first).argmax(axis=0)[None], axis=0) > 0).all()


def test_poles_do_not_dominate():
    """A signal of the polar rows leads without weights, and does not with them."""
    places = world_lattice(6)
    lon, lat = np.radians(places).T
    polar = np.where(np.abs(lat) > np.radians(66), np.sign(np.sin(9 * lon)), 0)
    vectors = np.column_stack([polar, 0.6 * np.sin(lon)])
    weights = area_weights(nearest_rows(places), len(places))
    equal = np.full(len(places), 1 / len(places))
    assert principal_components(vectors, equal, 1)[0][0, 0] > 0.99
    assert principal_components(vectors, weights, 1)[0][1, 0] > 0.99


@given(seed=st.integers(0, 99), dimensions=st.integers(8, 64), offset=st.floats(-3, 3))
@settings(deadline=None, max_examples=15)
def test_cosines_survive_eight_bits(seed, dimensions, offset):
    places = world_lattice(15)
    vectors = smooth(places, dimensions, seed) + offset
    weights = area_weights(nearest_rows(places), len(places))
    scores = quantise(vectors, weights)
    assert np.abs(cosines(vectors) - cosines(scores.values())).max() < 0.01
    assert cosine_error(vectors, scores) < 0.01


def test_more_dimensions_than_components_keep_the_mean():
    """200 dimensions of rank 30 around a far mean: 64 axes hold all of it."""
    places, rng = world_lattice(10), np.random.default_rng(5)
    vectors = smooth(places, 30) @ rng.normal(size=(30, 200)) + 40 * rng.normal(size=200)
    scores = quantise(vectors, area_weights(nearest_rows(places), len(places)))
    assert scores.codes.shape[1] <= 64
    assert np.abs(cosines(vectors) - cosines(scores.values())).max() < 0.01


def test_what_is_left_out_is_told():
    places = world_lattice(10)
    noise = np.random.default_rng(6).normal(size=(len(places), 200))
    scores = quantise(noise, area_weights(nearest_rows(places), len(places)))
    assert scores.codes.shape[1] == 64
    assert scores.shares.sum() < 0.7
    assert cosine_error(noise, scores) > 0.05


def test_the_page_holds_the_vectors(tmp_path):
    places = world_lattice(10)
    vectors = smooth(places, 100)
    data = data_of(written(tmp_path, vectors=vectors))
    assert np.abs(cosines(vectors) - cosines(scores_of(data))).max() < 0.01
    np.testing.assert_array_equal(unpacked(data["places"]["centidegrees"], "<i2").reshape(-1, 2) / 100, places)
    raster = unpacked(data["raster"]["cells"], "<u2").reshape(data["raster"]["rows"], data["raster"]["columns"])
    np.testing.assert_array_equal(raster.ravel(), np.arange(len(places)))
    assert 1 - 1e-4 < sum(data["shares"]) <= 1 + 1e-6
    assert data["dimensions"] == 100


def test_the_page_is_self_contained(tmp_path):
    text = written(tmp_path).read_text("utf-8")
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]|\bfetch\(|XMLHttpRequest|import\(|@import|url\(", text)
    sources = re.findall(r"\b(?:src|href)\s*=\s*[\"']?([^\"'\s>]*)", text)
    assert sources == ["data:,"]
    assert "default-src 'none'" in text
    assert "{{" not in text
    assert text.isascii() or '<meta charset="utf-8">' in text[:100]


def test_the_default_lattice_makes_a_page_below_six_megabytes(tmp_path):
    """Noise does not compress: no embedding of these places is larger."""
    places = world_lattice()
    noise = np.random.default_rng(0).normal(size=(len(places), 64)).astype(np.float32)
    path = write_map(tmp_path / "big.html", lonlat=places, vectors=noise, title="Noise")
    assert 4e6 < path.stat().st_size < 6e6


def test_the_same_input_writes_the_same_bytes(tmp_path):
    assert written(tmp_path).read_bytes() == written(tmp_path).read_bytes()


def test_text_cannot_break_out_of_the_page(tmp_path):
    evil = '</script><script>alert("{{title}}")</script>&\u2028'
    places = world_lattice(10)
    overlay = {evil: ([[0, 0], [1, 2]], [evil, "b"])}
    path = written(tmp_path, title=evil, about=evil, names=[evil] * len(places), points=overlay)
    text, data = path.read_text("utf-8"), data_of(path)
    assert text.count("<script") == 2
    assert html.escape(evil) in text
    assert data["names"]["labels"] == [evil]
    assert data["points"] == [{"name": evil, "lonlat": [[0, 0], [1, 2]], "names": [evil, "b"]}]


def test_names_are_kept_in_order(tmp_path):
    names = [f"place {i % 7}" for i in range(len(world_lattice(10)))]
    entry = data_of(written(tmp_path, names=names))["names"]
    assert np.array(entry["labels"])[unpacked(entry["rows"], "<u4")].tolist() == names
    assert data_of(written(tmp_path))["names"] is None


def test_three_places_in_two_dimensions_are_enough(tmp_path):
    path = write_map(
        tmp_path / "a" / "b.html", lonlat=[[0, 0], [90, 0], [0, 80]], vectors=np.eye(3)[:, :2] + 1, title=""
    )
    assert path == tmp_path / "a" / "b.html"
    assert len(data_of(path)["shares"]) <= 2


def with_row(bad):
    vectors = smooth(world_lattice(10))
    vectors[17] = bad
    return vectors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": with_row(np.nan)}, r"row 17 has NaN or infinity \(1 such rows\)"),
        ({"vectors": with_row(-np.inf)}, "row 17 has NaN"),
        ({"vectors": with_row(0)}, "row 17 has only zeros"),
        ({"vectors": smooth(world_lattice(10))[:-1]}, "648 places, 647 vectors"),
        ({"vectors": np.ones(648)}, r"shape \(648,\)"),
        ({"vectors": np.ones((648, 0))}, r"shape \(648, 0\)"),
        ({"vectors": [["a"]] * 648}, "array of numbers"),
        ({"vectors": np.ones((648, 3))}, "same direction"),
        ({"names": ["a", "b"]}, "648 places, 2 names"),
        ({"lonlat": np.zeros(648)}, r"\(n, 2\)"),
        ({"lonlat": [[0, 0], [1, 1]], "vectors": np.eye(2)}, "at least 3 places, got 2"),
        ({"points": {"Ports": ([[0, 0]], ["a", "b"])}}, r"points\['Ports'\] .* 1 places, 2 names"),
        ({"points": {"Ports": ([1, 2, 3], None)}}, r"points\['Ports'\] must be an \(n, 2\)"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        written(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


def test_swapped_coordinates_are_recognised(tmp_path):
    with pytest.raises(CoordinateError, match="swapped"):
        written(tmp_path, lonlat=world_lattice(10)[:, ::-1] * [1, 1])
