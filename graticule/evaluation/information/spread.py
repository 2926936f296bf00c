"""How vectors fill their space: covariance spectrum, effective ranks, uniformity and alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError

Array = NDArray[Any]
BLOCK_VALUES = 2**22


def spectrum(vectors: Array) -> NDArray[np.float64]:
    """(n, d) -> the min(n, d) largest eigenvalues of the covariance (divided by n), largest first."""
    return _singular_values(_centred(vectors)) ** 2 / len(vectors)


def effective_rank(vectors: Array) -> float:
    """Exponential of the entropy of the normalised singular values of the centred (n, d) vectors.

    Roy & Vetterli 2007; from 1 (also where all vectors are equal) to min(n, d).
    `graticule.objectives.regression.effective_rank` is the same in torch, with a gradient.
    """
    return _entropy_rank(_singular_values(_centred(vectors)), 0.0)


def rankme(vectors: Array) -> float:
    """RankMe of (n, d) vectors (Garrido et al. 2023): not centred, 1e-7 added to every share."""
    return _entropy_rank(_singular_values(_checked(vectors)), 1e-7)


def participation_ratio(vectors: Array) -> float:
    """Squared sum over sum of squares of the covariance eigenvalues: 1 to min(n, d); 1 where all vectors are equal."""
    values = spectrum(vectors)
    return float(values.sum() ** 2 / squares) if (squares := np.square(values).sum()) else 1.0


def uniformity(vectors: Array, *, rows: int = 4096, seed: int = 0) -> float:
    """Logarithm of the mean of exp(-2 |x - y|^2) over pairs of normalised vectors; lower is more uniform.

    Wang & Isola 2020 with t = 2, without pairs of a row with itself. (n, d); at most `rows` random rows
    are paired with all others, which leaves the mean unbiased; -4 is the limit of uniform vectors of great
    length, 0 the collapse. Pass vectors of places that are uniform by area for a figure of the Earth.
    """
    unit = _normalised(vectors).astype(np.float32)
    if len(unit) < 2:
        raise DataError(f"Uniformity needs at least 2 vectors, got {len(unit)}.")
    chosen = np.random.default_rng(seed).permutation(len(unit))[:rows]
    size, total = max(1, BLOCK_VALUES // len(unit)), 0.0
    for start in range(0, len(chosen), size):
        block = chosen[start : start + size]
        kernel = unit[block] @ unit.T
        kernel *= 4
        kernel -= 4  # -2 |x - y|^2 = 4 x.y - 4
        np.exp(kernel, out=kernel)
        kernel[np.arange(len(block)), block] = 0
        total += float(kernel.sum(dtype=np.float64))
    return float(np.log(total / (len(chosen) * (len(unit) - 1))))


def alignment(vectors: Array, partners: Array) -> float:
    """Mean squared distance of the normalised vectors of positive pairs, row by row; lower is closer (0 to 4).

    Wang & Isola 2020 with alpha = 2. For locations the pairs are places close to each other: rows
    that `graticule.geo.variogram.near_pairs` finds, or places and displaced places.
    """
    if vectors.shape != partners.shape:
        raise DataError(f"Pairs must have the same shape, got {vectors.shape} and {partners.shape}.")
    return float(np.square(_normalised(vectors) - _normalised(partners)).sum(1).mean())


def _entropy_rank(values: NDArray[np.float64], epsilon: float) -> float:
    share = values / max(float(values.sum()), 1e-30) + epsilon
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def _singular_values(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.svd(rows, compute_uv=False), dtype=np.float64)


def _centred(vectors: Array) -> NDArray[np.float64]:
    """About the mean; columns that are constant up to rounding become exactly zero."""
    rows = _checked(vectors)
    mean = rows.mean(0)
    centred: NDArray[np.float64] = rows - mean
    centred[:, np.abs(centred).max(0) <= 1e-12 * np.abs(mean)] = 0
    return centred


def _normalised(vectors: Array) -> NDArray[np.float64]:
    rows = _checked(vectors)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30))


def _checked(vectors: Array) -> NDArray[np.float64]:
    if vectors.ndim != 2 or not vectors.size:
        raise DataError(f"Vectors must be (n, d) with at least one row, got shape {vectors.shape}.")
    if not np.isfinite(vectors).all():
        raise DataError("Vectors must be finite; drop the rows that hold NaN or infinities.")
    return np.asarray(vectors, dtype=np.float64)
