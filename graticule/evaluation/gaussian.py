"""A Gaussian process on vector and place: how much the vector adds to the best interpolation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graticule.errors import need
from graticule.evaluation.inner import standardise
from graticule.evaluation.kriging import matern32
from graticule.evaluation.predictors import Array, Inputs, one_hot
from graticule.geo.coords import unit_sphere

FITTED_ROWS, KNOWN_ROWS = 600, 4000  # training rows in the likelihood, and in the prediction
CHUNK = 64  # rows of covariances at a time
START = np.log([1.0, 0.2, 1.0, 0.1])  # of the four parameters of `Kernel`
BOUNDS = np.log([[0.02, 50], [0.002, 5], [1e-3, 1e3], [1e-5, 10]])


@dataclass(frozen=True)
class Kernel:
    """The covariance s Matern(|v - w| / reach) + (1 - s) Matern(chord / chord_reach) with s = odds / (1 + odds).

    Matern of smoothness 3/2; `noise` is added between a row and itself.
    """

    reach: float
    chord_reach: float
    odds: float
    noise: float

    def __call__(self, apart: Array, chords: Array) -> Array:
        """Distances (n, m) between vectors and between places, without the noise."""
        share = self.odds / (1 + self.odds)
        return share * matern32(apart / self.reach) + (1 - share) * matern32(chords / self.chord_reach)

    def slopes(self, apart: Array, chords: Array) -> list[Array]:
        """Derivatives of the kernel matrix (n, n) with its noise by the logarithms of the four parameters."""
        share, u, w = self.odds / (1 + self.odds), 3**0.5 * apart / self.reach, 3**0.5 * chords / self.chord_reach
        a, b = np.exp(-u), np.exp(-w)
        odds = share * (1 - share) * ((1 + u) * a - (1 + w) * b)
        return [share * u**2 * a, (1 - share) * w**2 * b, odds, self.noise * np.eye(len(apart))]


def gp(train: Inputs, label: Array, test: Inputs, classes: int = 0) -> Array:
    """Gaussian process regression on vectors and points; classes as zero-one columns under one kernel, argmax.

    Distances of vectors are those of standardised columns, over the root of their number. The parameters maximise
    the marginal likelihood of 600 training rows, and predictions use 4,000, both the first of a fixed random order:
    the cost grows with their cube. Rasmussen & Williams 2006, eq. 2.25 and 5.8-5.9, with the mean of the training
    rows as mean and the common scale profiled out.
    """
    if (label == label[0]).all():
        return np.full(len(test), label[0])
    known = np.random.default_rng(0).permutation(len(train))[:KNOWN_ROWS]
    train, targets = train.take(known), one_hot(label[known], classes).astype(np.float64)
    mean = targets.mean(0)
    scale = max(train.vectors.shape[1], 1) ** -0.5
    x, asked = (scale * columns for columns in standardise(train.vectors, test.vectors))
    known_rows = Inputs(x, unit_sphere(train.points))
    first = known_rows.take(np.arange(min(FITTED_ROWS, len(train))))
    kernel = fit_kernel(*_between(first, first), targets[: len(first)])
    covariance = _covariances(kernel, known_rows, known_rows)
    covariance[np.diag_indices_from(covariance)] += kernel.noise
    solve = need("scipy.linalg", "train").solve
    solved = solve(covariance, targets - mean, assume_a="pos", check_finite=False, overwrite_a=True)
    said = mean + _covariances(kernel, Inputs(asked, unit_sphere(test.points)), known_rows) @ solved
    return np.asarray(said.argmax(1) if classes else said[:, 0])


def fit_kernel(apart: Array, chords: Array, targets: Array) -> Kernel:
    """The kernel of largest marginal likelihood: apart, chords (n, n) between vectors and places, targets (n, t)."""
    targets = targets - targets.mean(0)
    if not targets.any():
        return Kernel(*np.exp(START))
    minimize = need("scipy.optimize", "train").minimize
    found = minimize(
        lambda logs: misfit(Kernel(*np.exp(logs)), apart, chords, targets), START, jac=True, method="L-BFGS-B",
        bounds=BOUNDS, options={"maxiter": 30},
    )  # fmt: skip
    return Kernel(*np.exp(found.x))


def misfit(kernel: Kernel, apart: Array, chords: Array, targets: Array) -> tuple[float, Array]:
    """Minus twice the profile log likelihood, n log(tr Y'K^-1 Y) + log|K|, and its derivatives by the logarithms."""
    linalg = need("scipy.linalg", "train")
    n = len(targets)
    factor = linalg.cholesky(kernel(apart, chords) + kernel.noise * np.eye(n), lower=True, check_finite=False)
    inverse = linalg.cho_solve((factor, True), np.eye(n), check_finite=False)
    solved = inverse @ targets
    total = float((targets * solved).sum())
    slope = inverse - n / total * solved @ solved.T
    value = n * np.log(total) + 2 * np.log(np.diag(factor)).sum()
    return float(value), np.array([(slope * by).sum() for by in kernel.slopes(apart, chords)])


def _covariances(kernel: Kernel, a: Inputs, b: Inputs) -> Array:
    """(n, m) covariances, some rows at a time to stay within the processor's cache."""
    said = np.empty((len(a), len(b)))
    for start in range(0, len(a), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(a)))
        said[rows] = kernel(*_between(a.take(rows), b))
    return said


def _between(a: Inputs, b: Inputs) -> tuple[Array, Array]:
    """(n, m) Euclidean distances between vectors, and between places on the unit sphere."""
    return _distances(a.vectors, b.vectors), _distances(a.points, b.points)


def _distances(a: Array, b: Array) -> Array:
    """(n, d) and (m, d) -> (n, m) Euclidean distances."""
    squares = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))
