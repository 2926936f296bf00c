"""Do more modalities help? Words, day and night, alone and together, in three architectures; and what makes them help.

    python -m benchmarks.plateau DATA RUNS [--workers 2] [--seeds 0 1 2]

Three groups of modalities (words: `text`; day: `day` and `detail`; night: `night`) in seven combinations, three
architectures and three seeds, and runs with one thing turned off, all on the same places and location encoder. The
location encoder first learns the teacher of its modalities (recipe `distil`), once for all three architectures, which
go on from there with the teacher beside the contrast. Each finished run is scored once and kept in RUNS; the sweep goes
on where it was. Writes docs/results/plateau.md and docs/results/plateau.jsonl.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import plateau_table, running
from benchmarks.running import side_by_side
from benchmarks.world import keep_places, prepare_groups
from graticule.embed import Model
from graticule.evaluation.examine import evaluate
from graticule.evaluation.outcomes import Outcome
from graticule.evaluation.tasks import EXTRA, MAIN, Task, load_tasks
from graticule.files import atomic_write
from graticule.geo.coords import Points
from graticule.runs import train

SEEDS = (0, 1, 2)
GROUPS = {"words": ("text",), "day": ("day", "detail"), "night": ("night",)}
COMBINATIONS = (
    ("words",), ("day",), ("night",), ("words", "day"), ("words", "night"), ("day", "night"), ("words", "day", "night"),
)  # fmt: skip
PLACES = {"land": 50_000, "sea": 8_000, "beside": 1}
ENCODER = {
    "location": "harmonics+hash-grid",
    "location.max_degree": 16,
    "location.damping": 1.0,
    "location.width": 384,
    "location.depth": 3,
}
TRUNKS = {"trunk.day": "statistics:3+9", "trunk.detail": "statistics:5+17", "trunk.night": "statistics:5+17"}
BEFORE = {"steps": 400, "batch_size": 2048, "learning_rate": 2e-3, "distil": 1.0}
AFTER = {
    "steps": 80, "batch_size": 512, "learning_rate": 5e-4, "distil": 1.0, "contrast": 0.1, "shared": 128,
    "soft_km": 300.0,
}  # fmt: skip
ALONE = {"steps": 400, "batch_size": 512, "learning_rate": 2e-3, "distil": 0.0}  # not taught before
ARCHITECTURES: dict[str, dict[str, Any]] = {"imagebind": {}, "cyclic": {"every": 20}, "melt": {}}
ALL = ("words", "day", "night")
CONTROLS: dict[str, dict[str, Any]] = {
    "plain InfoNCE: no teacher, learned temperature": {
        **ALONE, "contrast": 1.0, "temperature": 0.07, "learn_temperature": True,
    },
    "no teacher": {**ALONE, "contrast": 1.0},
    "no teacher, tower features regressed instead": {**ALONE, "contrast": 0.1, "regression": 1.0},
    "no hash grid, harmonics to degree 30": {
        "location": "harmonics", "location.max_degree": 30, "location.low_frequency": 10,
    },
    "words not smoothed": {"neighbours.text": 1},
}  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """A run: recipe, groups of modalities, what it changes, and the name of the run that it goes on from."""

    recipe: str
    groups: tuple[str, ...]
    change: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""


def runs() -> dict[str, Planned]:
    """Every run by name; those that others go on from come first."""
    first: dict[str, Planned] = {}
    then: dict[str, Planned] = {}

    def plan(groups: tuple[str, ...], label: str, change: Mapping[str, Any]) -> None:
        what = f"{' + '.join(groups)}{label}"
        taught = f"distil, {what}" if change.get("distil", True) else ""
        if taught:
            first[taught] = Planned("distil", groups, change)
        for recipe in ARCHITECTURES:
            then[f"{recipe}, {what}"] = Planned(recipe, groups, change, taught)

    for groups in COMBINATIONS:
        plan(groups, "", {})
    for label, change in CONTROLS.items():
        plan(ALL, f", {label}", change)
    return first | then


def settings(run: Planned, places: Path) -> dict[str, Any]:
    """All settings of a run but its seed and the folder where it starts."""
    modalities = [name for group in run.groups for name in GROUPS[group]]
    chosen = {"modalities": ",".join(modalities)}
    chosen |= {key: value for key, value in TRUNKS.items() if key.removeprefix("trunk.") in modalities}
    chosen |= ARCHITECTURES.get(run.recipe, {})
    chosen |= AFTER if run.start else ENCODER | BEFORE
    chosen |= {key: v for key, v in run.change.items() if not (run.start and key.startswith("location"))}
    if chosen.get("distil"):
        chosen = {"teacher_places": str(places)} | ({"neighbours.text": 32} if "text" in modalities else {}) | chosen
    if run.recipe == "cyclic":  # as many steps of each modality
        chosen["steps"] *= len(modalities)
    return chosen


def folder_of(name: str, seed: int) -> str:
    kept = "".join(c if c.isalnum() else " " for c in name)
    return "-".join([*kept.split(), str(seed)])


def train_one(data: Path, runs_folder: Path, name: str, seed: int) -> None:
    """Train, score and keep the scores of one run."""
    run = runs()[name]
    start = str(runs_folder / folder_of(run.start, seed)) if run.start else ""
    folder = runs_folder / folder_of(name, seed)
    options = settings(run, runs_folder / "places.parquet")
    model = train(run.recipe, runs_folder / "world", to=folder, seed=seed, threads=1, start=start, **options)
    keep_scores(model, load_tasks(data / "tasks", (*MAIN, *EXTRA)), folder / "scores.npz")


def keep_scores(model: Model, tasks: Sequence[Task], path: Path) -> None:
    """Scores (task, split) by ridge, and under blocks what every 10-degree cell (task, 648) adds to them."""
    report = evaluate(model.embed_points, tasks, baselines=False)
    scores = np.full((len(tasks), 2), np.nan)
    cells = np.zeros((len(tasks), 36 * 18), dtype=np.float32)
    number = {task.name: i for i, task in enumerate(tasks)}
    for outcome in report.outcomes:
        row = number[outcome.task.name]
        scores[row, ["random", "blocks"].index(outcome.split)] = outcome.score
        if outcome.split == "blocks":
            cells[row] = cell_shares(outcome)
            whole = cells[row].sum(dtype=np.float64) + (not outcome.task.classes)
            assert abs(whole - outcome.score) < 1e-4, f"{outcome.task.name}: {whole} is not {outcome.score}"
    names = np.array([task.name for task in tasks])

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, names=names, scores=scores, cells=cells, seconds=model.about["seconds"])

    atomic_write(path, write)


def cell_shares(outcome: Outcome) -> NDArray[np.float32]:
    """(648,) what the rows of every 10-degree cell add to the score: minus their loss as a share of what a fold has.

    The sum over cells, plus 1 for a regression, is the score, R2 clipped at 0.
    """
    truth, fold, classes = outcome.truth, outcome.answers.fold, len(outcome.task.classes)
    folds = int(fold.max()) + 1
    count = np.bincount(fold, minlength=folds)
    if classes:
        share = (outcome.clipped == truth) / count[fold]
    else:
        mean = np.bincount(fold, truth, folds) / count
        share = -((truth - outcome.clipped) ** 2) / np.bincount(fold, (truth - mean[fold]) ** 2, folds)[fold]
    return np.bincount(ten_degrees(outcome.task.points[outcome.answers.row]), share / folds, 36 * 18).astype(np.float32)


def ten_degrees(points: Points) -> NDArray[np.int64]:
    """(n,) numbers of the 10-degree cells of (n, 2) lon/lat degrees."""
    column = np.clip((points[:, 0] + 180) // 10, 0, 35).astype(np.int64)
    return column * 18 + np.clip((points[:, 1] + 90) // 10, 0, 17).astype(np.int64)


def prepare_places(data: Path, runs_folder: Path) -> None:
    """The world of the sweep, and the places at which every teacher speaks, whatever modalities it has."""
    world = prepare_groups(data, runs_folder / "world", **PLACES)
    keep_places(world["day"], runs_folder / "places.parquet")


def main() -> None:
    parser = running.parser("data", "runs")
    parser.add_argument("--one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--no-table", action="store_true", help="train and score only")
    parser.add_argument("--no-training", action="store_true", help="only the table of what is there")
    asked = parser.parse_args()
    if asked.one:
        return train_one(asked.data, asked.runs, asked.one, asked.seed)
    if not (asked.runs / "places.parquet").exists():
        prepare_places(asked.data, asked.runs)
    jobs = [(name, seed) for seed in asked.seeds for name in runs()]
    jobs.sort(key=lambda job: bool(runs()[job[0]].change))  # runs with one thing turned off come last
    jobs = [job for job in jobs if not (asked.runs / folder_of(*job) / "scores.npz").exists()]
    arguments = [["--one", name, "--seed", str(seed), str(asked.data), str(asked.runs)] for name, seed in jobs]
    if not asked.no_training:
        side_by_side("benchmarks.plateau", arguments, asked.workers)
    if not asked.no_table:
        files = {name: [asked.runs / folder_of(name, seed) / "scores.npz" for seed in asked.seeds] for name in runs()}
        settings_told = json.dumps({"encoder": ENCODER, "taught": BEFORE, "then": AFTER, "not taught": ALONE})
        text, rows = plateau_table.table(files, list(ARCHITECTURES), list(CONTROLS), settings_told)
        Path("docs/results/plateau.md").write_text(text)
        Path("docs/results/plateau.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return None


if __name__ == "__main__":
    main()
