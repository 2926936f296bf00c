"""The full report: three architectures, text and images alone and together, GeoCLIP, explicit features, all baselines.

    python -m benchmarks.results DATA RUNS [--workers 2]

Trains what RUNS lacks (two seeds; see benchmarks/architectures.py), examines everything on the 26 tasks and writes
docs/results/ (README.md and figures) and RUNS/results/ (report.html, scores.parquet, scores.json, study.json). It can
be killed at any moment and goes on where it was. GeoCLIP takes part where `pip install --no-deps geoclip` was run.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks import running
from benchmarks.architectures import models, published, train_all
from benchmarks.text_and_images import text_and_images
from graticule.data.bluemarble import WORLD
from graticule.data.store import open_dataset
from graticule.embed import Model
from graticule.evaluation.examine import Embed, evaluate
from graticule.evaluation.explicit import explicit
from graticule.evaluation.outcomes import fingerprint
from graticule.evaluation.predictors import Array
from graticule.evaluation.report import Report
from graticule.evaluation.study import study
from graticule.evaluation.tasks import EXTRA, MAIN, load_tasks
from graticule.files import atomic_write, read_json, write_json
from graticule.geo.coords import Points
from graticule.web.document_markdown import write_markdown
from graticule.web.document_page import write_html
from graticule.web.examination import Material, document, geography, land, write_study

DOCS = Path(__file__).parents[1] / "docs" / "results"
RUNS = ("imagebind", "cyclic", "melt", "text and Blue Marble", "text alone", "Blue Marble alone")
FIVE = ("air_temperature", "mosaiks_population", "soil_ph", "california_housing", "koppen")
TEXT, IMAGE, ALL = "text alone #0", "Blue Marble alone #0", "imagebind #0"
GEOCLIP, EXPLICIT = "GeoCLIP, released weights", "Blue Marble features"
DRAWN = (ALL, "melt #0", TEXT, IMAGE, GEOCLIP, EXPLICIT)
SECOND_SEEDS = (ALL.replace("0", "1"), TEXT.replace("0", "1"), IMAGE.replace("0", "1"))

ABOUT = """Three architectures on the same data and encoder (text, Blue Marble images, Sentinel-2 patches), text alone,
images alone and both; GeoCLIP's released weights; the explicit features of the Blue Marble at the place (what the
image tower sees, no learning); and baselines that know only coordinates. Two seeds (#0, #1) of every run.

Made by `python -m benchmarks.results DATA RUNS` in {minutes:.0f} minutes on 2 cores, training not counted. 26 tasks,
at most 6,000 rows each; ridge on all; kNN and boosting on random, blocks and continents for the first seeds; Gaussian
process, network, countries, checkerboard and few labels on five tasks. `blocks` are the 10-degree folds of the task
files. Temperature and encoder of our runs were chosen by looking at these same tasks ([log](../LOG.md)); no label of
them was used in pretraining. The Blue Marble encodes relief and, by the colour of the sea, depth: `ocean_depth` is no
fair test of what saw it."""


def embeddings(data: Path, runs: Path) -> dict[str, Embed]:
    """Everything that is examined, by name; vectors are kept on disk."""
    keep = runs / "vectors"
    finished = models(runs, RUNS)
    embeds = {name: kept_vectors(model, keep) for name, model in finished.items()}
    embeds |= {name: kept_vectors(model, keep) for name, model in published().items()}
    months = sorted((data / "satellite" / "bluemarble_monthly").glob("world.2004*.jpg"))
    embeds[EXPLICIT] = kept("explicit", explicit(months, bounds=WORLD), keep)
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
    five = [task for task in tasks if task.name in FIVE]
    first = {name: embed for name, embed in embeds.items() if not name.endswith("#1")}
    cache = runs / "answers"

    def ask(*question: object, baselines: bool = True) -> Report:
        return evaluate(*question, baselines=baselines, cache=cache, workers=workers)  # type: ignore[arg-type]

    ridge = ask(embeds, tasks, ("random", "blocks", "cells", "continents"))
    others = ask(first, tasks, ("random", "blocks", "continents"), ("knn", "boosting"), baselines=False)
    slow = ask(first, five, ("random", "blocks"), ("ridge", "ridge+place", "gp", "mlp"))
    curves = ask(first, five, ("countries", "checker", "few-shot", "few-shot clustered"))
    return Report([*ridge.outcomes, *others.outcomes], ridge.failures, ridge.leaks), slow, curves


def write(data: Path, runs: Path, workers: int) -> None:
    """Examine, study and write the report."""
    began, folder = time.monotonic(), runs / "results"
    embeds = embeddings(data, runs)
    report, slow, curves = examined(embeds, data, runs, workers)
    compared = {name: embed for name, embed in embeds.items() if not name.endswith("#1") or name in SECOND_SEEDS}
    found = study(report, compared, land(), pair=(TEXT, IMAGE), cache=runs / "answers")
    world = open_dataset(runs / "world")
    pretraining = {"text": world["text"].lonlat, "Blue Marble": world["image"].lonlat}
    errors = geography(report, [ALL, TEXT, IMAGE], pretraining, list(FIVE))
    material = Material(report, found, [name for name in DRAWN if name in embeds], errors, slow, curves)
    chapter = text_and_images(report, found, embeds, world, models(runs, ("imagebind",), (0,))[ALL])
    report.write(folder)
    write_study(found, folder / "study.json")
    minutes = spent(folder / "seconds.json", time.monotonic() - began) / 60
    whole = document(material, "Results on 26 tasks", ABOUT.format(minutes=minutes), (chapter,))
    write_html(whole, folder / "report.html")
    write_markdown(whole, DOCS / "README.md")


def spent(path: Path, seconds: float) -> float:
    """Seconds of this and all earlier runs of this command that ended."""
    total = seconds + (read_json(path)["seconds"] if path.exists() else 0)
    write_json(path, {"seconds": total})
    return float(total)


def main() -> None:
    asked = running.parser("data", "runs").parse_args()
    train_all(asked.data, asked.runs, asked.workers, RUNS)
    write(asked.data, asked.runs, asked.workers)


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
