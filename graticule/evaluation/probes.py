"""Simple models on frozen vectors: what is read off them says how good they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from graticule.errors import unknown
from graticule.evaluation.boosting import boosting
from graticule.evaluation.gaussian import gp
from graticule.evaluation.inner import inner_folds, place_columns
from graticule.evaluation.kriging import neighbours
from graticule.evaluation.logistic import logistic
from graticule.evaluation.networks import mlp
from graticule.evaluation.predictors import Array, Inputs, Predictor, one_hot, score, vote

ALPHAS = np.logspace(-3, 6, 10)
CHUNK = 1000  # rows of cosines at a time
INNER_FOLDS, RESIDUAL_FOLDS = 3, 5


def ridge(train: Inputs, label: Array, test: Inputs, classes: int = 0) -> Array:
    """Ridge regression on standardised vectors, penalty by leave-one-out error; classes as one-hot, argmax."""
    scores = _fitted(train.vectors, one_hot(label, classes), test.vectors)
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


def kriged(train: Inputs, label: Array, test: Inputs, classes: int = 0) -> Array:
    """Ridge on the vectors, and its errors interpolated: what the vector does not say, the labels nearby do.

    Ordinary kriging (`kriging`) of the residuals of training rows, each predicted by a ridge on the other four
    fifths; classes as one-hot, argmax of the sum. Regression kriging, Odeh, McBratney and Chittleborough 1995.
    """
    targets = one_hot(label, classes).astype(np.float64)
    known, said = np.empty_like(targets), _fitted(train.vectors, targets, test.vectors)
    fold = inner_folds(label, RESIDUAL_FOLDS, classes)
    for k in np.unique(fold):
        rows = fold == k
        known[rows] = _fitted(train.vectors[~rows], targets[~rows], train.vectors[rows])
    residual = targets - known
    if len(train) > RESIDUAL_FOLDS and np.ptp(residual, axis=0).any():
        found, weights = neighbours(train.points, residual, test.points)
        said += np.einsum("mk,mkt->mt", weights, residual[found])
    return np.asarray(said.argmax(1) if classes else said[:, 0])


def _fitted(train: Array, targets: Array, test: Array) -> Array:
    """(m, t) what ridge says of test vectors; zero without training rows."""
    if not len(train):
        return np.zeros((len(test), targets.shape[1]))
    weight, intercept, _ = fit_ridge(train, targets)
    return np.asarray(test.astype(np.float64) @ weight + intercept)


def knn(
    train: Inputs, label: Array, test: Inputs, classes: int = 0, counts: Sequence[int] = (1, 3, 5, 10, 20, 50)
) -> Array:
    """The mean, or the majority, of the labels of the nearest vectors by cosine.

    How many: the one of `counts` that predicts best each training row from the others, the smallest of equals.
    """
    known, asked = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30) for x in (train.vectors, test.vectors)
    )
    counts = sorted({min(count, max(len(train) - 1, 1)) for count in counts})
    best = counts[0]
    if len(counts) > 1:
        others = label[_nearest(known, known, counts[-1], itself=False)]
        scores = [score(label, _mean(others[:, :count], classes), classes) for count in counts]
        best = counts[int(np.argmax(scores))]
    return _mean(label[_nearest(known, asked, best)], classes)


def _nearest(known: Array, asked: Array, count: int, itself: bool = True) -> NDArray[np.int64]:
    """(m, count) rows of `known` with the largest products, the nearest first; or without the row of that number."""
    found = np.empty((len(asked), count), dtype=np.int64)
    for start in range(0, len(asked), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(asked)))
        far = -(asked[rows] @ known.T)
        if not itself:
            far[rows - start, rows] = np.inf
        near = np.argpartition(far, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(far, near, 1), axis=1, kind="stable")
        found[rows] = np.take_along_axis(near, order, 1)
    return found


def _mean(labels: Array, classes: int) -> Array:
    return vote(labels, np.ones(labels.shape), classes)


def chosen(
    train: Inputs, label: Array, test: Inputs, classes: int = 0, among: Sequence[Predictor] = (ridge, knn, boosting)
) -> Array:
    """The answers of whichever of ridge, kNN and boosting is best within the training rows.

    Each predicts every third of the training rows, drawn at random and by class, from the others; the highest mean
    score (R2 or accuracy) wins, the first of equals. All training rows then train it. One that could not win if it
    answered all that is left without fault is asked no further.
    """
    fold = inner_folds(label, INNER_FOLDS, classes)
    sides = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(INNER_FOLDS)]
    sides = [(known, asked) for known, asked in sides if len(known) and len(asked)]

    def highest(predict: Predictor, least: float) -> float:
        """The mean score, or a bound on it that is not above `least`."""
        scores = np.ones(max(len(sides), 1))
        for i, (known, asked) in enumerate(sides):
            if scores.mean() <= least:
                break
            said = predict(train.take(known), label[known], train.take(asked), classes)
            scores[i] = score(label[asked], said, classes)
        return float(scores.mean())

    best, mark = among[0], -np.inf
    for predict in among:
        if (reached := highest(predict, mark)) > mark:
            best, mark = predict, reached
    return best(train, label, test, classes)


PROBES: dict[str, Predictor] = {
    "ridge": ridge,
    "chosen": chosen,
    "logistic": logistic,
    "knn": knn,
    "boosting": boosting,
    "mlp": mlp,
    "kriged": kriged,
    "gp": gp,
}
CLASSES_ONLY = frozenset({"logistic"})
PLACE = "+place"


def probe(name: str) -> Predictor:
    """The probe of this name; with "+place" it also sees the coordinates. SettingError for an unknown name."""
    plain = name.removesuffix(PLACE)
    if plain not in PROBES:
        raise unknown("probe", name, [p + end for p in PROBES for end in ("", PLACE)])
    if plain == name:
        return PROBES[plain]
    return OWN_PLACE.get(plain) or with_place(PROBES[plain])


def with_place(predictor: Predictor) -> Predictor:
    """The predictor on the vectors with x, y, z on the unit sphere and lon/lat degrees as further columns."""

    def predict(train: Inputs, label: Array, test: Inputs, classes: int = 0) -> Array:
        return predictor(_placed(train), label, _placed(test), classes)

    return predict


def _placed(rows: Inputs) -> Inputs:
    return Inputs(np.hstack([rows.vectors, place_columns(rows.points)]), rows.points)


OWN_PLACE: dict[str, Predictor] = {"boosting": partial(boosting, place=True)}  # not merely further columns
OWN_PLACE["chosen"] = partial(chosen, among=(with_place(ridge), with_place(knn), OWN_PLACE["boosting"], kriged))
