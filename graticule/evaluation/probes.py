"""Simple models on frozen vectors: what is read off them says how good they are.

All share one signature: predict(train, label, test, classes) with train (n, d), label (n,), test (m, d);
`classes` is the number of classes, 0 for a regression; returns (m,) predicted numbers or classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import need

Array = NDArray[Any]
Predictor = Callable[[Array, Array, Array, int], Array]

ALPHAS = np.logspace(-3, 6, 10)


def ridge(train: Array, label: Array, test: Array, classes: int = 0) -> Array:
    """Ridge regression on standardised vectors, penalty by leave-one-out error; classes as one-hot, argmax."""
    weight, intercept, _ = fit_ridge(train, one_hot(label, classes))
    scores = test.astype(np.float64) @ weight + intercept
    return np.asarray(scores.argmax(1) if classes else scores[:, 0])


def fit_ridge(train: Array, targets: Array, alphas: Array = ALPHAS) -> tuple[Array, Array, Array]:
    """Weights (d, t), intercept (t,) for raw vectors and the leave-one-out mean squared error of every alpha.

    train (n, d), targets (n, t). One penalty for all targets, on weights of columns of unit deviation.
    One eigendecomposition of the smaller Gram matrix serves all penalties; with the leverage
    h_i = 1/n + x_i' (X'X + alpha)^-1 x_i the leave-one-out residual is r_i / (1 - h_i)
    (Allen 1974; the standardisation is not refitted).
    """
    x, y = train.astype(np.float64), targets.astype(np.float64)
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation <= 1e-9 * np.abs(mean)] = 1  # a constant column, up to rounding
    deviation[deviation == 0] = 1
    x, centre = (x - mean) / deviation, y.mean(0)
    y = y - centre
    if len(x) >= x.shape[1]:
        values, basis = np.linalg.eigh(x.T @ x)
        values, scores = np.maximum(values, 0), x @ basis
    else:
        values, left = np.linalg.eigh(x @ x.T)
        values, left = values[keep := values > 1e-12 * values[-1]], left[:, keep]
        scores, basis = left * np.sqrt(values), x.T @ left / np.sqrt(values)
    projected, squares = scores.T @ y, scores**2
    errors = np.empty(len(alphas))
    for i, alpha in enumerate(alphas):
        residual = y - scores @ (projected / (values + alpha)[:, None])
        leverage = 1 / len(x) + squares @ (1 / (values + alpha))
        kept = np.maximum(1 - leverage, 1e-12)
        errors[i] = np.mean(np.einsum("nt,nt->n", residual, residual) / kept**2) / y.shape[1]
    best = alphas[errors.argmin()]
    weight = basis @ (projected / (values + best)[:, None]) / deviation[:, None]
    return weight, centre - mean @ weight, errors


def logistic(train: Array, label: Array, test: Array, classes: int = 0) -> Array:
    """Multinomial logistic regression on standardised vectors (L2, C = 1, at most 300 steps); classes only."""
    if len(seen := np.unique(label)) == 1:
        return np.full(len(test), seen[0])
    linear_model = need("sklearn.linear_model", "train")
    mean, deviation = train.mean(0), train.std(0)
    deviation = np.where(deviation > 1e-9 * np.abs(mean), deviation, 1)
    model = linear_model.LogisticRegression(max_iter=300)
    with np.errstate(all="ignore"):
        return np.asarray(model.fit((train - mean) / deviation, label).predict((test - mean) / deviation))


def knn(train: Array, label: Array, test: Array, classes: int = 0, neighbours: int = 5) -> Array:
    """The mean, or the majority, of the labels of the nearest vectors by cosine."""
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30) for x in (train, test))
    neighbours = min(neighbours, len(train))
    found = np.argpartition(-(b @ a.T), neighbours - 1, axis=1)[:, :neighbours]
    return vote(label[found], np.ones(found.shape), classes)


def vote(labels: Array, weights: Array, classes: int) -> Array:
    """(m, k) labels and weights of neighbours -> (m,) weighted means, or the classes of largest weight."""
    if not classes:
        return np.asarray((weights * labels).sum(1) / weights.sum(1))
    votes = np.zeros((len(labels), classes))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), weights)
    return np.asarray(votes.argmax(1))


def one_hot(label: Array, classes: int) -> Array:
    """(n,) -> (n, classes) zeros and ones; without classes the numbers as one column."""
    return (label[:, None] == np.arange(classes)).astype(np.float64) if classes else label[:, None]


def score(truth: Array, predicted: Array, classes: int = 0) -> float:
    """Accuracy, or the coefficient of determination R2 (not clipped; constant truth: 1 if met exactly, else 0)."""
    if classes:
        return float(np.mean(truth == predicted))
    missed, spread = np.square(truth - predicted).sum(), np.square(truth - truth.mean()).sum()
    return float(1 - missed / spread) if spread else float(missed == 0)


PROBES: dict[str, Predictor] = {"ridge": ridge, "logistic": logistic, "knn": knn}
CLASSES_ONLY = frozenset({"logistic"})
