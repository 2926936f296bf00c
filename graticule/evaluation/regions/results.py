"""The table of results, kept on disk as it grows, and what is said about it: means of groups, differences of methods.

One line of the file is one piece of work: a method with a seed on a task, with the scores of all cities. A run that
was killed leaves at most one half line, which is cut off, so a benchmark goes on where it stopped.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graticule.errors import CacheError, DataError, need, unknown
from graticule.evaluation.plain import plain
from graticule.evaluation.regions.scores import PRIMARY, Scores
from graticule.evaluation.uncertainty import block_weights, interval

GROUPS = ("region tasks", "entity tasks", "external labels")
FLOOR = -1.0  # a skill below counts as this in means over cities, so that one failure is not all that they show
DRAWS = 9999


@dataclass(frozen=True)
class Result:
    """One score: a row of the tidy table."""

    method: str
    seed: int
    task: str
    group: str
    city: str
    metric: str
    value: float


@dataclass(frozen=True)
class Paired:
    """Score of one method minus another: mean over cities, its 95 % bootstrap and t intervals, and the t test's p."""

    difference: float
    low: float
    high: float
    p: float
    cities: int
    t_low: float
    t_high: float


class ResultStore:
    """A file of results, one JSON object a line, to which pieces of work are added."""

    def __init__(self, path: str | Path) -> None:
        """Read what is there; a half line at the end is dropped. CacheError for a damaged line before it."""
        self.path = Path(path)
        self._rows: list[Result] = []
        self._done: set[tuple[str, int, str]] = set()
        if self.path.exists():
            whole, _, half = self.path.read_bytes().rpartition(b"\n")
            for number, line in enumerate(whole.splitlines(), start=1):
                self._keep(number, line)
            if half:
                with self.path.open("r+b") as file:
                    file.truncate(self.path.stat().st_size - len(half))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> list[Result]:
        """All scores that are known, in the order in which they came; scores that are NaN are none."""
        return list(self._rows)

    def done(self, method: str, seed: int, task: str) -> bool:
        """Whether this piece of work is in the file."""
        return (method, seed, task) in self._done

    def add(self, method: str, seed: int, task: str, group: str, scores: Mapping[str, Scores]) -> None:
        """Append the scores of one method with one seed on one task, by city; DataError when they are there already."""
        if group not in GROUPS:
            raise unknown("group", group, GROUPS)
        if self.done(method, seed, task):
            raise DataError(f"{self.path}: the results of {method!r}, seed {seed}, task {task!r} are there already.")
        line = json.dumps(
            {"method": method, "seed": seed, "task": task, "group": group, "scores": plain(scores)}, ensure_ascii=False
        ).encode()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(line + b"\n")
        self._keep(len(self._done) + 1, line)

    def _keep(self, number: int, line: bytes) -> None:
        try:
            piece = json.loads(line)
            key = (piece["method"], piece["seed"], piece["task"])
            rows = [
                Result(*key, piece["group"], city, metric, value)
                for city, metrics in piece["scores"].items()
                for metric, value in metrics.items()
                if value is not None
            ]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CacheError(f"{self.path}:line {number} is damaged ({error}). Delete it and run again.") from error
        self._done.add(key)
        self._rows.extend(rows)


def by_city(
    rows: Sequence[Result], method: str, *, group: str | None = None, task: str | None = None, metric: str | None = None
) -> dict[str, float]:
    """One score a city: the mean over seeds, then over the tasks of the group (or the one task) that it enters.

    metric: the primary one of each task, skill or macro-F1, if not named. Skills are floored at -1.
    """
    chosen = (metric,) if metric else tuple(PRIMARY.values())
    seeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row.method == method and row.metric in chosen and group in (None, row.group) and task in (None, row.task):
            value = max(row.value, FLOOR) if row.metric == PRIMARY["regression"] else row.value
            seeds[row.city, row.task].append(value)
    tasks: dict[str, list[float]] = defaultdict(list)
    for (city, _), values in seeds.items():
        tasks[city].append(float(np.mean(values)))
    return {city: float(np.mean(values)) for city, values in sorted(tasks.items())}


def summary(rows: Sequence[Result]) -> dict[str, dict[str, float]]:
    """By method and group: the mean over cities of `by_city`; groups without scores are left out."""
    found: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(row.method for row in rows):
        scores = {group: by_city(rows, method, group=group) for group in GROUPS}
        found[method] = {group: float(np.mean(list(own.values()))) for group, own in scores.items() if own}
    return found


def task_means(rows: Sequence[Result], metric: str | None = None) -> dict[str, dict[str, float]]:
    """By task and method: the mean over cities of `by_city`."""
    found: dict[str, dict[str, float]] = {}
    for task in dict.fromkeys(row.task for row in rows):
        methods = dict.fromkeys(row.method for row in rows if row.task == task)
        scores = {method: by_city(rows, method, task=task, metric=metric) for method in methods}
        found[task] = {method: float(np.mean(list(own.values()))) for method, own in scores.items() if own}
    return found


def compare(
    rows: Sequence[Result],
    ours: str,
    other: str,
    *,
    group: str | None = None,
    task: str | None = None,
    metric: str | None = None,
    seed: int = 0,
) -> Paired:
    """Is one method better than another? Cities are the unit: neighbouring regions are no independent evidence.

    The difference is taken in each city that has scores of both, on the tasks that both have there, after the mean
    over seeds. Interval by the bootstrap of cities (9,999 draws, percentiles), which is somewhat narrow for few
    cities, and by the t distribution, which also gives the two-sided p. With one city both are without bounds and p
    is 1. DataError when no city has both.
    """
    shared = set(_tasks(rows, ours)) & set(_tasks(rows, other))
    both = [row for row in rows if (row.city, row.task) in shared]
    a, b = (by_city(both, method, group=group, task=task, metric=metric) for method in (ours, other))
    gain = np.array([a[city] - b[city] for city in sorted(a.keys() & b.keys())])
    if not len(gain):
        methods = ", ".join(sorted({row.method for row in rows})) or "none"
        raise DataError(f"No city has scores of both {ours!r} and {other!r}; the methods are {methods}.")
    mean = float(gain.mean())
    if len(gain) == 1:
        return Paired(mean, -np.inf, np.inf, 1.0, 1, -np.inf, np.inf)
    low, high = interval(block_weights(len(gain), DRAWS, seed) @ gain / len(gain))
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    student = need("scipy.stats", "train").t(len(gain) - 1)
    if error == 0:
        return Paired(mean, mean, mean, float(mean == 0), len(gain), mean, mean)
    reach = float(student.ppf(0.975)) * error
    return Paired(mean, low, high, float(2 * student.sf(abs(mean) / error)), len(gain), mean - reach, mean + reach)


def _tasks(rows: Sequence[Result], method: str) -> Iterator[tuple[str, str]]:
    """City and task of every score of a method."""
    return ((row.city, row.task) for row in rows if row.method == method)
