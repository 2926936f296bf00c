"""Scores of predictions in one city."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need
from graticule.evaluation.predictors import Array

Scores = dict[str, float]
PRIMARY = {"regression": "skill", "classes": "macro-F1"}
LEAST_ROWS = 20  # of a city in a task


def regression_scores(truth: Array, predicted: Array, baseline: Array) -> Scores:
    """Skill = 1 - SSE / SSE of saying `baseline`, and Spearman's rank correlation.

    truth and predicted (n,) or (n, columns), baseline (columns,) or a number: the mean of the training labels, not of
    the test labels. Several columns: the mean of their scores. A column that the baseline meets exactly has no skill,
    and a constant one no ranks: they are left out, and a score without columns is NaN.
    """
    y, said = (np.asarray(v, np.float64).reshape(len(truth), -1) for v in (truth, predicted))
    if y.shape != said.shape:
        raise DataError(f"Predictions must have the shape of the labels, got {said.shape} for {y.shape}.")
    missed, spread = np.square(y - said).sum(0), np.square(y - np.asarray(baseline)).sum(0)
    skill = [1 - a / b for a, b in zip(missed, spread, strict=True) if b > 0]
    ranks = [_spearman(y[:, c], said[:, c]) for c in range(y.shape[1]) if np.ptp(y[:, c]) > 0]
    return {"skill": _mean(skill), "spearman": _mean(ranks)}


def class_scores(truth: Array, predicted: Array) -> Scores:
    """macro-F1, the mean of F1 over the classes that occur in this city's labels, and accuracy.

    F1 of a class is 2 hits / (labels + predictions of it). Predictions of classes that do not occur cost the others.
    """
    if np.shape(truth) != np.shape(predicted):
        raise DataError(f"Predictions must have the shape of the labels, got {predicted.shape} for {truth.shape}.")
    f1 = [
        2 * np.sum((truth == k) & (predicted == k)) / (np.sum(truth == k) + np.sum(predicted == k))
        for k in np.unique(truth)
    ]
    return {"macro-F1": _mean(f1), "accuracy": float(np.mean(truth == predicted))}


def enough(label: Array, classes: int = 0, least: int = LEAST_ROWS) -> bool:
    """Whether a city enters a task: `least` rows or more, and two different classes or more where there are classes."""
    return len(label) >= least and (not classes or len(np.unique(label)) >= 2)


def _spearman(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    """Pearson's correlation of mid-ranks; constant predictions rank nothing: 0."""
    rank = need("scipy.stats", "train").rankdata
    if np.ptp(predicted) == 0:
        return 0.0
    return float(np.corrcoef(rank(truth), rank(predicted))[0, 1])


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
