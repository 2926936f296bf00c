"""The tables of `benchmarks.plateau`: scores of every run, and whether all modalities beat the best part of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.running import markdown
from graticule.evaluation.tasks import EXTRA, MAIN
from graticule.evaluation.uncertainty import holm, sign_flip

ALL = "words + day + night"
REGRESSIONS = 11  # of the main tasks, which come first
SPLITS = ("random", "blocks")


@dataclass(frozen=True)
class Scored:
    """One run, its seeds side by side: `scores` (seeds, tasks, splits), `cells` (tasks, cells) mean over seeds."""

    scores: NDArray[np.float64]
    cells: NDArray[np.float64]
    seconds: float

    @classmethod
    def read(cls, files: Sequence[Path]) -> Scored:
        """The files of all seeds that are there."""
        found = [dict(np.load(file)) for file in files if file.exists()]
        names = (*MAIN, *EXTRA)
        order = [[list(one["names"]).index(name) for name in names] for one in found]
        return cls(
            np.stack([one["scores"][rows] for one, rows in zip(found, order, strict=True)]),
            np.mean([one["cells"][rows] for one, rows in zip(found, order, strict=True)], axis=0),
            float(np.mean([one["seconds"] for one in found])),
        )

    @cached_property
    def main(self) -> NDArray[np.float64]:
        """(seeds, splits) means over the 16 main tasks."""
        return self.scores[:, : len(MAIN)].mean(axis=1)

    @cached_property
    def groups(self) -> NDArray[np.float64]:
        """(seeds, splits) means over main and extra, regressions and classes: the R and B of docs/LOG.md."""
        parts = np.split(self.scores, [REGRESSIONS, len(MAIN), len(MAIN) + 8], axis=1)
        return np.mean([part.mean(axis=1) for part in parts], axis=0)


def compare(a: Scored, b: Scored) -> tuple[float, float, int]:
    """Difference of means over the main tasks under blocks, its p by sign flips of 10-degree cells, tasks won."""
    gain = (a.cells - b.cells)[: len(MAIN)]
    cells = gain.mean(axis=0)
    p = sign_flip(cells[np.abs(gain).sum(axis=0) > 0])
    return float(cells.sum()), p, int((gain.sum(axis=1) > 0).sum())


def table(
    files: Mapping[str, Sequence[Path]], architectures: Sequence[str], controls: Sequence[str], settings: str
) -> tuple[str, list[dict[str, Any]]]:
    """Markdown, and a row for every run, seed, task and split."""
    runs = {name: Scored.read(found) for name, found in files.items() if any(file.exists() for file in found)}
    text = NOTE.format(settings=settings)
    for recipe in ("distil", *architectures):
        names = [name for name in runs if name.startswith(f"{recipe}, ") and name.count(", ") == 1]
        text += f"\n## {recipe}\n\n" + scores({name.split(", ")[1]: runs[name] for name in names})
    text += "\n## Do all three beat the best part of them?\n\n" + beaten(runs, architectures)
    labels = [label for a in architectures for c in controls if (label := f"{a}, {ALL}, {c}") in runs]
    if labels:
        text += "\n## One thing turned off\n\nAll three groups.\n\n"
        text += scores({label.replace(f"{ALL}, ", ""): runs[label] for label in labels})
    rows = [
        {"run": name, "seed": seed, "task": task, "split": split, "score": round(float(run.scores[seed, i, k]), 5)}
        for name, run in runs.items()
        for seed in range(len(run.scores))
        for i, task in enumerate((*MAIN, *EXTRA))
        for k, split in enumerate(SPLITS)
    ]
    return text, rows


def scores(runs: Mapping[str, Scored]) -> str:
    """Means over the main tasks, R and B, with half the range over seeds."""

    def cell(values: NDArray[np.float64]) -> str:
        return f"{values.mean():.3f}" + (f" ± {np.ptp(values) / 2:.3f}" if len(values) > 1 else "")

    header = ["", "main random", "main blocks", "R", "B", "seconds", "seeds"]
    return markdown(
        header,
        [
            [name, *(cell(run.main[:, k]) for k in (0, 1)), *(cell(run.groups[:, k]) for k in (0, 1)),
             f"{run.seconds:.0f}", str(len(run.scores))]
            for name, run in runs.items()
        ],
    )  # fmt: skip


def beaten(runs: Mapping[str, Scored], architectures: Sequence[str]) -> str:
    """All modalities against the best single group and the best pair of each architecture."""
    rows, found = [], []
    for recipe in architectures:
        for kind, joins in (("best single", 0), ("best pair", 1)):
            others = {n: run for n, run in runs.items() if n.startswith(f"{recipe}, ") and n.count(" + ") == joins}
            best = max((n for n in others if n.count(", ") == 1), key=lambda n: others[n].main[:, 1].mean())
            found.append(compare(runs[f"{recipe}, {ALL}"], runs[best]))
            rows.append([recipe, f"{kind}: {best.split(', ')[1]}"])
    for row, (gain, p, won), adjusted in zip(rows, found, holm([p for _, p, _ in found]), strict=True):
        row += [f"{gain:+.4f}", f"{p:.4f}", f"{adjusted:.4f}", f"{won} of {len(MAIN)}"]
    return markdown(["", "against", "difference, main blocks", "p", "p (Holm)", "tasks better"], rows)


NOTE = """# Do more modalities help?

`python -m benchmarks.plateau DATA RUNS`

Words: 45,886 texts (Wikipedia 2014, Wikivoyage). Day: twelve months of Blue Marble over 126 km, and Blue Marble of
1.2 km over 40 km, which shows bathymetry (`ocean_depth` is no fair test of it). Night: Black Marble over 80 km
(`mosaiks_nightlights`, and to a part `mosaiks_population`, are no fair tests of it). Frozen 256-d vectors, ridge,
random folds and 10-degree blocks, at most 6,000 rows a task, R2 clipped at 0 or accuracy; means over the 16 main tasks;
R and B are means over main and extra, regressions and classes. As many seeds as the last column says, ± half their
range. No label of these tasks is used in pretraining; everything was chosen on the ten extra tasks. p: sign flips of
the 10-degree cells, seeds averaged, adjusted for six comparisons. Every location encoder first learns the teacher of
its modalities (`distil`, the first table: no contrast), at the same places whatever modalities it has; the
architectures go on from it, with what it knew beside the contrast; their seconds, on one core, come on top of its.

Settings: {settings}.
"""
