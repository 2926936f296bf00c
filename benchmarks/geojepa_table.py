"""docs/results/geojepa.md, from the scores of `benchmarks.geojepa`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import geojepa_losses
from benchmarks.geojepa_methods import INSIDE, SUPERVISED
from benchmarks.running import markdown
from graticule.evaluation.regions.results import GROUPS, Result, ResultStore, by_city, compare, summary, task_means

OURS = ("geojepa TG", "geojepa TGI")
NOT_EVERYWHERE = (INSIDE, SUPERVISED)
NOTE = """# GeoJEPA and its baselines in cities of other continents

`python -m benchmarks.maps DATA MAPS && python -m benchmarks.geojepa DATA MAPS RUNS`

Models and probes learn on the extracts of Europe and are tested on each city of the rest, and the reverse; so every
city is tested by a model that saw nothing of its continent. The tags that give an answer away are taken out of the maps
first. Region tasks and levels are regressions: skill = 1 - SSE / SSE of the training mean, floored at -1 in means;
the other entity tasks are classes: macro-F1. A score is the mean over seeds, then tasks, then cities. At most 150 tiles
and 500 entities of a city. An image is a window of 20 km of Blue Marble, 16 pixels wide: a context, no aerial image.
Of an entity, a run of GeoJEPA gives its own vector alone, and a pool its own row beside its region, or, where the name
says so, alone. Shuffled images are those of other tiles of the same city, for probe and test. The model inside the
package learned from Europe: its means are over the cities of the rest alone, its differences are paired. The location
model saw night lights, day and words of all cities, at 20 km and coarser: night light is no fair test of it.

"""


ABOUT_LOSSES = """At the last step, means over both sides and all seeds ("trained" says how many; every run in
[geojepa-losses.jsonl](geojepa-losses.jsonl)). Prediction: smooth L1 distance from layer-normed targets; rank: effective
rank of what is learned of region vectors, by its width; seconds on one thread beside another run.
"""


def write(scores: Path, methods: Sequence[str], losses: Sequence[geojepa_losses.Row]) -> Path:
    """Write the page from the rows of scores in a folder, and those of losses."""
    rows = [row for path in sorted(scores.glob("*.jsonl")) for row in ResultStore(path).rows]
    seeds = {m: len({row.seed for row in rows if row.method == m}) for m in methods}
    known = [m for m in methods if seeds[m]]
    of_task = {task: {row.method for row in rows if row.task == task} for task in {row.task for row in rows}}
    everywhere = {m for m in known if m not in NOT_EVERYWHERE and not m.endswith("alone")}
    lacking = sorted(task for task, scored in of_task.items() if not scored >= everywhere)
    rows = [row for row in rows if row.task not in lacking]
    parts = [
        NOTE,
        f"Not scored yet for every method, and left out: {', '.join(lacking)}.\n" if lacking else "",
        "## Means over cities\n",
        _means(rows, known, seeds),
    ]
    for ours in OURS:
        if ours in known:
            parts += [
                f"## {ours} minus the others\n",
                "With 95 % intervals, cities as unit.\n",
                _against(rows, ours, known),
            ]
    parts += ["## Tasks\n", _tasks(rows, known, None), "## Tasks, rank correlation (Spearman)\n"]
    parts += [
        _tasks(rows, known, "spearman"),
        "## Cities\n",
        _cities(rows, [m for m in known if m in (*OURS, "TagPool", "TagCount")]),
    ]
    parts += ["## Losses\n", ABOUT_LOSSES, geojepa_losses.table(losses)]
    path = Path("docs/results/geojepa.md")
    path.write_text("\n".join(parts))
    return path


def _means(rows: Sequence[Result], methods: Sequence[str], seeds: dict[str, int]) -> str:
    means = summary(rows)
    body = [[m, str(seeds[m]), *(_number(means[m].get(group)) for group in GROUPS)] for m in methods]
    return markdown(["method", "seeds", *GROUPS], body)


def _against(rows: Sequence[Result], ours: str, methods: Sequence[str]) -> str:
    body = []
    for method in methods:
        if method != ours:
            cells = []
            for group in GROUPS:
                if not any(row.method == method and row.group == group for row in rows):
                    cells.append("")
                    continue
                found = compare(rows, ours, method, group=group)
                cells.append(f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]")
            body.append([method, *cells])
    return markdown(["minus", *GROUPS], body)


def _tasks(rows: Sequence[Result], methods: Sequence[str], metric: str | None) -> str:
    means = {task: found for task, found in task_means(rows, metric).items() if found}
    body = [[m, *(_number(found.get(m)) for found in means.values())] for m in methods]
    return markdown(["method", *means], body)


def _cities(rows: Sequence[Result], methods: Sequence[str]) -> str:
    found = {(m, g): by_city(rows, m, group=g) for m in methods for g in GROUPS}
    names = sorted({city for own in found.values() for city in own})
    header = ["city", *(f"{m}, {g}" for g in GROUPS for m in methods)]
    body = [[c, *(_number(found[m, g].get(c)) for g in GROUPS for m in methods)] for c in names]
    mean = [
        "mean",
        *(_number(np.mean(list(found[m, g].values())) if found[m, g] else None) for g in GROUPS for m in methods),
    ]
    return markdown(header, [*body, mean])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
