"""Vectors learned from the teacher of day, night and words, beside interpolation and GeoCLIP, on 26 tasks.

    python -m benchmarks.taught DATA RUNS [--workers 2]

Trains three seeds: the location encoder learns the teacher's vectors, then it stands still and a tower a modality is
tied to it; seed 0 is the model inside (`benchmarks.train_model`). Scores them, GeoCLIP's weights where the package
`geoclip` is installed (--no-deps), and the baselines, by ridge under random folds and 10-degree blocks; with and
without the three tasks that night lights or bathymetry give away. Finished runs are kept in RUNS. Writes
benchmarks/taught.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks import running
from benchmarks.architectures import published, table
from benchmarks.plateau import ENCODER, TRUNKS
from benchmarks.running import markdown, side_by_side
from benchmarks.world import keep_places, near, prepare_groups
from graticule.data.land import land_and_sea
from graticule.embed import Model, load
from graticule.evaluation.examine import evaluate
from graticule.evaluation.information.dimension import twonn
from graticule.evaluation.report import Report
from graticule.evaluation.tasks import EXTRA, MAIN, load_tasks
from graticule.geo.coords import fibonacci_lattice, great_circle_km, lonlat, offset_km
from graticule.geo.variogram import semivariogram
from graticule.objectives.regression import effective_rank
from graticule.runs import train

NAME = "taught"
SEEDS = (0, 1, 2)
TAUGHT = {
    **ENCODER,
    **TRUNKS,
    "location.levels": 14,
    "location.finest": 640,
    "location.log2_entries": 15,
    "neighbours.text": 32,
    "steps": 3000,
    "batch_size": 2048,
    "learning_rate": 2e-3,
}
TIED = {
    "modalities": "text,day",
    "trunk.day": TRUNKS["trunk.day"],
    "steps": 2400,
    "batch_size": 1024,
    "learning_rate": 2e-3,
    "freeze_location": True,
    "every": 1,
    "shared": 384,
    "head": "linear",
    "head.text": "none",
    "soft_km": 300,
    "sampler": "density",
    "debias": 0.75,
}
GIVEN_AWAY = ("mosaiks_nightlights", "mosaiks_population", "ocean_depth")
PARTS = {
    "Main tasks": MAIN,
    "Main tasks without those that night lights or bathymetry give away": tuple(t for t in MAIN if t not in GIVEN_AWAY),
    "Main and extra tasks": (*MAIN, *EXTRA),
}


def train_one(runs: Path, seed: int) -> None:
    """The teacher's pupil, and the towers tied to it."""
    taught, places = runs / f"taught-{seed}", str(runs / "places.parquet")
    train("distil", runs / "groups", to=taught, seed=seed, teacher_places=places, threads=1, **TAUGHT)
    train("cyclic", runs / "groups", to=runs / f"tied-{seed}", seed=seed, start=str(taught), threads=1, **TIED)


def prepare_all(data: Path, runs: Path) -> None:
    """The data, and the places at which the teacher speaks."""
    world = prepare_groups(data, runs / "groups")
    if not (runs / "places.parquet").exists():
        keep_places(world["day"], runs / "places.parquet")


def train_all(data: Path, runs: Path, workers: int) -> None:
    """All seeds not finished yet, `workers` processes side by side."""
    prepare_all(data, runs)
    seeds = [seed for seed in SEEDS if not (runs / f"tied-{seed}" / "run.json").exists()]
    side_by_side("benchmarks.taught", [["--seed", str(seed), str(data), str(runs)] for seed in seeds], workers)


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
    parser = running.parser("data", "runs")
    parser.add_argument("--seed", type=int, help="train this seed only, write no table")
    asked = parser.parse_args()
    if asked.seed is not None:
        return train_one(asked.runs, asked.seed)
    train_all(asked.data, asked.runs, asked.workers)
    models = {f"{NAME} #{seed}": load(asked.runs / f"tied-{seed}") for seed in SEEDS}
    everything = models | published()
    tasks = load_tasks(asked.data / "tasks", (*MAIN, *EXTRA))
    report = evaluate(
        {name: model.embed_points for name, model in everything.items()}, tasks, cache=asked.runs / "answers",
        workers=asked.workers,
    )  # fmt: skip
    taught = [load(asked.runs / f"taught-{seed}") for seed in SEEDS]
    seconds = {NAME: [model.about["seconds"] for model in taught]}
    parts = [NOTE]
    for title, names in PARTS.items():
        chosen = Report([outcome for outcome in report.outcomes if outcome.task.name in names])
        parts.append(f"## {title}\n\n{table(chosen, seconds)}")
    parts.append(f"## Every task\n\n{by_task(report)}")
    parts.append("## Without labels\n\n" + LABEL_FREE + "\n" + label_free(everything))
    steps = [[where, f"{value:.2e}"] for where, value in seam(models[f"{NAME} #0"]).items()]
    parts.append("## Largest step between neighbours 1 km apart\n\n" + markdown(["", "1 - cosine"], steps))
    Path(__file__).with_suffix(".md").write_text("\n".join(parts))
    return None


def label_free(models: Mapping[str, Model]) -> str:
    """Effective rank, intrinsic dimension, share of the variance within 50 km, and points a second on one thread."""
    land = land_and_sea(land=10_000, sea=0, draws=80_000, seed=0)
    close = np.concatenate([land, near(land, 20)])
    rows = []
    torch.set_num_threads(1)
    for name, model in models.items():
        vectors = model.embed_points(close)
        rank = float(effective_rank(torch.from_numpy(vectors[: len(land)])))
        gamma = semivariogram(close, vectors, (0, 10, 50)).gamma
        began = time.perf_counter()
        model.embed_points(close)
        speed = len(close) / (time.perf_counter() - began)
        dimension = twonn(vectors[: len(land)]).value
        rows.append([name, str(model.dim), f"{rank:.0f}", f"{dimension:.1f}", f"{gamma[1]:.3f}", f"{speed:,.0f}"])
    header = ["", "dimensions", "effective rank", "intrinsic dimension", "semivariance at 10 to 50 km", "points/s"]
    return markdown(header, rows)


def by_task(report: Report) -> str:
    """Random and blocks of every task for the taught model, seeds averaged, and the strongest of the others."""
    names = [
        "kNN-5",
        "IDW-20",
        "kriging",
        "harmonics L=20",
        *(n for n in report.names if n.startswith("GeoCLIP")),
    ]
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


LABEL_FREE = """10,000 places on land, and one at a normal distance of 20 km each way beside each of them. Semivariance
is a share of the total variance; intrinsic dimension by TwoNN; one thread beside other work.
"""
NOTE = """# Taught: day, night and words in closed form, then one encoder (seed 0 is the model inside)

`python -m benchmarks.taught DATA RUNS` (ten minutes a seed on one core, a quarter of an hour to read the texts)

Day: Blue Marble, twelve months over 126 km and 1.2 km pixels over 40 km; night: Black Marble over 80 km; words: 45,886
texts; 567,658 places. The vectors of `learners.teacher` are learned by harmonics to degree 16 and a hash grid (3.0
million parameters, 3,000 steps of 2,048 places; the seconds, on one core, the teacher's 75 not counted). Frozen 256-d
vectors, ridge probe with alpha by leave-one-out; random: folds 0-5 train, 6-9 test; blocks: mean over five folds of
10-degree cells; at most 6,000 rows a task; R2 clipped at 0, accuracy. Three seeds (mean ± half their range); in
brackets the 95 % bootstrap interval over tasks and spatial blocks. No label of these tasks is used in pretraining, and
everything was chosen on the ten extra tasks; the main ones were scored once a seed. The model saw night lights and
pictures with bathymetry, which give three tasks away; the second table leaves them out.

"""


if __name__ == "__main__":
    main()
