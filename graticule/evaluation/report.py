"""The table of an evaluation: scores by embedding, group of tasks and split, with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import SettingError, unknown
from graticule.evaluation.tasks import EXTRA, MAIN

ResultRow = dict[str, Any]
"""task, kind, embedding, split, fold, probe, metric, value (not clipped), n_train, n_test"""

BASELINE = "baseline"  # the probe of rows that read coordinates, not vectors
DRAWS = 1000  # of the bootstrap
Cell = NDArray[np.float64]


@dataclass(frozen=True)
class Report:
    """Result rows, one for every embedding, probe, task, split and fold, and their summary.

    The score of a task under a split is the mean over its folds, R2 clipped at 0 after that mean. A
    group is {main, extra, other} tasks x {regression, classification}; `mean` is the mean over groups.
    """

    rows: list[ResultRow]

    @cached_property
    def names(self) -> list[str]:
        """Embeddings (with the probe in brackets where several were used), in order of appearance."""
        return list(dict.fromkeys(self._name(row) for row in self.rows))

    @cached_property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(row["split"] for row in self.rows))

    @cached_property
    def groups(self) -> list[str]:
        found = {_group(row) for row in self.rows}
        return [f"{s} {kind}" for s in ("main", "extra", "other") for kind in _KINDS if f"{s} {kind}" in found]

    def score(self, name: str, task: str, split: str) -> float:
        """The score of one embedding on one task: mean over folds, R2 clipped at 0."""
        self._demand(name, split)
        folds = [folds for found, folds in self._values[name, split] if found == task]
        if not folds:
            raise SettingError(f"{name!r} has no result for task {task!r} under the split {split!r}.")
        return max(0.0, float(folds[0].mean()))

    def group_mean(self, name: str, group: str, split: str) -> float:
        """Mean score over the tasks of a group, NaN where the embedding has none of them."""
        scores = [self.score(name, task, split) for task in self._tasks(name, group, split)]
        return float(np.mean(scores)) if scores else float("nan")

    def mean(self, name: str, split: str) -> float:
        """Mean over the groups of tasks: called R for random folds, B for blocks."""
        means = [self.group_mean(name, group, split) for group in self.groups]
        return float(np.nanmean(means)) if not np.isnan(means).all() else float("nan")

    def interval(self, name: str, split: str, seed: int = 0) -> tuple[float, float]:
        """95 % interval of `mean`: tasks are drawn anew within their groups, folds within their tasks.

        It says how far the figure would move with other tasks and other blocks, and is wide; to tell
        two embeddings apart, use `difference`.
        """
        low, high = np.percentile(self._draws(name, split, seed), [2.5, 97.5])
        return float(low), float(high)

    def difference(self, name: str, other: str, split: str, seed: int = 0) -> tuple[float, float, float]:
        """`mean` of one embedding minus another and its 95 % interval, both on the same draws of tasks and folds."""
        draws = self._draws(name, split, seed) - self._draws(other, split, seed)
        tasks = [[task for task, _ in self._values[n, split]] for n in (name, other)]
        if tasks[0] != tasks[1]:
            raise SettingError(
                f"{name!r} and {other!r} were examined on different tasks: {len(tasks[0])} and {len(tasks[1])}."
            )
        low, high = np.percentile(draws, [2.5, 97.5])
        return self.mean(name, split) - self.mean(other, split), float(low), float(high)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and cells of the summary: a row an embedding, columns groups, then means with intervals, by split."""
        header = ["embedding"]
        header += [f"{group} {split}" for group in self.groups for split in self.splits]
        header += [f"mean {split} [95%]" for split in self.splits]
        body = []
        for name in self.names:
            cells = [_number(self.group_mean(name, group, s)) for group in self.groups for s in self.splits]
            body.append([name, *cells, *(self._mean_cell(name, split) for split in self.splits)])
        return header, body

    def __str__(self) -> str:
        header, body = self.table()
        split_words = [name.split(" ") for name in header]
        depth = max(map(len, split_words))
        lines = [[words[i] if i < len(words) else "" for words in split_words] for i in range(depth)] + body
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        aligned = ("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)
        return "\n".join(line.rstrip() for line in aligned)

    def to_markdown(self) -> str:
        """The summary as a Markdown table."""
        header, body = self.table()
        rule = ["---", *["---:"] * (len(header) - 1)]
        return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *body]) + "\n"

    def write(self, folder: str | Path) -> None:
        """Everything into a folder: scores.parquet, scores.json and table.md."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.to_parquet(folder / "scores.parquet")
        self.to_json(folder / "scores.json")
        (folder / "table.md").write_text(self.to_markdown(), encoding="utf-8")

    def to_json(self, path: str | Path) -> None:
        """Write the summary and all rows."""
        summary = {
            name: {
                split: {
                    "mean": _finite(self.mean(name, split)),
                    "interval": [_finite(x) for x in self.interval(name, split)],
                    "groups": {group: _finite(self.group_mean(name, group, split)) for group in self.groups},
                    "tasks": {task: max(0.0, float(folds.mean())) for task, folds in self._values[name, split]},
                }
                for split in self.splits
            }
            for name in self.names
        }
        text = json.dumps({"summary": summary, "rows": self.rows}, indent=1, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def to_parquet(self, path: str | Path) -> None:
        """Write all rows as a table."""
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(self.rows), path, compression="zstd")

    @cached_property
    def _several_probes(self) -> bool:
        return len({row["probe"] for row in self.rows} - {BASELINE}) > 1

    @cached_property
    def _values(self) -> dict[tuple[str, str], list[tuple[str, Cell]]]:
        """For every embedding and split the tasks and the values of their folds."""
        found: dict[tuple[str, str], dict[str, list[float]]] = {(n, s): {} for n in self.names for s in self.splits}
        for row in self.rows:
            found[self._name(row), row["split"]].setdefault(row["task"], []).append(row["value"])
        return {key: [(task, np.array(v)) for task, v in tasks.items()] for key, tasks in found.items()}

    @cached_property
    def _group_of(self) -> dict[str, str]:
        return {row["task"]: _group(row) for row in self.rows}

    def _name(self, row: ResultRow) -> str:
        bracket = self._several_probes and row["probe"] != BASELINE
        return f"{row['embedding']} ({row['probe']})" if bracket else str(row["embedding"])

    def _tasks(self, name: str, group: str, split: str) -> list[str]:
        self._demand(name, split)
        return [task for task, _ in self._values[name, split] if self._group_of[task] == group]

    def _demand(self, name: str, split: str) -> None:
        if name not in self.names:
            raise unknown("embedding", name, self.names)
        if split not in self.splits:
            raise unknown("split", split, self.splits)

    def _draws(self, name: str, split: str, seed: int) -> Cell:
        """(DRAWS,) bootstrap values of `mean`; the same draws for every embedding with the same tasks."""
        self._demand(name, split)
        rng = np.random.default_rng(seed)
        folds = dict(self._values[name, split])
        means = []
        for group in self.groups:
            tasks = [task for task in folds if self._group_of[task] == group]
            if tasks:
                drawn = [_bootstrap_folds(folds[task], rng) for task in tasks]
                chosen = rng.integers(len(tasks), size=(len(tasks), DRAWS))
                means.append(np.take_along_axis(np.array(drawn), chosen, axis=0).mean(0))
        return np.mean(means, axis=0) if means else np.full(DRAWS, np.nan)

    def _mean_cell(self, name: str, split: str) -> str:
        low, high = self.interval(name, split)
        return f"{_number(self.mean(name, split))} [{_number(low)}, {_number(high)}]"


_KINDS: Sequence[str] = ("regression", "classification")


def _group(row: ResultRow) -> str:
    which = "main" if row["task"] in MAIN else "extra" if row["task"] in EXTRA else "other"
    return f"{which} {row['kind']}"


def _bootstrap_folds(values: Cell, rng: np.random.Generator) -> Cell:
    """(DRAWS,) means over folds drawn with replacement, clipped at 0."""
    return np.asarray(np.maximum(values[rng.integers(len(values), size=(len(values), DRAWS))].mean(0), 0))


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.3f}"


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else value
