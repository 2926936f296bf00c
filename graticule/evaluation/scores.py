"""Outcomes by embedding, task and split, and their means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from graticule.errors import SettingError, unknown
from graticule.evaluation.outcomes import POOLED, Outcome
from graticule.evaluation.tasks import EXTRA, MAIN, Task

BASELINE = "baseline"  # the probe of rows that read coordinates, not vectors


@dataclass(frozen=True)
class Scores:
    """Outcomes of every embedding (or baseline), probe, task and split.

    The score of a task under a split is the mean over its folds, R2 clipped at 0 after that mean (all rows at
    once where folds are countries). A group is {main, extra, other} tasks x {regression, classification};
    `mean` is the mean over groups.
    """

    outcomes: list[Outcome]

    @cached_property
    def names(self) -> list[str]:
        """Embeddings (with the probe in brackets where several were used), in order of appearance."""
        return list(dict.fromkeys(self.name_of(outcome) for outcome in self.outcomes))

    @cached_property
    def probes(self) -> list[str]:
        """Probes of the embeddings, in order of appearance."""
        return list(dict.fromkeys(outcome.probe for outcome in self.outcomes if outcome.probe != BASELINE))

    @cached_property
    def first_probe(self) -> str:
        """The probe with most outcomes, of equals the first: one for classes only does not speak for all tasks.

        Where no embedding could be examined, the name under which the baselines stand.
        """
        counts = Counter(outcome.probe for outcome in self.outcomes)
        return max(self.probes, key=counts.__getitem__, default=BASELINE)

    def by_probe(self, probe: str) -> dict[str, str]:
        """Names of the baselines, and of the embeddings under one probe, by the plain name of each."""
        return {o.embedding: self.name_of(o) for o in self.outcomes if o.probe in (BASELINE, probe)}

    @cached_property
    def splits(self) -> list[str]:
        """Names of the splits, in order of appearance."""
        return list(dict.fromkeys(outcome.split for outcome in self.outcomes))

    @cached_property
    def curves(self) -> list[str]:
        """The splits that are points of a few-shot curve."""
        return [split for split in self.splits if split.startswith("few-shot")]

    @cached_property
    def whole(self) -> list[str]:
        """The splits that are no points of a curve; where there are no others, the point with most labels."""
        return [split for split in self.splits if split not in self.curves] or self.splits[-1:]

    @cached_property
    def groups(self) -> list[str]:
        """Groups of tasks that occur."""
        found = {group_of(outcome.task) for outcome in self.outcomes}
        return [f"{s} {kind}" for s in ("main", "extra", "other") for kind in _KINDS if f"{s} {kind}" in found]

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks as they were asked, by name."""
        return {outcome.task.name: outcome.task for outcome in self.outcomes}

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for every outcome and fold; `value` is not clipped."""
        return [row for outcome in self.outcomes for row in _rows(outcome)]

    def outcome(self, name: str, task: str, split: str) -> Outcome:
        """The outcome of one embedding on one task under one split."""
        self._demand(name, split)
        if task not in self._found[name, split]:
            raise SettingError(f"{name!r} has no result for task {task!r} under the split {split!r}.")
        return self._found[name, split][task]

    def score(self, name: str, task: str, split: str) -> float:
        """The score of one embedding on one task: mean over folds, R2 clipped at 0."""
        return self.outcome(name, task, split).score

    def tasks_of(self, name: str, split: str, group: str | None = None) -> list[str]:
        """Tasks that an embedding answered under a split."""
        self._demand(name, split)
        return [t for t in self._found[name, split] if group is None or group_of(self.tasks[t]) == group]

    def group_mean(self, name: str, group: str, split: str) -> float:
        """Mean score over the tasks of a group, NaN where the embedding has none of them."""
        scores = [self.score(name, task, split) for task in self.tasks_of(name, split, group)]
        return float(np.mean(scores)) if scores else float("nan")

    def mean(self, name: str, split: str) -> float:
        """Mean over the groups of tasks: called R for random folds, B for blocks."""
        means = [self.group_mean(name, group, split) for group in self.groups]
        return float(np.nanmean(means)) if not np.isnan(means).all() else float("nan")

    def name_of(self, outcome: Outcome) -> str:
        """The name under which an outcome stands in the tables."""
        bracket = len(self.probes) > 1 and outcome.probe != BASELINE
        return f"{outcome.embedding} ({outcome.probe})" if bracket else outcome.embedding

    @cached_property
    def _found(self) -> dict[tuple[str, str], dict[str, Outcome]]:
        """For every embedding and split the outcomes by task."""
        found: dict[tuple[str, str], dict[str, Outcome]] = {(n, s): {} for n in self.names for s in self.splits}
        for outcome in self.outcomes:
            found[self.name_of(outcome), outcome.split][outcome.task.name] = outcome
        return found

    def _demand(self, name: str, split: str) -> None:
        if name not in self.names:
            raise unknown("embedding", name, self.names)
        if split not in self.splits:
            raise unknown("split", split, self.splits)


_KINDS: Sequence[str] = ("regression", "classification")


def group_of(task: Task) -> str:
    """The group of tasks whose mean a task enters."""
    which = "main" if task.name in MAIN else "extra" if task.name in EXTRA else "other"
    return f"{which} {task.kind}"


def _rows(outcome: Outcome) -> list[dict[str, Any]]:
    n_test = np.bincount(outcome.answers.fold)
    pooled = outcome.split in POOLED
    return [
        {
            "task": outcome.task.name,
            "kind": outcome.task.kind,
            "embedding": outcome.embedding,
            "split": outcome.split,
            "fold": fold,
            "probe": outcome.probe,
            "metric": "accuracy" if outcome.task.classes else "r2",
            "value": float(value),
            "n_train": int(outcome.answers.n_train.min() if pooled else outcome.answers.n_train[fold]),
            "n_test": int(n_test.sum() if pooled else n_test[fold]),
        }
        for fold, value in enumerate(outcome.fold_scores)
    ]
