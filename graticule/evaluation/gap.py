"""The gap between two modalities in a shared space: how far apart, how separable, how well pairs match."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, SettingError
from graticule.evaluation.information.neighbours import nearest
from graticule.evaluation.predictors import Array
from graticule.evaluation.probes import fit_ridge

QUERIES = 2000  # pairs whose nearest neighbours are looked at
ROUNDING = 1e-12  # numbers of unit vectors below this are nothing


@dataclass(frozen=True)
class Apartness:
    """Two sets of unit vectors, row i of one belonging to row i of the other.

    distance    length of the difference of the centroids, 0 to 2
    segregation share of vectors whose nearest other vector, their own partner left out, is of the same modality:
                0.5 where modalities are mixed, 1 where they keep to themselves, whatever shape divides them
    matched     mean cosine of pairs
    unmatched   mean cosine of all vectors of one with all of the other but their own
    """

    distance: float
    segregation: float
    matched: float
    unmatched: float


@dataclass(frozen=True)
class Gap:
    """Two modalities as they are, and with the mean of each taken away and lengths made 1 again.

    separability  held-out accuracy of a linear classifier of the modality on the vectors as they are: 0.5 where it
                  tells nothing, 1 where it always tells
    """

    separability: float
    as_is: Apartness
    centred: Apartness

    @property
    def remaining(self) -> float:
        """Share of the distance that is left when the means are taken away; 0 where there was none."""
        return self.centred.distance / self.as_is.distance if self.as_is.distance else 0.0


def modality_gap(a: Array, b: Array, folds: int = 5, seed: int = 0) -> Gap:
    """Distance of centroids, separability, segregation and cosines of pairs of two modalities (Liang et al. 2022).

    a and b (n, d): embeddings of the same n things, of any length but zero. The classifier is a ridge on -1 and 1
    (`fit_ridge`), cross-validated over `folds` random folds of pairs. Without the means it would have nothing
    to go by, as a linear fit sees two groups by their means alone; what else divides them is the segregation of
    nearest neighbours, taken from at most 2,000 random pairs. A mean holds the vectors it is taken from, so of few
    pairs the centred segregation is a little low: 0.46 for 200 mixed pairs of length 40, 0.5 for thousands.

    Raises DataError for arrays of different shapes, zero or non-finite vectors; SettingError for impossible folds.
    """
    x, y = (_demand_vectors(name, v) for name, v in (("a", a), ("b", b)))
    if x.shape != y.shape:
        raise DataError(f"Expected pairs of vectors of equal length, got {x.shape} and {y.shape}.")
    if not 2 <= folds <= len(x):
        raise SettingError(f"folds must lie between 2 and the number of pairs ({len(x)}), got {folds}.")
    order = np.random.default_rng(seed).permutation(len(x))
    accuracy = [_accuracy(x, y, order % folds != k) for k in range(folds)]
    queries = order[:QUERIES]
    return Gap(float(np.mean(accuracy)), _apart(x, y, queries), _apart(_centred(x), _centred(y), queries))


def _apart(x: Array, y: Array, queries: NDArray[np.int64]) -> Apartness:
    n, pairs = len(x), float(np.einsum("nd,nd->", x, y))
    asked = np.concatenate([queries, n + queries])
    _, found = nearest(np.vstack([x, y]), asked, 2)
    other = np.where(found[:, 0] == (asked + n) % (2 * n), found[:, 1], found[:, 0])
    return Apartness(
        distance=float(np.linalg.norm(x.mean(0) - y.mean(0))),
        segregation=float(np.mean((other < n) == (asked < n))),
        matched=pairs / n,
        unmatched=(float(x.sum(0) @ y.sum(0)) - pairs) / (n * (n - 1)),
    )


def _accuracy(x: Array, y: Array, train: NDArray[np.bool_]) -> float:
    """Share of the held-out vectors whose modality is told by a ridge on the training rows; a tie is half told."""
    side = np.repeat([1.0, -1.0], train.sum())[:, None]
    weight, intercept, _ = fit_ridge(np.vstack([x[train], y[train]]), side)
    told = np.sign(np.concatenate([x[~train] @ weight + intercept, -(y[~train] @ weight + intercept)]))
    return float((1 + told.mean()) / 2)


def _centred(x: Array) -> Array:
    """Without the mean, at unit length; a vector at the mean becomes zero."""
    moved = x - x.mean(0)
    moved[np.abs(moved) < ROUNDING] = 0
    return np.asarray(moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), ROUNDING))


def _demand_vectors(name: str, vectors: Array) -> Array:
    """(n, d) at unit length."""
    if np.ndim(vectors) != 2:
        raise DataError(f"Expected vectors {name} (n, d), got an array of shape {np.shape(vectors)}.")
    length = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if len(bad := np.flatnonzero(~(np.isfinite(length) & (length > 0)))):
        raise DataError(f"Row {bad[0]} of {name} has no direction (zero or not finite); {len(bad)} rows have none.")
    return np.asarray(vectors / length)
