"""Few labels: how many, from where, and drawn the same again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import DataError
from graticule.evaluation.few_shot import DRAWS, SHOTS, SPREAD_KM, clustered, spread
from graticule.evaluation.splits import few_shot_split, random_split
from graticule.evaluation.tasks import Task
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import great_circle_km, lonlat, uniform_places


def places(n, seed=0):
    """Half of them in one town."""
    town = np.array([179.95, 60.0]) + np.random.default_rng(seed).uniform(0, 0.1, (n // 2, 2))
    return np.concatenate([uniform_places(n - n // 2, seed=seed), lonlat(lon=town[:, 0], lat=town[:, 1])])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 9999), st.integers(1, 120), st.sampled_from(list(DRAWS)))
def test_as_many_different_rows_as_asked_for(seed, shots, name):
    points, rows = places(240, seed), np.arange(240)[::2]
    found = DRAWS[name](points, rows, shots, np.random.default_rng(seed))
    assert len(found) == len(set(found)) == shots
    assert set(found) <= set(rows)
    np.testing.assert_array_equal(found, np.sort(found))
    np.testing.assert_array_equal(found, DRAWS[name](points, rows, shots, np.random.default_rng(seed)))


@pytest.mark.parametrize("shots", [3, 10, 100])
def test_spread_labels_lie_in_different_cells(shots):
    points, rows = places(2000), np.arange(2000)
    found = spread(points, rows, shots, np.random.default_rng(0))
    size_km = next(s for s in SPREAD_KM if len(np.unique(equal_area_cells(points, s))) >= shots)
    assert len(np.unique(equal_area_cells(points[found], size_km))) == shots
    assert (found >= 1000).sum() <= max(1, shots // 10)  # the town has half of the rows


def test_cells_take_turns_where_they_are_too_few():
    points = np.repeat(uniform_places(4, seed=2), [100, 50, 6, 1], axis=0)
    found = spread(points, np.arange(157), 14, np.random.default_rng(0))
    counts = np.bincount(np.repeat(np.arange(4), [100, 50, 6, 1])[found], minlength=4)
    assert counts[3] == 1
    assert sorted(counts[:3]) == [4, 4, 5]


def test_clustered_labels_are_the_nearest_of_a_centre():
    points, rows = uniform_places(900, seed=3), np.arange(0, 900, 2)
    found = clustered(points, rows, 60, np.random.default_rng(5))
    centres = rows[np.random.default_rng(5).choice(len(rows), 3, replace=False)]
    free, expected = set(rows), set()
    for centre in centres:
        near = sorted(free, key=lambda r: great_circle_km(points[r], points[centre]))[:20]
        expected |= set(near)
        free -= set(near)
    assert set(found) == expected
    away = great_circle_km(points[found, None], points[None, centres]).min(1)
    assert away.max() < np.median(great_circle_km(points[:, None], points[None, centres]).min(1))


def test_clusters_cross_the_antimeridian_and_the_pole():
    for place in ((180.0, 0.0), (0.0, 90.0)):
        ring = np.random.default_rng(0).uniform(-1, 1, (50, 2))
        near = lonlat(lon=place[0] + ring[:, 0] * (180 if place[1] else 1), lat=place[1] - np.abs(ring[:, 1]))
        points = np.concatenate([near, lonlat(lon=[90.0] * 50, lat=np.linspace(-10, 10, 50))])
        found = clustered(points, np.arange(50), 30, np.random.default_rng(0))
        assert great_circle_km(points[found, None], points[None, found]).max() < 500


def test_the_split_tests_what_the_random_split_tests():
    points = uniform_places(3000, seed=1)
    task = Task("t", points, points[:, 1], "regression")
    ((train, test),) = random_split(task)
    for draw in DRAWS.values():
        for shots in SHOTS:
            folds = few_shot_split(task, shots, draw)
            assert [len(rows) for rows, _ in folds] == [shots] * 5
            assert len({tuple(rows) for rows, _ in folds}) == 5
            assert all(set(rows) <= set(train) for rows, _ in folds)
            assert all((tested == test).all() for _, tested in folds)
    assert (few_shot_split(task, 10)[0][0] != few_shot_split(task, 10, seed=1)[0][0]).any()
    with pytest.raises(DataError, match="Task t has 60 training rows under the random split, fewer than 100"):
        few_shot_split(task.take(np.arange(100)), 100)
    kinds = Task("k", points, (points[:, 1] > 0).astype(int), "classification", ("south", "north"))
    assert len(few_shot_split(kinds, 1)) == 5  # one label is of one class, and that is the question
