"""The nearest vectors by Euclidean distance: exact, in blocks, for some rows against all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need

Array = NDArray[Any]
TREE_DIM = 16  # up to this length a KD-tree is quicker than products of matrices
SPARE = 16  # candidates of the single-precision search beyond the neighbours asked for
BLOCK_VALUES = 2**23  # distances held at a time
GROUP = 16  # distances of which at first only the smallest is looked at


def nearest(vectors: Array, rows: Array, neighbours: int) -> tuple[Array, Array]:
    """Distances and numbers of the rows nearest to `rows`, itself left out, nearest first.

    vectors (n, d), rows (m,) row numbers -> (m, neighbours) float64 distances, (m, neighbours) row numbers.
    Short vectors go through a KD-tree. Long ones through single-precision products of matrices, which only
    choose candidates: distances are taken anew in double precision, and a row where rounding could have
    hidden a neighbour is searched again with double-precision products.

    Raises DataError for no more than `neighbours` rows or for values that are not finite.
    """
    if len(vectors) <= neighbours:
        raise DataError(f"{neighbours} neighbours need at least {neighbours + 1} vectors, got {len(vectors)}.")
    if not np.isfinite(vectors).all():
        raise DataError("Vectors must be finite; drop the rows that hold NaN or infinities.")
    vectors = vectors.astype(np.float32 if vectors.dtype in (np.float16, np.float32) else np.float64, copy=False)
    if vectors.shape[1] <= TREE_DIM:
        return _by_tree(vectors, rows, neighbours)
    return _by_products(vectors, rows, neighbours)


def _by_tree(vectors: Array, rows: Array, neighbours: int) -> tuple[Array, Array]:
    tree = need("scipy.spatial", "train").cKDTree(vectors)
    distances, found = tree.query(vectors[rows], neighbours + 1)
    others = found != rows[:, None]
    others[others.all(1), -1] = False  # among many equal vectors a row need not find itself
    shape = (len(rows), neighbours)
    return distances[others].reshape(shape), found[others].reshape(shape)


def _by_products(vectors: Array, rows: Array, neighbours: int) -> tuple[Array, Array]:
    mean = vectors.mean(0, dtype=np.float64)
    centred = _scaled(vectors, mean, np.float32)
    precise: Array | None = None
    distances = np.empty((len(rows), neighbours))
    found = np.empty((len(rows), neighbours), dtype=np.int64)
    size = max(1, BLOCK_VALUES // len(vectors))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        distances[part], found[part], sure = _block(vectors, centred, rows[part], neighbours)
        if len(again := start + np.flatnonzero(~sure)):
            precise = _scaled(vectors, mean, np.float64) if precise is None else precise
            distances[again], found[again], _ = _block(vectors, precise, rows[again], neighbours)
    return distances, found


def _scaled(vectors: Array, mean: Array, dtype: Any) -> Array:
    """Vectors about their mean, within [-1, 1]: squares neither overflow nor vanish."""
    largest = max(float(np.abs(vectors.max(0) - mean).max()), float(np.abs(vectors.min(0) - mean).max()))
    return np.asarray((vectors - mean.astype(dtype)) / dtype(largest or 1.0), dtype=dtype)


def _block(vectors: Array, scaled: Array, rows: Array, neighbours: int) -> tuple[Array, Array, Array]:
    """Distances, numbers, and whether rounding cannot have hidden a neighbour, for a few rows.

    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b errs by at most (d + 8) u (|a| + |b|)^2 with the unit roundoff u.
    """
    candidates = min(len(vectors) - 1, neighbours + SPARE)
    squares = np.einsum("nd,nd->n", scaled, scaled)
    shifted = scaled[rows] @ scaled.T
    shifted *= -2
    shifted += squares  # |a - b|^2 - |a|^2: the same order along a row
    shifted[np.arange(len(rows)), rows] = np.inf
    chosen = _smallest(shifted, candidates)
    away = vectors[chosen]
    away -= vectors[rows, None]  # of close numbers exact
    exact = np.sqrt(np.einsum("mcd,mcd->mc", away, away, dtype=np.float64))
    order = np.argsort(exact, axis=1, kind="stable")[:, :neighbours]
    distances, found = np.take_along_axis(exact, order, 1), np.take_along_axis(chosen, order, 1)

    unit = np.sqrt(np.square(scaled[found[:, -1]].astype(np.float64) - scaled[rows]).sum(1))  # in units of `scaled`
    bound = (
        (scaled.shape[1] + 8) * np.finfo(scaled.dtype).eps / 2 * (np.sqrt(squares[rows]) + squares.max() ** 0.5) ** 2
    )
    last = np.take_along_axis(shifted, chosen, 1).max(1) + squares[rows]
    return distances, found, (last - bound >= unit**2) | (candidates == len(vectors) - 1)


def _smallest(values: Array, count: int) -> Array:
    """Column numbers of the `count` smallest values of every row, in no order.

    They lie in the `count` groups of columns with the smallest minima, so most values are looked at once.
    """
    width = values.shape[1] // GROUP
    if width <= 2 * count:
        return np.argpartition(values, count - 1, axis=1)[:, :count]
    minima = values[:, : width * GROUP].reshape(len(values), GROUP, width).min(1)
    groups = np.argpartition(minima, count - 1, axis=1)[:, :count]
    inside = (groups[:, :, None] + np.arange(GROUP) * width).reshape(len(values), -1)
    rest = np.broadcast_to(np.arange(width * GROUP, values.shape[1]), (len(values), values.shape[1] % GROUP))
    among = np.concatenate([inside, rest], axis=1)
    order = np.argpartition(np.take_along_axis(values, among, 1), count - 1, axis=1)[:, :count]
    return np.take_along_axis(among, order, 1)
