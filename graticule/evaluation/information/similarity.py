"""How alike two embeddings of the same places are, whatever their lengths, rotations and scales.

All take (n, a) and (n, b) vectors, row i of both for the same place, and need no labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError
from graticule.evaluation.information.neighbours import nearest

Array = NDArray[Any]


def cka(first: Array, second: Array) -> float:
    """Linear centred kernel alignment, 0 to 1 (Kornblith et al. 2019): |X'Y|^2 / (|X'X| |Y'Y|).

    Where n is not far above the lengths of the vectors, independent embeddings score well above 0:
    see `debiased_cka`. NaN where all vectors of one embedding are equal.
    """
    x, y = _centred(first, second)
    return _ratio(_squared(x.T @ y), _squared(x.T @ x), _squared(y.T @ y))


def debiased_cka(first: Array, second: Array) -> float:
    """Linear centred kernel alignment from the unbiased estimator of HSIC: about 0 for independence, at most 1.

    Nguyen et al. 2021, eq. 3 (HSIC_1 of Song et al. 2012) in one batch. The n x n kernels are never formed.
    Needs 4 rows; NaN where all vectors of one embedding are equal.
    """
    x, y = _centred(first, second)
    if len(x) < 4:
        raise DataError(f"The unbiased estimator needs at least 4 rows, got {len(x)}.")
    return _ratio(_unbiased_hsic(x, y), _unbiased_hsic(x, x), _unbiased_hsic(y, y))


def procrustes_angle(first: Array, second: Array) -> float:
    """Angle in radians, 0 to pi/2, between centred embeddings of norm 1 after the best rotation.

    arccos of the nuclear norm of X'Y over |X| |Y|: the angular Procrustes distance, a metric
    (Williams et al. 2021, for orthogonal maps). NaN where all vectors of one embedding are equal.
    """
    x, y = _centred(first, second)
    norms = np.linalg.norm(x) * np.linalg.norm(y)
    cosine = np.linalg.svd(x.T @ y, compute_uv=False).sum() / norms if norms else np.nan
    return float(np.arccos(np.minimum(cosine, 1)))


def neighbour_overlap(
    first: Array, second: Array, *, neighbours: int = 10, queries: int = 10_000, seed: int = 0
) -> float:
    """Mean share of the `neighbours` nearest rows by cosine that both embeddings have in common, 0 to 1.

    The mutual nearest-neighbour measure of Huh et al. 2024; independence gives neighbours / (n - 1). At most
    `queries` random rows are asked, among all. Rows that are equal are ranked in no particular order.
    """
    _rows(first, second)
    rows = np.random.default_rng(seed).permutation(len(first))[:queries]
    found = []
    for vectors in (first, second):
        length = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
        found.append(nearest(vectors / length, rows, neighbours)[1])
    shared = (found[0][:, :, None] == found[1][:, None, :]).sum((1, 2))
    return float(shared.mean() / neighbours)


def _unbiased_hsic(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """HSIC_1 of Song et al. 2012 for K = XX', L = YY' with their diagonals set to zero, times n (n - 3)."""
    n = len(x)
    own_x, own_y = np.square(x).sum(1), np.square(y).sum(1)
    rows_x, rows_y = x @ x.sum(0) - own_x, y @ y.sum(0) - own_y  # sums along the rows of K and L
    trace = _squared(x.T @ y) - own_x @ own_y
    return float(trace + rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows_x @ rows_y))


def _centred(first: Array, second: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both about their mean, scaled to entries of at most 1."""
    _rows(first, second)
    centred = []
    for vectors in (first, second):
        if not np.isfinite(vectors).all():
            raise DataError("Vectors must be finite; drop the rows that hold NaN or infinities from both.")
        rows = vectors.astype(np.float64)
        about = rows - rows.mean(0)
        largest = np.abs(about).max(initial=0)
        centred.append(about / largest if largest > 1e-12 * np.abs(rows).max(initial=0) else np.zeros_like(about))
    return centred[0], centred[1]


def _rows(first: Array, second: Array) -> None:
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second) or not len(first):
        raise DataError(
            f"Two embeddings of the same places must be (n, a) and (n, b), got {first.shape} and {second.shape}."
        )


def _squared(matrix: NDArray[np.float64]) -> float:
    return float(np.square(matrix).sum())


def _ratio(both: float, first: float, second: float) -> float:
    return both / (first * second) ** 0.5 if first > 0 and second > 0 else float("nan")
