"""Gradient boosting of small trees on principal axes of the vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from graticule.errors import need
from graticule.evaluation.inner import inner_folds, place_columns, principal_axes, standardise
from graticule.evaluation.predictors import Array, Inputs, score

AXES, LEAVES = 32, 15
MOST_ROUNDS, LEAST_ROUNDS = 300, 10
TREES = 1200  # a round grows a tree for each class
INNER_FOLDS = 10
WORTH_CHOOSING = 50  # rounds: fewer cannot overfit much


def boosting(train: Inputs, label: Array, test: Inputs, classes: int = 0, place: bool = False) -> Array:
    """Histogram gradient boosting (scikit-learn) on the 32 largest principal axes of the standardised vectors.

    With `place` also on `place_columns`, which stay as they are: trees lose by a turn of their axes.

    Trees of 15 leaves, learning rate 0.1, for classes 0.3. The number of rounds is the best of 300 on a tenth of the
    training rows, then all of them are fitted. With many classes at most 1,200 trees are grown, but ten rounds: from
    25 classes on that bound replaces the choice, and with 100 classes boosting stays behind `ridge`.
    """
    if (label == label[0]).all():
        return np.full(len(test), label[0])
    if not len(test):
        return label[:0]
    x, asked = standardise(train.vectors, test.vectors)
    axes, _ = principal_axes(x, AXES)
    x, asked = x @ axes, asked @ axes
    if place:
        x, asked = np.hstack([x, place_columns(train.points)]), np.hstack([asked, place_columns(test.points)])
    rounds = _rounds(x, label, classes)
    return np.asarray(_grown(x, label, classes, rounds).predict(asked))


def _rounds(x: Array, label: Array, classes: int) -> int:
    """How many rounds are best for a tenth of the rows that the trees did not see, within the bound on trees."""
    seen = len(np.unique(label)) if classes else 1
    most = min(max(TREES // (seen if seen > 2 else 1), LEAST_ROUNDS), MOST_ROUNDS)
    fold = inner_folds(label, INNER_FOLDS, classes)
    grown, kept = fold > 0, fold == 0
    if most < WORTH_CHOOSING or not grown.any() or (label[grown] == label[grown][0]).all():
        return most
    stages = _grown(x[grown], label[grown], classes, most).staged_predict(x[kept])
    return 1 + int(np.argmax([score(label[kept], said, classes) for said in stages]))


def _grown(x: Array, label: Array, classes: int, rounds: int) -> Any:
    ensemble = need("sklearn.ensemble", "train")
    kind = ensemble.HistGradientBoostingClassifier if classes else ensemble.HistGradientBoostingRegressor
    model = kind(
        max_iter=rounds, max_leaf_nodes=LEAVES, min_samples_leaf=5, learning_rate=0.3 if classes else 0.1,
        l2_regularization=5 if classes else 1, early_stopping=False, random_state=0,
    )  # fmt: skip
    return model.fit(x, label)
