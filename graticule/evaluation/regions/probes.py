"""The probe of every method: a linear model on frozen vectors, its penalty chosen by leaving out groups of cities.

Columns are standardised on the training rows and clipped at 5 deviations, so that a city unlike all those of the
training cannot throw a prediction far off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need
from graticule.evaluation.inner import inner_folds, principal_axes, standardise
from graticule.evaluation.logistic import search
from graticule.evaluation.predictors import Array, one_hot
from graticule.evaluation.regions.scores import LEAST_ROWS, Scores, class_scores, enough, regression_scores
from graticule.evaluation.splits import balanced_folds

CLIP = 5.0  # deviations
ALPHAS = np.logspace(-1, 7, 17)
DECAYS = (1.0, 0.1, 1e-2, 1e-3, 1e-4)  # of squared weights beside the mean log loss, the most shrunken first
FOLDS = 5
STEPS, TOLERANCE = 150, 1e-6  # an end at 1e-9 changes 1 to 3 predictions in a thousand
CHOOSING_ROWS, CHOOSING_AXES, CHOOSING_STEPS, PATIENCE = 6000, 192, 20, 2  # how the decay is chosen


@dataclass(frozen=True)
class Sample:
    """Labelled rows of one city: vectors (n, d), label (n,) class numbers, (n,) or (n, columns) numbers."""

    vectors: Array
    label: Array

    def __post_init__(self) -> None:
        if np.ndim(self.vectors) != 2 or len(self.vectors) != len(self.label):
            raise DataError(
                f"A sample needs vectors (n, d) and n labels, got {self.vectors.shape} and {self.label.shape}."
            )


def score_cities(
    train: Mapping[str, Sample], test: Mapping[str, Sample], classes: int = 0, least: int = LEAST_ROWS
) -> dict[str, Scores]:
    """Scores of each test city with enough labels, by a probe that learns from all training cities.

    Vectors without columns, (n, 0), stand for no knowledge: the training mean, or the most frequent class.
    DataError when no training city has rows, or some vector is not finite.
    """
    known = {city: sample for city, sample in train.items() if len(sample.label)}
    asked = {city: sample for city, sample in test.items() if enough(sample.label, classes, least)}
    if not known:
        raise DataError(f"No training city has labelled rows, of {len(train)}.")
    if not asked:
        return {}
    x, y = (np.concatenate([getattr(s, part) for s in known.values()]) for part in ("vectors", "label"))
    group = np.repeat(np.arange(len(known)), [len(sample.label) for sample in known.values()])
    said = fit_predict(x, y, group, np.concatenate([sample.vectors for sample in asked.values()]), classes)
    ends = np.cumsum([len(sample.label) for sample in asked.values()])[:-1]
    parts = zip(asked.items(), np.split(said, ends), strict=True)
    if classes:
        return {city: class_scores(sample.label, own) for (city, sample), own in parts}
    return {city: regression_scores(sample.label, own, y.mean(0)) for (city, sample), own in parts}


def fit_predict(train: Array, label: Array, group: NDArray[np.int64], test: Array, classes: int = 0) -> Array:
    """Predictions for test vectors (m, d) by `ridge`, or with classes by `logistic`.

    train (n, d), label (n,) or (n, columns), group (n,): cities, or blocks; inner folds keep a group together.
    """
    for name, vectors in (("training", train), ("test", test)):
        if not np.isfinite(vectors).all():
            raise DataError(f"Some of the {len(vectors)} {name} vectors hold NaN or infinite numbers.")
    if not train.shape[1]:
        common = np.bincount(label).argmax() if classes else label.mean(0)
        return np.repeat(np.asarray(common)[None], len(test), axis=0)
    x, asked = standardise(train, test, np.float32 if classes else np.float64)
    for vectors in (x, asked):
        np.clip(vectors, -CLIP, CLIP, out=vectors)
    fold = group_folds(label, group, classes)
    return logistic(x, label, fold, asked, classes) if classes else ridge(x, label, fold, asked)


def group_folds(label: Array, group: NDArray[np.int64], classes: int = 0) -> NDArray[np.int64]:
    """(n,) numbers of at most five inner folds of whole groups, even by rows; of rows where there is one group."""
    groups = len(np.unique(group))
    return balanced_folds(group, min(FOLDS, groups)) if groups > 1 else inner_folds(label, FOLDS, classes)


def ridge(x: Array, label: Array, fold: NDArray[np.int64], asked: Array) -> Array:
    """Ridge regression, its penalty the one of least mean over the inner folds of their mean squared error.

    x (n, d) standardised, label (n,) or (n, columns), asked (m, d) -> (m,) or (m, columns). More columns than rows
    are first turned into as many as rows, which changes nothing. The products of each fold are taken once, so that a
    fold and a penalty cost one solution of a (d, d) system.
    """
    y = np.asarray(label, np.float64).reshape(len(x), -1)
    if x.shape[1] > len(x):
        _, _, axes = np.linalg.svd(x, full_matrices=False)
        x, asked = x @ axes.T, asked @ axes.T
    whole = _Products.of(x, y)
    errors = np.zeros(len(ALPHAS))
    for k in _folds(fold):
        part = _Products.of(x[fold == k], y[fold == k])
        for i, (weight, intercept) in enumerate(whole.without(part).solutions(ALPHAS)):
            errors[i] += np.mean(np.square(y[fold == k] - x[fold == k] @ weight - intercept))
    weight, intercept = next(whole.solutions(ALPHAS[[errors.argmin()]]))
    return np.asarray((asked @ weight + intercept).reshape(len(asked), *label.shape[1:]))


def logistic(x: Array, label: Array, fold: NDArray[np.int64], asked: Array, classes: int) -> Array:
    """Multinomial logistic regression; its decay the one of most hits in the inner folds.

    x (n, d) standardised, label (n,) class numbers, asked (m, d) -> (m,) class numbers. Classes are weighed alike, in
    the fit and in the hits, since their frequencies differ between cities and macro-F1 asks for all of them. The
    decay is chosen on at most 6,000 rows, drawn with a fixed seed, and the first 192 principal axes; the fit, on all
    rows and axes, starts from the mean of the folds' fits.
    """
    seen, y = np.unique(label, return_inverse=True)
    if len(seen) == 1:
        return np.full(len(asked), seen[0])
    x = x.astype(np.float32, copy=False)
    axes, values = principal_axes(x)
    scores, spread, truth = x @ axes, values / len(x), one_hot(y, len(seen))
    rows = np.sort(np.random.default_rng(0).permutation(len(x))[:CHOOSING_ROWS])
    decay, *start = _chosen(scores[rows, :CHOOSING_AXES], spread[:CHOOSING_AXES], truth[rows], fold[rows])
    weight, intercept = next(search(scores, spread, truth, [decay], STEPS, class_weights(y), start, TOLERANCE))
    return np.asarray(seen[(asked @ (axes @ weight) + intercept).argmax(1)])


@dataclass(frozen=True)
class _Products:
    """What ridge regression needs of some rows: their number, sums and products."""

    n: int
    x: Array
    y: Array
    xx: Array
    xy: Array

    @classmethod
    def of(cls, x: Array, y: Array) -> _Products:
        return cls(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y)

    def without(self, part: _Products) -> _Products:
        return _Products(self.n - part.n, self.x - part.x, self.y - part.y, self.xx - part.xx, self.xy - part.xy)

    def solutions(self, alphas: Array) -> Iterator[tuple[Array, Array]]:
        """Weights (d, t) and intercept (t,) for every penalty."""
        mean, centre = self.x / self.n, self.y / self.n
        centred = self.xx - self.n * np.outer(mean, mean)
        target = self.xy - self.n * np.outer(mean, centre)
        solve = need("scipy.linalg", "train").solve
        for alpha in alphas:
            weight = solve(centred + alpha * np.eye(len(centred)), target, assume_a="pos")
            yield weight, centre - mean @ weight


def _folds(fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the inner folds; none where there is only one, which leaves nothing to learn from."""
    numbers = np.unique(fold)
    return numbers if len(numbers) > 1 else numbers[:0]


def _chosen(scores: Array, spread: Array, truth: Array, fold: NDArray[np.int64]) -> tuple[float, Array, Array]:
    """The decay of most hits in the inner folds, and the means of weights and intercepts of the folds' fits with it.

    scores (n, k) on principal axes, spread (k,) as for `search`, truth (n, t) zeros and ones. No weaker decay is tried
    once two in succession were worse than the best.
    """
    folds, y = _folds(fold), truth.argmax(1)
    if not len(folds):
        return DECAYS[0], np.zeros((len(spread), truth.shape[1])), np.zeros(truth.shape[1])
    weights, hits, means = class_weights(y), list[float](), list[tuple[Array, Array]]()
    searches = [
        search(scores[fold != k], spread, truth[fold != k], DECAYS, CHOOSING_STEPS, class_weights(y[fold != k]))
        for k in folds
    ]
    for fits in zip(*searches, strict=True):
        told = np.empty_like(y)
        for k, (weight, intercept) in zip(folds, fits, strict=True):
            told[fold == k] = (scores[fold == k] @ weight + intercept).argmax(1)
        hits.append(float(weights @ (told == y)))
        means.append((np.mean([w for w, _ in fits], axis=0), np.mean([c for _, c in fits], axis=0)))
        if len(hits) - 1 - np.argmax(hits) == PATIENCE:
            break
    best = int(np.argmax(hits))
    return DECAYS[best], *means[best]


def class_weights(y: Array) -> NDArray[np.float64]:
    """(n,) weights of rows of mean 1, every class having the same part of them."""
    count = np.bincount(y)
    return np.asarray(len(y) / count[y] / np.count_nonzero(count))
