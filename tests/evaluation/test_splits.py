"""Splits leak nothing: disjoint rows, whole blocks, honest buffers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import DataError, SettingError
from graticule.evaluation.splits import (
    balanced_folds,
    block_split,
    cell_split,
    equal_area_block_split,
    few_shot_split,
    random_split,
    region_split,
    without_buffer,
)
from graticule.evaluation.tasks import Task
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import great_circle_km, lonlat, uniform_places


def task_of(points, **folds):
    return Task("t", points, np.zeros(len(points)), "regression", folds={k: np.asarray(v) for k, v in folds.items()})


def assert_partition(folds, n):
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(n))
    for train, test in folds:
        assert not set(train) & set(test)


def test_random_split_uses_the_column_else_a_seeded_draw():
    points = uniform_places(100)
    ((train, test),) = random_split(task_of(points, fold_random=np.arange(100) % 10))
    assert set(train % 10) == set(range(6))
    assert set(test % 10) == {6, 7, 8, 9}
    ((train, test),) = random_split(task_of(points))
    assert (len(train), len(test)) == (60, 40)
    assert not set(train) & set(test)
    np.testing.assert_array_equal(train, random_split(task_of(points))[0][0])
    assert (train != random_split(task_of(points), seed=1)[0][0]).any()


def test_block_split_uses_the_column_and_skips_folds_that_do_not_occur():
    fold = np.array([0, 2, 2, 0, 2])
    folds = block_split(task_of(uniform_places(5), fold_block10=fold))
    assert [list(test) for _, test in folds] == [[0, 3], [1, 2, 4]]
    with pytest.raises(DataError, match="0 training"):
        block_split(task_of(uniform_places(5), fold_block10=np.zeros(5, dtype=int)))


def test_own_blocks_stay_whole_and_balanced():
    points = uniform_places(3000, seed=1)
    folds = block_split(task_of(points))
    assert len(folds) == 5
    assert_partition(folds, 3000)
    block = [tuple(b) for b in np.floor(points / 10).astype(int)]
    for train, test in folds:
        assert not {block[i] for i in train} & {block[i] for i in test}
        assert abs(len(test) - 600) < 30


def test_a_city_gets_smaller_blocks():
    points = uniform_places(400) * [0.001, 0.002] + [11.5, 48.1]
    folds = block_split(task_of(points))
    assert len(folds) == 5
    assert_partition(folds, 400)
    with pytest.raises(SettingError, match="smaller blocks"):
        block_split(task_of(np.repeat([[11.5, 48.1]], 30, axis=0)))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(300, 4000), st.integers(2, 6), st.sampled_from([0.0, 1.0, 150.0, 700.0]))
def test_no_training_row_lies_within_the_buffer(seed, size_km, n_folds, buffer_km):
    points = uniform_places(250, seed=seed)
    cells = equal_area_cells(points, size_km)
    try:
        folds = equal_area_block_split(points, size_km, n_folds, seed, buffer_km)
    except DataError:  # the buffer left nothing to train on
        assert buffer_km > 0
        return
    assert_partition(folds, 250)
    for train, test in folds:
        outside = np.setdiff1d(np.arange(250), test)
        assert not set(cells[outside]) & set(cells[test])
        nearest = great_circle_km(points[outside, None], points[None, test]).min(1)
        clear = np.abs(nearest - buffer_km) > 1e-6
        np.testing.assert_array_equal(np.isin(outside, train)[clear], ((nearest > buffer_km) | (not buffer_km))[clear])


def test_the_buffer_crosses_the_antimeridian_and_the_pole():
    points = lonlat(lon=[179.9, -179.9, 170.0, 0.0, 180.0], lat=[0.0, 0.0, 0.0, 89.9, 89.9])
    np.testing.assert_array_equal(without_buffer(points, np.array([1, 2]), np.array([0]), 50), [2])
    np.testing.assert_array_equal(without_buffer(points, np.array([2, 4]), np.array([3]), 50), [2])


@given(st.lists(st.integers(0, 30), min_size=5, max_size=200), st.integers(2, 5), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_balanced_folds(blocks, folds, seed):
    blocks = np.array(blocks)
    if len(np.unique(blocks)) < folds:
        with pytest.raises(SettingError, match="smaller blocks"):
            balanced_folds(blocks, folds, seed)
        return
    fold = balanced_folds(blocks, folds, seed)
    assert all(len(set(fold[blocks == b])) == 1 for b in np.unique(blocks))
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.min() > 0
    assert sizes.max() - sizes.min() <= np.bincount(blocks).max()
    np.testing.assert_array_equal(fold, balanced_folds(blocks, folds, seed))


def test_regions_and_few_labels_and_cells():
    points = uniform_places(300)
    continent = np.arange(300) % 4 - 1
    folds = region_split(task_of(points, continent=continent))
    assert [set(continent[test]) for _, test in folds] == [{0}, {1}, {2}]
    assert all(-1 in continent[train] for train, _ in folds)
    with pytest.raises(DataError, match="continent"):
        region_split(task_of(points))
    few = few_shot_split(task_of(points), rows=10, repeats=3)
    assert [len(train) for train, _ in few] == [10, 10, 10]
    assert not set(few[0][0]) & set(few[0][1])
    assert (few[0][0] != few[1][0]).any()
    assert len(cell_split(task_of(points), size_km=2000, buffer_km=0)) == 5
    with pytest.raises(SettingError, match="negative"):
        equal_area_block_split(points, 500, buffer_km=-1)
