"""The result of an examination: scores by embedding, group of tasks and split, with intervals and paired tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import SettingError
from graticule.evaluation import ranks
from graticule.evaluation.leakage import Leakage
from graticule.evaluation.outcomes import POOLED
from graticule.evaluation.plain import plain
from graticule.evaluation.scores import Scores
from graticule.evaluation.uncertainty import Paired, holm, paired_test, resampling_blocks, score_draws

DRAWS = 1000  # of the bootstrap
LEAKY = 0.1  # the leak score from which on the text of a report names a split
Cell = NDArray[np.float64]


@dataclass(frozen=True)
class Failure:
    """What could not be examined, and why, in one sentence."""

    task: str
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.task} ({self.where}): {self.reason}"


@dataclass(frozen=True)
class Comparison:
    """One embedding minus another on one task: difference in R2 or accuracy, interval, p, and p after Holm."""

    task: str
    difference: float
    low: float
    high: float
    p_value: float
    adjusted: float


@dataclass(frozen=True)
class Report(Scores):
    """Scores with intervals and paired tests, what failed, and what leaks: all draw spatial blocks, not rows.

    Blocks are about 2,000 km wide, smaller where a task is local.
    """

    failures: list[Failure] = field(default_factory=list)
    leaks: Mapping[tuple[str, str], Leakage] = field(default_factory=dict)

    def task_interval(self, name: str, task: str, split: str) -> tuple[float, float]:
        """95 % interval of a score; spatial blocks of test rows are drawn anew, the fitted probes stay."""
        low, high = np.percentile(self._draws[name, task, split], [2.5, 97.5])
        return float(low), float(high)

    def interval(self, name: str, split: str, seed: int = 0) -> tuple[float, float]:
        """95 % interval of `mean`: tasks are drawn anew within their groups, blocks within their tasks.

        It says how far the figure would move with other tasks and other places, and is wide; to tell
        two embeddings apart, use `difference` or `compare`.
        """
        low, high = np.percentile(self._mean_draws(name, split, seed), [2.5, 97.5])
        return float(low), float(high)

    def difference(self, name: str, other: str, split: str, seed: int = 0) -> tuple[float, float, float]:
        """`mean` of one embedding minus another and its 95 % interval, both on the same draws of tasks and blocks."""
        self._same_tasks(name, other, split)
        draws = self._mean_draws(name, split, seed) - self._mean_draws(other, split, seed)
        low, high = np.percentile(draws, [2.5, 97.5])
        return self.mean(name, split) - self.mean(other, split), float(low), float(high)

    def compare(self, name: str, other: str, split: str) -> list[Comparison]:
        """Paired tests with spatial blocks as the unit, one a task, p corrected for their number (Holm 1979).

        A score that is clipped at 0 enters as the mean truth of each fold: what is worse than that can be so without
        bound, and says nothing more.
        """
        self._same_tasks(name, other, split)
        found: list[tuple[str, Paired]] = []
        for task in self.tasks_of(name, split):
            a, b = self.outcome(name, task, split), self.outcome(other, task, split)
            block = self._blocks[task][a.answers.row]
            found.append((task, paired_test(a.truth, a.clipped, b.clipped, block, len(a.task.classes))))
        adjusted = holm(np.array([paired.p_value for _, paired in found]))
        return [
            Comparison(task, paired.difference, paired.low, paired.high, paired.p_value, float(p))
            for (task, paired), p in zip(found, adjusted, strict=True)
        ]

    def ranking(self, split: str, names: Sequence[str] | None = None) -> ranks.Ranking:
        """Mean ranks over the tasks that all of `names` answered, with Friedman's test and critical difference."""
        chosen = self.names if names is None else list(names)
        shared = [t for t in self.tasks if all(t in self._found[name, split] for name in chosen)]
        return ranks.ranking(chosen, np.array([[self.score(n, t, split) for n in chosen] for t in shared]))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and cells of the summary: a row an embedding, columns groups, then means with intervals, by split."""
        splits = [split for split in self.splits if split not in self.curves] or self.splits
        header = ["embedding", *(f"{group} {split}" for group in self.groups for split in splits)]
        header += [f"mean {split} [95%]" for split in splits]
        body = []
        for name in self.names:
            cells = [number(self.group_mean(name, group, s)) for group in self.groups for s in splits]
            body.append([name, *cells, *(self._mean_cell(name, split) for split in splits)])
        return header, body

    def __str__(self) -> str:
        header, body = self.table()
        split_words = [name.split(" ") for name in header]
        depth = max(map(len, split_words))
        lines = [[words[i] if i < len(words) else "" for words in split_words] for i in range(depth)] + body
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        aligned = ("  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines)
        text = "\n".join(line.rstrip() for line in aligned)
        leaky = [f"{task} ({split}): {leak}" for (task, split), leak in self.leaks.items() if leak.score >= LEAKY]
        further = {"Leaking splits:": leaky, "Not examined:": [str(failure) for failure in self.failures]}
        return "\n".join([text, *(line for title, lines in further.items() if lines for line in ("", title, *lines))])

    def to_markdown(self) -> str:
        """The summary as a Markdown table."""
        header, body = self.table()
        rule = ["---", *["---:"] * (len(header) - 1)]
        return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *body]) + "\n"

    def write(self, folder: str | Path) -> None:
        """Every number into a folder: scores.parquet, scores.json and table.md."""
        import pyarrow as pa
        from pyarrow import parquet

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(self.rows), folder / "scores.parquet", compression="zstd")
        text = json.dumps(plain(self.summary()), indent=1, allow_nan=False)
        (folder / "scores.json").write_text(text + "\n", encoding="utf-8")
        (folder / "table.md").write_text(self.to_markdown(), encoding="utf-8")

    def summary(self) -> dict[str, Any]:
        """Means, intervals and scores of every embedding and split, ranks, failures and leaks."""
        scores = {name: {s: self._summary_of(name, s) for s in self.splits} for name in self.names}
        leaks = [{"task": t, "split": s, "sentence": str(leak)} | asdict(leak) for (t, s), leak in self.leaks.items()]
        ranks = {s: asdict(self.ranking(s)) for s in self.splits if self._rankable(s)}
        return {"scores": scores, "ranks": ranks, "failures": [asdict(f) for f in self.failures], "leaks": leaks}

    def _rankable(self, split: str) -> bool:
        return len(self.names) > 1 and any(all(t in self._found[n, split] for n in self.names) for t in self.tasks)

    def _summary_of(self, name: str, split: str) -> dict[str, Any]:
        tasks = self.tasks_of(name, split)
        return {
            "mean": self.mean(name, split),
            "interval": self.interval(name, split) if tasks else None,
            "groups": {group: self.group_mean(name, group, split) for group in self.groups},
            "tasks": {t: {"score": self.score(name, t, split), "interval": self.task_interval(name, t, split)}
                      for t in tasks},
        }  # fmt: skip

    @cached_property
    def _blocks(self) -> dict[str, NDArray[np.int64]]:
        return {name: resampling_blocks(task.points) for name, task in self.tasks.items()}

    @cached_property
    def _draws(self) -> _Draws:
        return _Draws(self)

    def _mean_draws(self, name: str, split: str, seed: int) -> Cell:
        """(DRAWS,) bootstrap values of `mean`; the same draws for every embedding with the same tasks."""
        self._demand(name, split)
        rng = np.random.default_rng(seed)
        means = []
        for group in self.groups:
            if tasks := self.tasks_of(name, split, group):
                drawn = np.array([self._draws[name, task, split] for task in tasks])
                chosen = rng.integers(len(tasks), size=(len(tasks), DRAWS))
                means.append(np.take_along_axis(drawn, chosen, axis=0).mean(0))
        return np.mean(means, axis=0) if means else np.full(DRAWS, np.nan)

    def _same_tasks(self, name: str, other: str, split: str) -> None:
        ours, theirs = (self.tasks_of(n, split) for n in (name, other))
        if ours != theirs:
            raise SettingError(
                f"{name!r} and {other!r} were examined on different tasks: {len(ours)} and {len(theirs)}."
            )

    def _mean_cell(self, name: str, split: str) -> str:
        low, high = self.interval(name, split)
        return f"{number(self.mean(name, split))} [{number(low)}, {number(high)}]"


class _Draws(dict[tuple[str, str, str], Cell]):
    """Bootstrap draws of the score of (embedding, task, split), made when first asked for."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report

    def __missing__(self, key: tuple[str, str, str]) -> Cell:
        name, task, split = key
        outcome = self.report.outcome(name, task, split)
        said, block = outcome.answers, self.report._blocks[task][outcome.answers.row]
        drawn = score_draws(
            outcome.truth, said.predicted, said.fold, block, len(outcome.task.classes), DRAWS, pooled=split in POOLED
        )
        self[key] = np.maximum(drawn, 0)
        return self[key]


def number(value: float) -> str:
    """Three decimals, no leading zero, a dash where there is none."""
    return "–" if np.isnan(value) else f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.3f}"
