"""Ordinary kriging on the sphere: interpolation with weights from a covariance fitted to the training rows.

The strongest baseline without vectors. Every prediction is the best linear unbiased one from the nearest training
places (moving neighbourhood), under the covariance `Covariance`: a Matern function of the great-circle chord and a
nugget. Its parameters maximise the restricted likelihood in the approximation of Vecchia (1988) and Stein, Chi and
Welty (2004): the product of the densities of the kriging errors of rows given their nearest earlier rows.
Classes are kriged as zero-one indicators under one shared covariance, and the largest is chosen (Journel 1983).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from graticule.errors import need
from graticule.evaluation.predictors import Array, Inputs, one_hot, vote
from graticule.geo.coords import Points, unit_sphere

NEIGHBOURS = 50  # training rows in a prediction
FITTED_ROWS, EARLIER = 800, 15  # rows in the likelihood and what each is conditioned on
ORDERED_ROWS = 6000  # rows from which both are drawn
CHUNK = 1000  # predictions at a time
REACHES = np.geomspace(0.005, 1, 5)  # chords, 32 to 6,700 km
NUGGETS = (0.001, 0.03, 0.2, 0.6)
LEAST_NUGGET = 1e-6  # keeps equal places apart


@dataclass(frozen=True)
class Covariance:
    """Share 1 - nugget of a Matern correlation of chord / reach, and the nugget between a row and itself."""

    reach: float
    nugget: float
    rough: bool  # exponential (Matern-1/2) or Matern-3/2

    def __call__(self, distance: Array) -> Array:
        """Chords (...) between places, without the nugget."""
        return (1 - self.nugget) * (exponential if self.rough else matern32)(distance / self.reach)

    def matrices(self, places: Array, distance: Array) -> tuple[Array, Array]:
        """Covariances (..., k, k) between places (..., k, 3), with the nugget, and (..., k) at these distances."""
        between = self(_apart(places[..., :, None, :], places[..., None, :, :]))
        return between + self.nugget * np.eye(places.shape[-2]), self(distance)


def exponential(distance: Array) -> Array:
    """Matern correlation of smoothness 1/2."""
    return np.asarray(np.exp(-distance))


def matern32(distance: Array) -> Array:
    """Matern correlation of smoothness 3/2 (Rasmussen & Williams 2006, eq. 4.17)."""
    scaled = np.sqrt(3) * distance
    return np.asarray((1 + scaled) * np.exp(-scaled))


def ordinary_kriging(between: Array, towards: Array, sill: float = 1) -> tuple[Array, Array]:
    """Weights (..., k) of sum one and variance (...) of the ordinary-kriging prediction.

    between (..., k, k) covariances of the samples, with what measures them apart on the diagonal; towards (..., k)
    those of the samples with the asked place; sill: the variance there. Isaaks & Srivastava 1989, ch. 12, with the
    Lagrange parameter eliminated.
    """
    sides = np.stack([towards, np.ones_like(towards)], -1)
    solved = np.linalg.solve(between, sides)
    simple, ones = solved[..., 0], solved[..., 1]
    missing, total = 1 - simple.sum(-1), ones.sum(-1)
    weights = simple + ones * (missing / total)[..., None]
    return weights, sill - (simple * towards).sum(-1) + missing**2 / total


def kriging(train: Inputs, label: Array, test: Inputs, classes: int = 0) -> Array:
    """Ordinary kriging of the label, or of the indicators of its classes, from the nearest 50 training places."""
    if (label == label[0]).all():
        return np.full(len(test), label[0])
    found, weights = neighbours(train.points, one_hot(label, classes), test.points)
    return vote(label[found], weights, classes)


def neighbours(points: Points, targets: Array, asked: Points) -> tuple[Array, Array]:
    """For each asked place the rows (m, k) of its nearest known places, and their kriging weights (m, k) of sum one.

    points (n, 2) and asked (m, 2) lon/lat degrees, targets (n, t) the numbers to which the covariance is fitted.
    """
    places, asked = unit_sphere(points), unit_sphere(asked)
    covariance = fit_covariance(places, targets)
    tree = need("scipy.spatial", "train").cKDTree(places)
    distance, found = tree.query(asked, k=np.arange(1, min(NEIGHBOURS, len(places)) + 1))
    weights = np.empty(distance.shape)
    for start in range(0, len(asked), CHUNK):
        rows = slice(start, start + CHUNK)
        weights[rows], _ = ordinary_kriging(*covariance.matrices(places[found[rows]], distance[rows]))
    return found, weights


def fit_covariance(places: Array, targets: Array) -> Covariance:
    """The covariance of largest restricted likelihood; places (n, 3) on the unit sphere, targets (n, t).

    All targets share it, and one sill, which is profiled out. The misfit is minus twice the log
    likelihood a row, up to a constant.
    """
    rows, earlier = _earlier(places)
    near = places[earlier]
    distance, value, values = _apart(places[rows][:, None], near), targets[rows], targets[earlier]

    def misfit(covariance: Covariance) -> float:
        weights, variance = ordinary_kriging(*covariance.matrices(near, distance))
        error = value - np.einsum("nk,nkt->nt", weights, values)
        return float(np.log(max(np.mean(error**2 / variance[:, None]), 1e-300)) + np.log(variance).mean())

    return min((_searched(misfit, rough) for rough in (True, False)), key=misfit)


def _searched(misfit: Callable[[Covariance], float], rough: bool) -> Covariance:
    """The covariance of least misfit of this smoothness: the best of a grid, moved by a simplex search."""
    best = min((Covariance(*choice, rough) for choice in product(REACHES, NUGGETS)), key=misfit)

    def moved(by: Array) -> Covariance:
        odds = best.nugget / (1 - best.nugget) * np.exp(by[1])
        nugget = np.clip(odds / (1 + odds), LEAST_NUGGET, 1 - LEAST_NUGGET)
        return Covariance(float(np.clip(best.reach * np.exp(by[0]), 1e-4, 10)), float(nugget), rough)

    options = {"initial_simplex": [[-0.5, -0.7], [0.5, -0.7], [0, 0.7]], "maxfev": 20}
    search = need("scipy.optimize", "train").minimize
    found = search(lambda by: misfit(moved(by)), np.zeros(2), method="Nelder-Mead", options=options)
    return min(best, moved(found.x), key=misfit)


def _earlier(places: Array) -> tuple[Array, Array]:
    """Rows (m,) spread over a random order of all, and for each its nearest ones (m, k) among those before it."""
    order = np.random.default_rng(0).permutation(len(places))[:ORDERED_ROWS]
    k = min(EARLIER, len(order) // 2)
    position = np.unique(np.linspace(k, len(order) - 1, FITTED_ROWS).astype(np.int64))
    cosine = places[order[position]] @ places[order].T
    cosine[np.arange(len(order)) >= position[:, None]] = -np.inf
    return order[position], order[np.argpartition(-cosine, k - 1, axis=1)[:, :k]]


def _apart(a: Array, b: Array) -> Array:
    """Chords between (..., 3) points, broadcasting."""
    return np.asarray(np.sqrt(np.square(a - b).sum(-1)))
