"""The model that ships inside, beside interpolation and GeoCLIP's released weights, on 26 tasks.

    python -m benchmarks.release DATA RUNS [--workers 2]

Scores every seed that `benchmarks.train_model` left in RUNS (seed 0 is the model inside), GeoCLIP's weights where the
package `geoclip` is installed (--no-deps), and the baselines, by ridge under random folds and 10-degree blocks; with
and without the three tasks that night lights or bathymetry give away. Writes benchmarks/release.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.architectures import published, table
from benchmarks.running import markdown
from graticule.embed import Model, load
from graticule.evaluation.examine import evaluate
from graticule.evaluation.report import Report
from graticule.evaluation.tasks import EXTRA, MAIN, load_tasks
from graticule.geo.coords import fibonacci_lattice, great_circle_km, lonlat, offset_km
from graticule.objectives.regression import effective_rank

NAME = "the model inside"
GIVEN_AWAY = ("mosaiks_nightlights", "mosaiks_population", "ocean_depth")
PARTS = {
    "Main tasks": MAIN,
    "Main tasks without those that night lights or bathymetry give away": tuple(t for t in MAIN if t not in GIVEN_AWAY),
    "Main and extra tasks": (*MAIN, *EXTRA),
}


def seam(model: Model, step_km: float = 1.0) -> dict[str, float]:
    """Largest cosine distance of neighbours `step_km` apart: anywhere, across the antimeridian, round a pole."""
    places = fibonacci_lattice(20_000)
    beside = offset_km(places, step_km, 0)[:, 0]
    lat = np.linspace(-89.9, 89.9, 2000)
    west, east = (lonlat(lon=np.full(2000, lon), lat=lat) for lon in (180.0, -180.0 + 1e-9))
    around = lonlat(lon=np.linspace(-180, 180, 721), lat=np.full(721, 90 - step_km / 111.2))
    return {
        "anywhere": float(distance(model, places, beside).max()),
        "across the antimeridian (0 km)": float(distance(model, west, east).max()),
        "round the pole": float(distance(model, around[:-1], around[1:]).max()),
    }


def distance(model: Model, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) one minus the cosine of the vectors of places."""
    assert great_circle_km(a, b).max() < 50
    x, y = (model.embed_points(points).astype(np.float64) for points in (a, b))
    return 1 - (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    models = {f"{NAME} #0": load()}
    for run in sorted(asked.runs.glob("tied-[1-9]*/run.json")):
        models[f"{NAME} #{run.parent.name.split('-')[1]}"] = load(run.parent)
    everything = models | published()
    tasks = load_tasks(asked.data / "tasks", (*MAIN, *EXTRA))
    report = evaluate(
        {name: model.embed_points for name, model in everything.items()}, tasks, cache=asked.runs / "answers",
        workers=asked.workers,
    )  # fmt: skip
    seconds = {NAME: [model.about["seconds"] for model in models.values()]}
    parts = [NOTE.format(seeds=len(models), towers=", ".join(load().modalities))]
    for title, names in PARTS.items():
        chosen = Report([outcome for outcome in report.outcomes if outcome.task.name in names])
        parts.append(f"## {title}\n\n{table(chosen, seconds)}")
    parts.append(f"## Every task\n\n{by_task(report)}")
    places = fibonacci_lattice(4096)
    ranks = {name: effective_rank(torch.from_numpy(model.embed_points(places))) for name, model in everything.items()}
    rows = [[name, f"{float(rank):.0f}", str(everything[name].dim)] for name, rank in ranks.items()]
    parts.append("## Effective rank on 4,096 even places\n\n" + markdown(["", "effective rank", "of"], rows))
    steps = [[where, f"{value:.2e}"] for where, value in seam(load()).items()]
    parts.append("## Largest step between neighbours 1 km apart\n\n" + markdown(["", "1 - cosine"], steps))
    Path(__file__).with_suffix(".md").write_text("\n".join(parts))


def by_task(report: Report) -> str:
    """Random and blocks of every task for the model inside, seeds averaged, and the strongest of the others."""
    names = ["kNN-5", "IDW-20", "kriging", "harmonics L=20", *(n for n in report.names if n.startswith("GeoCLIP"))]
    found = {(o.embedding.split(" #")[0], o.task.name, o.split): [] for o in report.outcomes}
    for outcome in report.outcomes:
        found[outcome.embedding.split(" #")[0], outcome.task.name, outcome.split].append(outcome.score)
    shown = [NAME, *(name for name in names if any(key[0] == name for key in found))]
    tasks = dict.fromkeys(o.task.name for o in report.outcomes)
    cells = {
        task: [
            " / ".join(f"{np.mean(found[name, task, split]):.3f}" for split in ("random", "blocks")) for name in shown
        ]
        for task in tasks
    }
    return markdown(["random / blocks", *shown], [[task, *row] for task, row in cells.items()])


NOTE = """# The model inside

`python -m benchmarks.train_model DATA RUNS --seed 0` (also 1 and 2), then `python -m benchmarks.release DATA RUNS`

Frozen 256-d vectors, ridge probe with alpha by leave-one-out; random: folds 0-5 train, 6-9 test; blocks: mean over
five folds of 10-degree cells; at most 6,000 rows a task; R2 clipped at 0, accuracy. {seeds} seeds (mean ± half their
range); in brackets the 95 % bootstrap interval over tasks and spatial blocks. No label of these tasks is used in
pretraining, and everything was chosen on the ten extra tasks. The model saw night lights and pictures with bathymetry,
which give three tasks away; the second table leaves them out. Towers: {towers}; seconds are those of tying the towers.

"""


if __name__ == "__main__":
    main()
