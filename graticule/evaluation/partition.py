"""What one source knows of a task and another does not: held-out scores of all sets of sources, and their parts.

Commonality analysis, also called variance partitioning (Mood 1971; Borcard et al. 1992; Nimon and Oswald
2013), on held-out rows instead of the fitted ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from graticule.errors import DataError, SettingError, need, unknown
from graticule.evaluation.inner import standardise
from graticule.evaluation.predictors import Array, one_hot, score
from graticule.evaluation.probes import ALPHAS, fit_ridge
from graticule.evaluation.splits import Folds, Rows
from graticule.evaluation.uncertainty import interval, score_draws

NOTHING = "nothing"  # the set without any block: the mean or the majority of the training rows
TOTAL = "total"
JOIN = " + "


@dataclass(frozen=True)
class Partition:
    """Predictions of every set of blocks for the test rows of all folds, and what follows from them.

    blocks       names; a set of them is written as its names in this order, joined by " + "; the empty set "nothing"
    classes      number of classes, 0 for a regression
    row, fold    (m,) rows of the label that were tested, and in which fold
    truth        (m,) their labels; `predicted` (m,) what each set of blocks said of them

    A part is what is common to exactly these blocks: `unique("text")` is lost when text is taken away and
    brought by no other block; `shared("text", "image")` is lost only when both are. All parts add up to `total`,
    the score of all blocks minus that of none. Scores are held out and not clipped: more columns can make them
    worse, so a unique part can be a little negative, and a shared part is negative where blocks help each other
    (suppression). Both are given as they are.
    """

    blocks: tuple[str, ...]
    classes: int
    row: Rows
    fold: Rows
    truth: Array
    predicted: dict[str, Array]

    @cached_property
    def scores(self) -> dict[str, float]:
        """R2 or accuracy of every set of blocks: mean over the folds, not clipped."""
        each = [self.fold == k for k in np.unique(self.fold)]
        return {
            name: float(np.mean([score(self.truth[rows], said[rows], self.classes) for rows in each]))
            for name, said in self.predicted.items()
        }

    @cached_property
    def parts(self) -> dict[str, float]:
        """The part common to exactly each set of blocks, in units of the score; together they make `total`."""
        return {name: float(value) for name, value in _parts(self.blocks, self.scores).items()}

    @property
    def total(self) -> float:
        """The score of all blocks minus that of none."""
        return self.scores[_name(self.blocks)] - self.scores[NOTHING]

    def unique(self, block: str) -> float:
        """What this block adds to all others."""
        return self.shared(block)

    def shared(self, *blocks: str) -> float:
        """The part common to exactly these blocks, in any order, and to no other."""
        for block in blocks:
            if block not in self.blocks:
                raise unknown("block", block, self.blocks)
        return self.parts[_name(block for block in self.blocks if block in blocks)]

    def intervals(self, area: Array, draws: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals of all parts and of the total, on the same draws of areas; the ridges stay.

        area (n,) names the spatial block of every row of the label, for instance `resampling_blocks(points)`.
        """
        if len(area) <= self.row.max():
            raise DataError(f"Expected a spatial block for every row of the label, got {len(area)}.")
        tested = np.asarray(area)[self.row]
        drawn = {
            name: score_draws(self.truth, said, self.fold, tested, self.classes, draws, seed)
            for name, said in self.predicted.items()
        }
        values = _parts(self.blocks, drawn) | {TOTAL: drawn[_name(self.blocks)] - drawn[NOTHING]}
        return {name: interval(value) for name, value in values.items()}

    def summary(self) -> dict[str, Any]:
        """Scores, parts and total in JSON types."""
        return {"blocks": list(self.blocks), "scores": self.scores, "parts": self.parts, TOTAL: self.total}


def partition(blocks: Mapping[str, Array], label: Array, folds: Folds, classes: int = 0) -> Partition:
    """Fit ridges on every set of blocks of predictors, ask them about the test rows, and take the scores apart.

    blocks (n, d_b) predictors by name; label (n,) numbers, or class numbers below `classes`; folds (train rows,
    test rows). Every block has a penalty of its own (banded ridge, Nunez-Elizalde et al. 2019) from `ALPHAS`, so that
    256 columns do not drown three, by the least leave-one-out error of the training rows: `fit_ridge` for a block
    alone, and from there sets of blocks walk on that grid, one block after the other, while the error falls.
    (Generalised cross-validation needs no leverages, but fails at isolated places: R2 .77 instead of .95 for
    air temperature.) Sets are 2 to the number of blocks: three blocks make eight.

    Raises DataError for blocks of other lengths than the label, SettingError for names that cannot be told apart.
    """
    values = _demand_blocks(blocks, label, folds)
    sets = [s for size in range(1, len(values) + 1) for s in combinations(values, size)]
    said: dict[str, list[Array]] = {name: [] for name in (NOTHING, *map(_name, sets))}
    for train, test in folds:
        targets = one_hot(label[train], classes).astype(np.float64)
        seen, asked = _standardised(values, train, test)
        targets, centre = targets - targets.mean(0), targets.mean(0)
        said[NOTHING].append(_answers(np.zeros((len(test), 1)), centre, classes))
        alone: dict[str, int] = {}
        for names in sets:
            if len(names) == 1:
                weight, _, errors = fit_ridge(seen[names[0]], targets)
                alone[names[0]] = int(errors.argmin())
            else:
                weight = _descend([seen[name] for name in names], targets, [alone[name] for name in names])
            x = np.hstack([asked[name] for name in names])
            said[_name(names)].append(_answers(x @ weight, centre, classes))
    row = np.concatenate([test for _, test in folds])
    fold = np.repeat(np.arange(len(folds)), [len(test) for _, test in folds])
    return Partition(tuple(values), classes, row, fold, label[row], {k: np.concatenate(v) for k, v in said.items()})


def _descend(blocks: Sequence[Array], targets: Array, start: Sequence[int]) -> Array:
    """Weights with penalties from which no step of one block on the grid ALPHAS lowers the leave-one-out error."""
    linalg, x = need("scipy.linalg", "train"), np.hstack(blocks)
    gram, cross, widths = x.T @ x, x.T @ targets, [block.shape[1] for block in blocks]
    tried: dict[tuple[int, ...], tuple[float, Array]] = {}

    def fit(at: tuple[int, ...]) -> tuple[float, Array]:
        """Error and weights A^-1 X'Y with A = X'X + L = U'U: the leverage x'A^-1 x is the squared length of U'^-1 x."""
        if at not in tried:
            factor, _ = linalg.lapack.dpotrf(gram + np.diag(np.repeat(ALPHAS[list(at)], widths)))
            weight, _ = linalg.lapack.dpotrs(factor, cross)
            leverage = 1 / len(x) + np.square(linalg.blas.dtrsm(1.0, factor, x.T, trans_a=1)).sum(0)
            residual = np.square(targets - x @ weight).sum(1)
            tried[at] = float(np.mean(residual / np.maximum(1 - leverage, 1e-12) ** 2)), weight
        return tried[at]

    at, before = tuple(start), np.inf
    while fit(at)[0] < before:
        before = fit(at)[0]
        for k in range(len(at)):
            for step in (1, -1):
                while 0 <= at[k] + step < len(ALPHAS) and fit(_moved(at, k, step))[0] < fit(at)[0]:
                    at = _moved(at, k, step)
    return fit(at)[1]


def _moved(at: tuple[int, ...], k: int, step: int) -> tuple[int, ...]:
    return (*at[:k], at[k] + step, *at[k + 1 :])


def _standardised(blocks: Mapping[str, Array], train: Rows, test: Rows) -> tuple[dict[str, Array], dict[str, Array]]:
    """Columns with mean 0 and deviation 1 over the training rows; constant ones become 0 there."""
    seen, asked = {}, {}
    for name, block in blocks.items():
        seen[name], asked[name] = standardise(block[train], block[test])
    return seen, asked


def _answers(scores: Array, centre: Array, classes: int) -> Array:
    """(m, t) deviations from the centre -> (m,) numbers or classes."""
    values = scores + centre
    return np.asarray(values.argmax(1) if classes else values[:, 0])


def _parts(blocks: Sequence[str], scores: Mapping[str, Any]) -> dict[str, Any]:
    """Nimon and Oswald 2013: C(S) = sum over T in S of (-1)^(|S| - |T| + 1) f(all without T)."""
    parts = {}
    for part in (s for size in range(1, len(blocks) + 1) for s in combinations(blocks, size)):
        inside = (t for size in range(len(part) + 1) for t in combinations(part, size))
        parts[_name(part)] = sum(
            (-1) ** (len(part) - len(t) + 1) * scores[_name(b for b in blocks if b not in t)] for t in inside
        )
    return parts


def _name(names: Iterable[str]) -> str:
    return JOIN.join(names) or NOTHING


def _demand_blocks(blocks: Mapping[str, Array], label: Array, folds: Folds) -> dict[str, Array]:
    if not blocks or not folds:
        raise SettingError(f"A partition needs at least one block and one fold, got {len(blocks)} and {len(folds)}.")
    for name, block in blocks.items():
        if name in ("", NOTHING, TOTAL) or JOIN in name:
            raise SettingError(f"A block cannot be called {name!r}: choose a name without {JOIN!r}.")
        if block.ndim != 2 or len(block) != len(label) or not block.shape[1]:
            raise DataError(f"Block {name!r} must be ({len(label)}, d) with d > 0 as the label, got {block.shape}.")
        if len(bad := np.flatnonzero(~np.isfinite(block).all(1))):
            raise DataError(f"Block {name!r} must be finite; row {bad[0]} is not, {len(bad)} of {len(block)} are not.")
    return {name: block.astype(np.float64) for name, block in blocks.items()}
