"""Which rows train and which test: at random, by blocks of space, by continent or country, with few labels.

Every split is a list of (train rows, test rows). A random split rewards interpolation between neighbours; blocks ask
what is known about places far from any label, continents and countries what is known where no label ever came from,
few-shot splits how many labels are needed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, SettingError, need, unknown
from graticule.evaluation.countries import countries
from graticule.evaluation.few_shot import DRAWS, REPEATS, SHOTS, Draw, spread
from graticule.evaluation.tasks import Task
from graticule.geo.cells import equal_area_cells, fitting_cells
from graticule.geo.coords import Points, chord, unit_sphere

logger = logging.getLogger(__name__)

Rows = NDArray[np.int64]
Folds = list[tuple[Rows, Rows]]
Split = Callable[[Task], Folds]

TRAIN_FOLDS = 6  # of the ten numbers of fold_random
BLOCK_DEG = 10.0
CHECKER_DEG = 5.0
CELL_KM = (500, 250, 100, 50, 25, 10)
BLOCKS_A_FOLD = 4  # at least, on average; smaller blocks otherwise
LEAST_ROWS = 25  # of a continent or country that is left out


def random_split(task: Task, seed: int = 0) -> Folds:
    """Folds 0-5 of `fold_random` train and 6-9 test; without that column a seeded 60 : 40 draw."""
    fold = task.folds.get("fold_random")
    if fold is None:
        fold = np.random.default_rng(seed).permutation(np.arange(len(task)) % 10)
    return checked(task, [(np.flatnonzero(fold < TRAIN_FOLDS), np.flatnonzero(fold >= TRAIN_FOLDS))])


def block_split(task: Task, folds: int = 5, seed: int = 0) -> Folds:
    """Leave out one fold of 10-degree blocks at a time: the folds of `fold_block10`, or `folds` folds made here.

    A table that is too local for 10 degrees (fewer than four blocks a fold) gets blocks of half the size
    until it is not. `fold_block10` is always taken as it is, so that figures stay comparable.
    """
    if "fold_block10" in task.folds:
        return checked(task, _leave_one_out(task.folds["fold_block10"]))
    blocks = _degree_blocks(task, BLOCK_DEG, BLOCKS_A_FOLD * folds)
    return checked(task, _leave_one_out(balanced_folds(_numbers(blocks), folds, seed)))


def cell_split(
    task: Task, size_km: float | None = None, folds: int = 5, seed: int = 0, buffer_km: float | None = None
) -> Folds:
    """Leave out one fold of equal-area cells at a time, with a buffer around them: `equal_area_block_split`.

    Without `size_km` the largest of `CELL_KM` that gives four cells a fold, else the smallest; without `buffer_km` a
    fifth of the size.
    """
    size_km = size_km or _cell_size_km(task, BLOCKS_A_FOLD * folds)
    buffer_km = size_km / 5 if buffer_km is None else buffer_km
    return checked(task, equal_area_block_split(task.points, size_km, folds, seed, buffer_km))


def continent_split(task: Task, least: int = LEAST_ROWS) -> Folds:
    """Leave out one continent of `least` rows or more at a time; all other rows, and those at sea, train always."""
    if "continent" not in task.folds:
        raise DataError(f"Task {task.name} has no column continent, so no continent can be left out.")
    return checked(task, _leave_one_out(_frequent(task, task.folds["continent"], "continent", least)))


def country_split(task: Task, least: int = LEAST_ROWS) -> Folds:
    """Leave out one country of `least` rows or more at a time; all other rows train always.

    The country of a place is that of the nearest city (see `countries`), so borders are approximate.
    """
    country = _numbers(countries(task.points))
    return checked(task, _leave_one_out(_frequent(task, country, "country", least)))


def checker_split(task: Task) -> Folds:
    """Train on the black fields of a checkerboard and test on the white, and the reverse.

    Fields are the column `checker5`, which has 5 degrees, or the same made here, smaller for a local table (as in
    `block_split`).
    """
    colour = task.folds.get("checker5")
    if colour is None:
        colour = _degree_blocks(task, CHECKER_DEG, BLOCKS_A_FOLD * 2).sum(1) % 2
    return checked(task, _leave_one_out(colour))


def given_split(task: Task) -> Folds:
    """The split that came with the table: what it calls train and val trains, what it calls test tests."""
    if "given" not in task.folds:
        raise DataError(f"Task {task.name} brought no split of its own (a column split of train, val and test).")
    side = task.folds["given"]
    return checked(task, [(np.flatnonzero(side == 0), np.flatnonzero(side == 1))])


def few_shot_split(task: Task, shots: int = 100, draw: Draw = spread, repeats: int = REPEATS, seed: int = 0) -> Folds:
    """The random split with only `shots` training rows in all, drawn `repeats` times.

    Labels so few may all be of one class: that is part of the question, and not refused here.
    """
    ((train, test),) = random_split(task, seed)
    if len(train) < shots:
        raise DataError(f"Task {task.name} has {len(train)} training rows under the random split, fewer than {shots}.")
    return [(draw(task.points, train, shots, np.random.default_rng((seed, k))), test) for k in range(repeats)]


CURVES: dict[str, dict[str, Split]] = {
    name: {f"{name} {shots}": partial(few_shot_split, shots=shots, draw=draw) for shots in SHOTS}
    for name, draw in DRAWS.items()
}
SPLITS: dict[str, Split] = {
    "random": random_split,
    "blocks": block_split,
    "cells": cell_split,
    "continents": continent_split,
    "countries": country_split,
    "checker": checker_split,
    "given": given_split,
    **{name: split for curve in CURVES.values() for name, split in curve.items()},
}


def expand(names: Sequence[str]) -> dict[str, Split]:
    """Splits by name; "few-shot" and "few-shot clustered" stand for curves: "few-shot 1" to "few-shot 1000".

    Raises SettingError for unknown names, and for none.
    """
    if not names:
        raise SettingError(f"At least one split is needed: {', '.join([*SPLITS, *CURVES])}.")
    chosen: dict[str, Split] = {}
    for name in names:
        if name not in SPLITS and name not in CURVES:
            raise unknown("split", name, [*SPLITS, *CURVES])
        chosen |= CURVES.get(name) or {name: SPLITS[name]}
    return chosen


def equal_area_block_split(
    points: Points, size_km: float, folds: int = 5, seed: int = 0, buffer_km: float = 0
) -> Folds:
    """Leave out one fold of equal-area cells at a time; training rows within `buffer_km` of a test row are dropped.

    points (n, 2) lon/lat degrees. Cells have `size_km` squared; whole cells go to the folds, evenly by rows.
    """
    if buffer_km < 0:
        raise SettingError(f"buffer_km must not be negative, got {buffer_km:g}.")
    pairs = _leave_one_out(balanced_folds(equal_area_cells(points, size_km), folds, seed))
    return demand_sides("split", [(without_buffer(points, train, test, buffer_km), test) for train, test in pairs])


def without_buffer(points: Points, train: Rows, test: Rows, buffer_km: float) -> Rows:
    """The training rows farther than `buffer_km` (great circle) from every test row."""
    if not buffer_km:
        return train
    xyz = unit_sphere(points)
    nearest, _ = need("scipy.spatial", "train").cKDTree(xyz[test]).query(xyz[train])
    return np.asarray(train[nearest > chord(buffer_km)])


def balanced_folds(blocks: Rows, folds: int, seed: int = 0) -> Rows:
    """(n,) block numbers -> (n,) fold numbers: whole blocks, the largest first, each to the smallest fold so far.

    Blocks of the same size are taken in a seeded random order. DataError for fewer blocks than folds.
    """
    if folds < 2:
        raise SettingError(f"At least 2 folds are needed, got {folds}.")
    names, block, size = np.unique(blocks, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise DataError(f"{folds} folds need as many blocks; the {len(blocks)} places lie in {len(names)}.")
    order = np.random.default_rng(seed).permutation(len(names))
    fold, filled = np.empty(len(names), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for b in order[np.argsort(-size[order], kind="stable")]:
        fold[b] = filled.argmin()
        filled[fold[b]] += size[b]
    return fold[block]


def demand_sides(where: str, folds: Folds) -> Folds:
    """The same folds, or DataError when there are none or one has no training or no test rows."""
    if not folds:
        raise DataError(f"{where}: no fold holds any rows.")
    for k, (train, test) in enumerate(folds):
        if not len(train) or not len(test):
            raise DataError(
                f"{where}: fold {k} has {len(train)} training and {len(test)} test rows; both need at least one."
            )
    return folds


def checked(task: Task, folds: Folds) -> Folds:
    """The same folds, or DataError: a side without rows, or training labels that are all the same."""
    for k, (train, _) in enumerate(demand_sides(f"Task {task.name}", folds)):
        label = task.label[train]
        if (label == label[0]).all():
            what = f"of class {task.classes[label[0]]!r}" if task.classes else f"labelled {label[0]:g}"
            raise DataError(f"Task {task.name}: all {len(train)} training rows of fold {k} are {what}.")
    return folds


def _leave_one_out(fold: Rows) -> Folds:
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold[fold >= 0])]


def _frequent(task: Task, group: Rows, what: str, least: int) -> Rows:
    """Numbers of groups, -1 for those with fewer than `least` rows in them, or outside them to train."""
    names, number, count = np.unique(group, return_inverse=True, return_counts=True)
    if not (kept := (names >= 0) & (count >= least) & (len(task) - count >= least)).any():
        raise DataError(f"Task {task.name} has no {what} with {least} rows inside and {least} outside to train on.")
    return np.where(kept[number], group, -1)


def _numbers(names: NDArray[np.generic]) -> Rows:
    """0, 1, ... for the sorted different values, or different rows of a matrix."""
    _, number = np.unique(names, axis=0, return_inverse=True)
    return np.asarray(number.reshape(-1), dtype=np.int64)


def _degree_blocks(task: Task, size_deg: float, least: int) -> Rows:
    """(n, 2) columns and rows of blocks of `size_deg`, halved until `least` blocks hold places."""
    usual_deg = size_deg
    while True:
        blocks = np.floor((task.points + np.array([180.0, 90.0])) / size_deg).astype(np.int64)
        if len(np.unique(blocks, axis=0)) >= least or size_deg < 1e-3:
            break
        size_deg /= 2
    if size_deg < usual_deg:
        logger.info("%s: blocks of %g degrees instead of %g, its places are close together",
                    task.name, size_deg, usual_deg)  # fmt: skip
    return np.asarray(blocks)


def _cell_size_km(task: Task, least: int) -> float:
    """The largest of `CELL_KM` of which `least` cells hold places, else the smallest."""
    size_km, _ = fitting_cells(task.points, CELL_KM, least)
    if size_km < CELL_KM[0]:
        logger.info("%s: cells of %g km instead of %g, its places are close together", task.name, size_km, CELL_KM[0])
    return size_km
