"""Which rows train and which test: at random, by blocks of space, by continent, with few labels.

Every split is a list of (train rows, test rows); scores are means over the list. A random split rewards
interpolation between neighbours, blocks ask what is known about places far from any label.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, SettingError, need
from graticule.evaluation.tasks import Task
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import Points, chord, unit_sphere

logger = logging.getLogger(__name__)

Rows = NDArray[np.int64]
Folds = list[tuple[Rows, Rows]]
Split = Callable[[Task], Folds]

BLOCK_DEG = 10.0
TRAIN_FOLDS = 6  # of the ten numbers of fold_random


def random_split(task: Task, seed: int = 0) -> Folds:
    """Folds 0-5 of `fold_random` train and 6-9 test; without that column a seeded 60 : 40 draw."""
    fold = task.folds.get("fold_random")
    if fold is None:
        fold = np.random.default_rng(seed).permutation(np.arange(len(task)) % 10)
    return _checked(task.name, [(np.flatnonzero(fold < TRAIN_FOLDS), np.flatnonzero(fold >= TRAIN_FOLDS))])


def block_split(task: Task, folds: int = 5, seed: int = 0) -> Folds:
    """Leave out one fold of 10-degree blocks at a time: the folds of `fold_block10`, or `folds` folds made here.

    A table that is too local for 10 degrees (fewer than four blocks a fold) gets blocks of half the size
    until it is not. `fold_block10` is always taken as it is, so that figures stay comparable.
    """
    if "fold_block10" in task.folds:
        return _checked(task.name, _leave_one_out(task.folds["fold_block10"]))
    size_deg = BLOCK_DEG
    blocks = _degree_blocks(task.points, size_deg)
    while len(np.unique(blocks)) < 4 * folds and size_deg > 1e-3:
        size_deg /= 2
        blocks = _degree_blocks(task.points, size_deg)
    if size_deg < BLOCK_DEG:
        logger.info(
            "%s: blocks of %g degrees instead of %g, its places are close together", task.name, size_deg, BLOCK_DEG
        )
    return _checked(task.name, _leave_one_out(balanced_folds(blocks, folds, seed)))


def cell_split(task: Task, size_km: float = 500, folds: int = 5, seed: int = 0, buffer_km: float = 100) -> Folds:
    """`equal_area_block_split` of the places of a task."""
    return equal_area_block_split(task.points, size_km, folds, seed, buffer_km)


def region_split(task: Task) -> Folds:
    """Leave out one continent at a time; rows without a continent train always."""
    if "continent" not in task.folds:
        raise DataError(f"Task {task.name} has no column continent, so no region can be left out.")
    return _checked(task.name, _leave_one_out(task.folds["continent"]))


def few_shot_split(task: Task, rows: int = 100, repeats: int = 5, seed: int = 0) -> Folds:
    """The random split with only `rows` training rows, drawn `repeats` times."""
    ((train, test),) = random_split(task, seed)
    rng = np.random.default_rng(seed)
    return [(np.sort(rng.permutation(train)[:rows]), test) for _ in range(repeats)]


def equal_area_block_split(
    points: Points, size_km: float, folds: int = 5, seed: int = 0, buffer_km: float = 0
) -> Folds:
    """Leave out one fold of equal-area cells at a time; training rows within `buffer_km` of a test row are dropped.

    points (n, 2) lon/lat degrees. Cells have `size_km` squared; whole cells go to the folds, evenly by rows.
    """
    if buffer_km < 0:
        raise SettingError(f"buffer_km must not be negative, got {buffer_km:g}.")
    pairs = _leave_one_out(balanced_folds(equal_area_cells(points, size_km), folds, seed))
    return _checked("split", [(without_buffer(points, train, test, buffer_km), test) for train, test in pairs])


def without_buffer(points: Points, train: Rows, test: Rows, buffer_km: float) -> Rows:
    """The training rows farther than `buffer_km` (great circle) from every test row."""
    if not buffer_km:
        return train
    xyz = unit_sphere(points)
    nearest, _ = need("scipy.spatial", "train").cKDTree(xyz[test]).query(xyz[train])
    return np.asarray(train[nearest > chord(buffer_km)])


def balanced_folds(blocks: Rows, folds: int, seed: int = 0) -> Rows:
    """(n,) block numbers -> (n,) fold numbers: whole blocks, the largest first, each to the smallest fold so far.

    Blocks of the same size are taken in a seeded random order.
    """
    names, block, size = np.unique(blocks, return_inverse=True, return_counts=True)
    if not 2 <= folds <= len(names):
        raise SettingError(
            f"{folds} folds need two or more and as many blocks, the places lie in {len(names)}: use smaller blocks."
        )
    order = np.random.default_rng(seed).permutation(len(names))
    fold, filled = np.empty(len(names), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for b in order[np.argsort(-size[order], kind="stable")]:
        fold[b] = filled.argmin()
        filled[fold[b]] += size[b]
    return fold[block]


def _degree_blocks(points: Points, size_deg: float) -> Rows:
    column, row = np.floor((points + np.array([180.0, 90.0])) / size_deg).astype(np.int64).T
    return np.asarray(row * int(np.ceil(360 / size_deg) + 1) + column)


def _leave_one_out(fold: Rows) -> Folds:
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold[fold >= 0])]


def _checked(name: str, folds: Folds) -> Folds:
    for k, (train, test) in enumerate(folds):
        if not len(train) or not len(test):
            raise DataError(
                f"{name}: fold {k} has {len(train)} training and {len(test)} test rows; both need at least one."
            )
    return folds


SPLITS: dict[str, Split] = {
    "random": random_split,
    "blocks": block_split,
    "cells": cell_split,
    "regions": region_split,
    "few": few_shot_split,
}
