"""What probes do before the model itself: scales, principal axes, columns of the place, inner folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graticule.evaluation.predictors import Array
from graticule.geo.coords import Points, unit_sphere


def standardise(train: Array, test: Array, dtype: type = np.float64) -> tuple[Array, Array]:
    """Both in `dtype` with the mean and deviation of the columns of `train`; its constant columns become zero."""
    mean, deviation = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    constant = (deviation <= 1e-9 * np.abs(mean)) | (deviation == 0)
    scale: Array = np.where(constant, 0, 1 / np.where(constant, 1, deviation)).astype(dtype)
    mean = mean.astype(dtype)
    return (train.astype(dtype) - mean) * scale, (test.astype(dtype) - mean) * scale


def principal_axes(train: Array, most: int | None = None) -> tuple[Array, Array]:
    """Axes (d, k) of largest variance of centred columns (n, d), and their sums of squares (k,), largest first.

    Those without variance are left out, and those after the first `most`.
    """
    values, axes = np.linalg.eigh(train.T @ train)
    kept = np.flatnonzero(values >= 1e-12 * values.max(initial=0))[::-1][:most]
    return axes[:, kept], values[kept]


def place_columns(points: Points) -> Array:
    """(n, 5): x, y, z on the unit sphere and lon, lat in degrees."""
    return np.hstack([unit_sphere(points), points])


def inner_folds(label: Array, folds: int, classes: int) -> NDArray[np.int64]:
    """(n,) fold numbers of training rows, in a fixed random order; the rows of each class in turn, where classes."""
    order = np.random.default_rng(0).permutation(len(label))
    if classes:
        order = order[np.argsort(label[order], kind="stable")]
    fold = np.empty(len(label), dtype=np.int64)
    fold[order] = np.arange(len(label)) % folds
    return fold
