"""The full report: three architectures, text and images alone and together, GeoCLIP, explicit features, all baselines.

    python -m benchmarks.results DATA RUNS [--workers 2]

Trains what RUNS lacks (two seeds; see benchmarks/architectures.py), examines everything on the 26 tasks and writes
docs/results/ (README.md and figures) and RUNS/results/report.html, scores.parquet, scores.json, study.json. It can be
killed at any moment and goes on where it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.architectures import models, published
from graticule.data.bluemarble import WORLD
from graticule.embed import Model
from graticule.evaluation.examine import Embed, evaluate
from graticule.evaluation.explicit import explicit
from graticule.evaluation.outcomes import fingerprint
from graticule.evaluation.predictors import Array
from graticule.evaluation.report import Report
from graticule.evaluation.tasks import EXTRA, MAIN, Task, load_tasks
from graticule.files import atomic_write
from graticule.geo.coords import Points

RUNS = ("imagebind", "cyclic", "melt", "text and Blue Marble", "text alone", "Blue Marble alone")
FIVE = ("air_temperature", "mosaiks_population", "soil_ph", "california_housing", "koppen")
TEXT, IMAGE = "text alone #0", "Blue Marble alone #0"


def embeddings(data: Path, runs: Path) -> dict[str, Embed]:
    """Everything that is examined, by name; vectors are kept on disk."""
    keep = runs / "results" / "vectors"
    finished = models(runs, RUNS)
    embeds = {name: kept_vectors(model, keep) for name, model in finished.items()}
    embeds |= {name: kept_vectors(model, keep) for name, model in published().items()}
    months = sorted((data / "satellite" / "bluemarble_monthly").glob("world.2004*.jpg"))
    embeds["Blue Marble features"] = kept("explicit", explicit(months, bounds=WORLD), keep)
    return embeds


def kept_vectors(model: Model, folder: Path) -> Embed:
    """The model's vectors, computed once."""
    return kept(str(model.about["weights"]), model.embed_points, folder)


def kept(key: str, embed: Embed, folder: Path) -> Embed:
    """`embed`, which reads what it gave before from `folder`."""

    def vectors(points: Points) -> Array:
        path = folder / f"{key}-{fingerprint(points)}.npy"
        if not path.exists():
            atomic_write(path, lambda temporary: save(temporary, embed(points)))
        return np.asarray(np.load(path))

    return vectors


def save(path: Path, vectors: Array) -> None:
    with path.open("wb") as file:
        np.save(file, np.asarray(vectors, dtype=np.float32))


def examined(embeds: dict[str, Embed], data: Path, runs: Path, workers: int) -> tuple[Report, Report, Report]:
    """The report on all tasks; that of slow probes, and that of further splits, on five tasks."""
    tasks = load_tasks(data / "tasks", (*MAIN, *EXTRA))
    five: list[Task] = [task for task in tasks if task.name in FIVE]
    first = {name: embed for name, embed in embeds.items() if not name.endswith("#1")}
    every = {"cache": runs / "results" / "answers", "workers": workers}
    whole = ("random", "blocks", "cells", "continents")
    ridge = evaluate(embeds, tasks, whole, **every)
    others = evaluate(first, tasks, ("random", "blocks", "continents"), ("knn", "boosting"), baselines=False, **every)
    slow = evaluate(first, five, ("random", "blocks"), ("ridge", "ridge+place", "gp", "mlp"), **every)
    curves = evaluate(first, five, ("countries", "checker", "few-shot", "few-shot clustered"), **every)
    return Report([*ridge.outcomes, *others.outcomes], ridge.failures, ridge.leaks), slow, curves
