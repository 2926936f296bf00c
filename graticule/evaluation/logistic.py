"""Multinomial logistic regression, its strength chosen within the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from graticule.errors import need
from graticule.evaluation.inner import inner_folds, principal_axes, standardise
from graticule.evaluation.predictors import Array, Inputs, one_hot

STRENGTHS = (0.001, 0.03, 1.0, 30.0)  # the C of scikit-learn, the most shrunken weights first
FOLDS, ROUGH_STEPS, STEPS = 3, 30, 200
STEEPEST = 1e-5  # the largest slope of the mean loss at which a search ends


def logistic(train: Inputs, label: Array, test: Inputs, classes: int) -> Array:
    """The likeliest class; the strength is the one of most hits in three stratified folds of the training rows."""
    strength = chosen_strength(train.vectors, label)
    return np.asarray(probabilities(train.vectors, label, test.vectors, classes, strength).argmax(1))


def probabilities(train: Array, label: Array, test: Array, classes: int, strength: float) -> Array:
    """(m, classes) probabilities of test vectors: `LogisticRegression(C=strength)` on standardised columns.

    train (n, d), label (n,) class numbers, test (m, d). Minimises the sum of the log losses plus |W|^2 / 2C, without
    penalty on the intercepts, in at most 200 steps; two classes have two weight vectors, which scikit-learn says with
    twice the C. A class without training rows has probability zero.
    """
    seen, label = np.unique(label, return_inverse=True)
    x, asked = standardise(train, test)
    weight, intercept = next(path(x, one_hot(label, len(seen)), [1 / (len(x) * strength)], STEPS))
    said = np.zeros((len(test), classes))
    said[:, seen] = _softmax(asked @ weight + intercept)
    return said


def chosen_strength(train: Array, label: Array) -> float:
    """The strength of most hits in inner folds of vectors (n, d), the smallest of equals.

    The fits of a fold start from one another and end after 30 steps each.
    """
    seen, label = np.unique(label, return_inverse=True)
    if len(seen) == 1:
        return STRENGTHS[0]
    hits, fold = np.zeros(len(STRENGTHS)), inner_folds(label, FOLDS, len(seen))
    for k in range(FOLDS):
        x, asked = standardise(train[fold != k], train[fold == k])
        decays = [1 / (len(x) * strength) for strength in STRENGTHS]
        found = path(x, one_hot(label[fold != k], len(seen)), decays, ROUGH_STEPS)
        for i, (weight, intercept) in enumerate(found):
            hits[i] += (label[fold == k] == (asked @ weight + intercept).argmax(1)).sum()
    return STRENGTHS[hits.argmax()]


def path(
    x: Array, truth: Array, decays: Sequence[float], steps: int, importance: Array | None = None
) -> Iterator[tuple[Array, Array]]:
    """Weights (d, t) and intercepts (t,) for each decay, each search starting from the last result.

    x (n, d) standardised, truth (n, t) zeros and ones, importance (n,) of the rows, of mean 1. Minimises the mean log
    loss + decay |W|^2 / 2, by `search` on principal axes: far fewer steps than in the columns themselves.
    """
    axes, values = principal_axes(x)
    for weight, intercept in search(x @ axes, values / len(x), truth, decays, steps, importance):
        yield axes @ weight, intercept


def search(
    scores: Array,
    spread: Array,
    truth: Array,
    decays: Sequence[float],
    steps: int,
    importance: Array | None = None,
    start: Sequence[Array] | None = None,
    tolerance: float = 1e-9,
) -> Iterator[tuple[Array, Array]]:
    """Weights (k, t) and intercepts (t,) as `path` gives them, for scores (n, k) on principal axes.

    spread (k,): mean squares of the scores. start: weights (j, t) of the first j axes and intercepts (t,) from which
    the first search starts. A search ends when a step lessens the loss by less than `tolerance` of it. L-BFGS over
    weights that are each divided by the root of a bound on its curvature, spread / 2 + decay (Bohning 1992). Inside,
    classes are rows: twice as fast as columns.
    """
    minimize = need("scipy.optimize", "train").minimize
    scores, truth = scores.astype(np.float32, copy=False), np.ascontiguousarray(truth.T, dtype=np.float32)
    n, shape = len(scores), (len(truth), len(spread) + 1)
    weight, intercept = np.zeros((len(truth), len(spread))), np.zeros(len(truth))
    if start is not None:
        weight[:, : len(start[0])], intercept = start[0].T, start[1]
    of_rows = None if importance is None else importance.astype(np.float32)
    for decay in decays:
        scale = (spread / 2 + decay) ** -0.5

        def loss(flat: Array, scale: Array = scale, decay: float = decay) -> tuple[float, Array]:
            inner = flat.reshape(shape)
            weight = scale * inner[:, :-1]
            logits = weight.astype(np.float32) @ scores.T + inner[:, -1:].astype(np.float32)
            value, slope = _log_loss(logits, truth, of_rows)
            by_weight = scale * ((slope @ scores) / n + decay * weight)
            by_intercept = slope.sum(1, keepdims=True, dtype=np.float64) / n
            return value / n + decay / 2 * np.square(weight).sum(), np.hstack([by_weight, by_intercept]).ravel()

        first = np.hstack([weight / scale, intercept[:, None]]).ravel()
        options = {"maxiter": steps, "gtol": STEEPEST, "ftol": tolerance}
        found = minimize(loss, first, jac=True, method="L-BFGS-B", options=options).x.reshape(shape)
        weight, intercept = scale * found[:, :-1], found[:, -1]
        yield weight.T, intercept


def _log_loss(logits: Array, truth: Array, importance: Array | None) -> tuple[float, Array]:
    """The sum over rows of minus the log probability of the true class, and its slopes by the logits (t, n)."""
    logits = logits - logits.max(0)
    likelihood = np.exp(logits)
    total = likelihood.sum(0)
    losses = np.log(total) - np.einsum("tn,tn->n", logits, truth)
    slope = likelihood / total - truth
    if importance is not None:
        losses, slope = importance * losses, importance * slope
    return float(losses.sum(dtype=np.float64)), slope


def _softmax(logits: Array) -> Array:
    likelihood = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(likelihood / likelihood.sum(1, keepdims=True))
