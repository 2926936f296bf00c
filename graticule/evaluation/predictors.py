"""What every probe and baseline is: training rows, their labels and test rows in, predictions out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.geo.coords import Points

Array = NDArray[Any]


@dataclass(frozen=True)
class Inputs:
    """What may be known of some rows: `vectors` (n, d) of an embedding, `points` (n, 2) lon/lat degrees."""

    vectors: Array
    points: Points

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: NDArray[np.int64]) -> Inputs:
        """The same for these rows only."""
        return Inputs(self.vectors[rows], self.points[rows])


Predictor = Callable[[Inputs, Array, Inputs, int], Array]
"""predict(train, label, test, classes): label (n,) numbers or class numbers; `classes` how many, 0 for a
regression; returns (m,) predicted numbers or class numbers of the test rows. Deterministic."""


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
    if spread == 0:
        return float(missed == 0)
    return float(1 - missed / spread)
