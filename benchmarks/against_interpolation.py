"""The model inside against interpolation and GeoCLIP, each read by the best of three probes: 16 main tasks.

    python -m benchmarks.against_interpolation DATA RUNS [--workers 1]

Ridge, kNN or gradient boosting, chosen within the training rows (the probe `chosen`), for the model inside, the other
two seeds of `benchmarks.taught` in RUNS, and GeoCLIP's weights (package `geoclip`, installed --no-deps) alone and with
spherical harmonics beside them; baselines as they are. Random folds, 10-degree blocks, and curves of few labels.
Everything finished is kept in RUNS/answers, and the table is written anew after every part. Writes
benchmarks/against_interpolation.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import running
from benchmarks.against_interpolation_table import (
    BESIDE,
    GEOCLIP,
    OTHER_SEEDS,
    OURS,
    PLACE,
    SHOTS,
    SINGLE,
    WITH_PLACE,
    written,
)
from benchmarks.architectures import published
from graticule.embed import load
from graticule.encoders.harmonics import harmonics
from graticule.errors import DataError
from graticule.evaluation.examine import Embed, evaluate
from graticule.evaluation.outcomes import Outcome
from graticule.evaluation.predictors import Array
from graticule.evaluation.report import Report
from graticule.evaluation.scores import BASELINE
from graticule.evaluation.tasks import MAIN, Task, load_tasks
from graticule.geo.coords import Points, unit_sphere

WHOLE = ("random", "blocks")
SPREAD = tuple(f"few-shot {shots}" for shots in SHOTS)
CLUSTERED = tuple(f"few-shot clustered {shots}" for shots in SHOTS)


@dataclass(frozen=True)
class Part:
    """Some rows of the tables: which embeddings, read how, under which splits."""

    embeds: Mapping[str, Embed]
    splits: Sequence[str]
    probe: str = "chosen"
    baselines: bool = False

    def outcomes(self, tasks: Sequence[Task], cache: Path, workers: int) -> list[Outcome]:
        """What is kept, and the rest computed; names say how they were read, where not by choice."""
        report = evaluate(self.embeds, tasks, self.splits, self.probe, self.baselines, cache=cache, workers=workers)
        name = "{} ({})" if self.probe in SINGLE else "{}"
        return [
            o if o.probe == BASELINE else replace(o, embedding=name.format(o.embedding, o.probe), probe="chosen")
            for o in report.outcomes
        ]


def once(embed: Embed) -> Embed:
    """The same, remembering what it said of the places it was asked about."""
    said: dict[bytes, Array] = {}

    def embed_once(points: Points) -> Array:
        key = points.tobytes()
        if key not in said:
            said[key] = embed(points)
        return said[key]

    return embed_once


def beside_harmonics(embed: Embed) -> Embed:
    """The vectors with the 100 spherical harmonics of degree 0 to 9 as further columns."""
    return lambda points: np.hstack([embed(points), harmonics(points, 9)])


def parts(runs: Path) -> list[Part]:
    """In the order of what the tables need most."""
    found = published()
    if not found:
        raise DataError("GeoCLIP's weights are missing: pip install --no-deps geoclip")
    geoclip = once(next(iter(found.values())).embed_points)
    ours = once(load().embed_points)
    inside = {OURS: ours}
    peers = {GEOCLIP: geoclip, BESIDE: beside_harmonics(geoclip)}
    seeds = {name: load(runs / f"tied-{seed}").embed_points for seed, name in OTHER_SEEDS.items()}
    return [
        Part(inside, WHOLE, baselines=True),
        Part(inside, SPREAD, "ridge", baselines=True),
        *(Part(inside, WHOLE, probe) for probe in SINGLE),
        Part(peers, WHOLE),
        Part(inside, SPREAD),
        Part(peers, SPREAD),
        Part({WITH_PLACE: ours}, WHOLE, "chosen+place"),
        Part(seeds, WHOLE),
        Part({WITH_PLACE: ours}, SPREAD, "chosen+place"),
        Part(inside, CLUSTERED, "ridge", baselines=True),
        Part(inside | peers, CLUSTERED),
        Part({PLACE: unit_sphere}, (*WHOLE, *SPREAD)),
    ]


def main() -> None:
    parser = running.parser("data", "runs")
    asked = parser.parse_args()
    tasks = load_tasks(asked.data / "tasks", MAIN)
    outcomes: list[Outcome] = []
    for part in parts(asked.runs):
        outcomes += part.outcomes(tasks, asked.runs / "answers", asked.workers)
        Path(__file__).with_suffix(".md").write_text(written(Report(outcomes)))


if __name__ == "__main__":
    main()
