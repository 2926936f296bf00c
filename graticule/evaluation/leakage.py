"""How much of a test can be answered by copying the label of a training row next door."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graticule.errors import SettingError, need
from graticule.evaluation.splits import Folds, Rows
from graticule.evaluation.tasks import Task
from graticule.geo.coords import Points, chord_km, unit_sphere

SAME_PLACE_KM = 1e-3
NEAR_KM = 1.0
Kilometres = NDArray[np.float64]


@dataclass(frozen=True)
class Leakage:
    """What leaks from the training into the test rows of all folds of a split.

    same_place, near   test rows with a training row within a metre, within `near_km`
    score              see `leak_score`
    median_km          half of the test rows have a training row within this great-circle distance
    """

    test_rows: int
    same_place: int
    near: int
    near_km: float
    score: float
    median_km: float

    def __str__(self) -> str:
        return (
            f"{self.same_place:,} of {self.test_rows:,} test rows ({self.same_place / self.test_rows:.1%}) lie at a"
            f" place that also trains, half lie within {_short(self.median_km)} km of one; leak score {self.score:.2f}"
        ).replace("%", " %")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def leakage(task: Task, folds: Folds, near_km: float = NEAR_KM) -> Leakage:
    """Duplicates, distances and leak score of a split, in one go."""
    found = nearest_training(task.points, folds)
    distance_km, _ = found
    return Leakage(
        test_rows=len(distance_km),
        same_place=int((distance_km <= SAME_PLACE_KM).sum()),
        near=int((distance_km <= near_km).sum()),
        near_km=near_km,
        score=_score(task, folds, found, near_km),
        median_km=float(np.median(distance_km)),
    )


def duplicates(points: Points, folds: Folds) -> list[Rows]:
    """For every fold the test rows whose place, to a metre, also trains."""
    distance_km, _ = nearest_training(points, folds)
    ends = np.cumsum([len(test) for _, test in folds])
    pieces = np.split(distance_km, ends[:-1])
    return [test[piece <= SAME_PLACE_KM] for (_, test), piece in zip(folds, pieces, strict=True)]


def leak_score(task: Task, folds: Folds, near_km: float = NEAR_KM) -> float:
    """How much of the test labels can be copied from training rows within `near_km`: 0 nothing, 1 everything.

    The share of test rows with such a neighbour times the agreement of their labels with those of the nearest
    training row. Agreement is corrected for chance and clipped to [0, 1]: for classes (p - q) / (1 - q) as in Cohen's
    kappa, where p is how often labels agree and q how often those of two random rows of the task do; for numbers one
    minus the mean squared difference in units of the variance of the task's labels. It is a property of labels and
    places only: a high score says that a probe may answer by remembering places.
    """
    return _score(task, folds, nearest_training(task.points, folds), near_km)


def nearest_training(points: Points, folds: Folds) -> tuple[Kilometres, Rows]:
    """(m,) km to the nearest training row, and that row, for the test rows of all folds, one fold after the other."""
    tree, xyz = need("scipy.spatial", "train").cKDTree, unit_sphere(points)
    found = [(train, *tree(xyz[train]).query(xyz[test])) for train, test in folds]
    straight = np.concatenate([distance for _, distance, _ in found])
    row = np.concatenate([train[nearest] for train, _, nearest in found])
    return chord_km(straight), row


def _score(task: Task, folds: Folds, found: tuple[Kilometres, Rows], near_km: float) -> float:
    if not near_km > 0:
        raise SettingError(f"near_km must be positive, got {near_km:g}.")
    distance_km, row = found
    near = distance_km <= near_km
    if not near.any():
        return 0.0
    truth, copied = task.label[np.concatenate([test for _, test in folds])[near]], task.label[row[near]]
    if task.classes:
        chance = float(np.square(np.bincount(task.label) / len(task)).sum())
        missed, expected = float(np.mean(truth != copied)), 1 - chance
    else:
        missed, expected = float(np.square(truth - copied).mean()), float(np.var(task.label))
    agreement = max(0.0, 1 - missed / expected) if expected > 0 else 0.0
    return float(near.mean() * agreement)
