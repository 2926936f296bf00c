"""The search of nearest vectors against all distances."""

import numpy as np
import pytest

from graticule.errors import DataError
from graticule.evaluation.information import neighbours as room
from graticule.evaluation.information.neighbours import nearest


def naive(vectors, rows, count):
    distances = np.empty((len(rows), count))
    for i, row in enumerate(rows):
        away = [np.linalg.norm(vectors[row].astype(float) - v) for j, v in enumerate(vectors) if j != row]
        distances[i] = np.sort(away)[:count]
    return distances


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.uint8])
@pytest.mark.parametrize(("n", "d", "count"), [(60, 3, 5), (60, 40, 5), (6, 40, 5), (700, 20, 3), (2000, 24, 4)])
def test_distances_are_those_of_naive_loops(n, d, count, dtype):
    vectors = (np.random.default_rng(0).normal(size=(n, d)) * 30 + 90).astype(dtype)
    rows = np.random.default_rng(1).permutation(n)[:30]
    distances, found = nearest(vectors, rows, count)
    np.testing.assert_allclose(distances, naive(vectors, rows, count), rtol=1e-6)
    assert not (found == rows[:, None]).any()
    again = np.linalg.norm(vectors[rows, None].astype(float) - vectors[found], axis=2)
    np.testing.assert_allclose(again, distances, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_neighbours_hidden_by_single_precision_are_found(scale):
    """Clusters far apart: inside, squared distances are 1e-10 of the squared lengths."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(4, 32)), 400, axis=0) + 1e-5 * rng.normal(size=(1600, 32))
    vectors *= scale
    rows = np.arange(0, 1600, 60)
    np.testing.assert_allclose(nearest(vectors, rows, 6)[0], naive(vectors, rows, 6), rtol=1e-9)


def test_single_precision_alone_would_miss_them(monkeypatch):
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(4, 32)), 400, axis=0) + 1e-5 * rng.normal(size=(1600, 32))
    centred = room._scaled(vectors, vectors.mean(0), np.float32)
    distances, _, sure = room._block(vectors, centred, np.arange(50), 6)
    assert not sure.any()
    assert (distances > naive(vectors, np.arange(50), 6) * 1.01).any()


def test_blocks_do_not_matter(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(300, 30)).astype(np.float32)
    whole = nearest(vectors, np.arange(300), 7)
    monkeypatch.setattr(room, "BLOCK_VALUES", 1000)
    for a, b in zip(whole, nearest(vectors, np.arange(300), 7), strict=True):
        np.testing.assert_allclose(a, b)


@pytest.mark.parametrize("d", [2, 40])
def test_equal_vectors_and_no_rows(d):
    vectors = np.ones((50, d))
    distances, found = nearest(vectors, np.arange(50), 4)
    np.testing.assert_array_equal(distances, 0)
    assert not (found == np.arange(50)[:, None]).any()
    assert nearest(vectors, np.arange(0), 4)[0].shape == (0, 4)


def test_the_smallest_of_every_row():
    values = np.random.default_rng(0).integers(0, 400, (20, 1003)).astype(np.float32)
    for count in (1, 5, 30, 62, 1003):
        found = np.take_along_axis(values, room._smallest(values, count), 1)
        np.testing.assert_array_equal(np.sort(found), np.sort(values)[:, :count])


def test_bad_input():
    with pytest.raises(DataError, match="at least 6 vectors, got 5"):
        nearest(np.ones((5, 3)), np.arange(5), 5)
    with pytest.raises(DataError, match="finite"):
        nearest(np.full((5, 3), np.nan), np.arange(5), 2)
