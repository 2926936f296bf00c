"""Three architectures, their single modalities and the binary recipes on the same data and encoder, 16 main tasks.

    python -m benchmarks.architectures DATA RUNS [--workers 2]

Prepares the world (text, Blue Marble, Sentinel-2 patches), trains every run for two seeds, scores the frozen
vectors with the linear probe under random folds and 10-degree blocks, beside the baselines, and writes
benchmarks/architectures.md. Finished runs are kept in RUNS and not trained again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks import running
from benchmarks.running import markdown, side_by_side
from benchmarks.world import prepare_world
from graticule import zoo
from graticule.embed import Model, load
from graticule.evaluation.examine import evaluate
from graticule.evaluation.report import Report
from graticule.evaluation.tasks import EXTRA, MAIN, load_tasks

SEEDS = (0, 1)
ENCODER = {
    "location": "harmonics",
    "location.max_degree": 30,
    "location.damping": 1,
    "location.low_frequency": 10,
}
SETTINGS = {**ENCODER, "steps": 300, "batch_size": 1024, "whiten": 96, "temperature": 0.4, "learn_temperature": False}
LABELS = {"text": "text", "image": "Blue Marble", "sentinel2": "Sentinel-2 patches"}
IMAGE = {"modalities": "image"}
BINARY = {"steps": 300, "whiten": 96, **IMAGE}
RUNS: dict[str, tuple[str, dict[str, object]]] = {
    "imagebind": ("imagebind", SETTINGS),
    "cyclic": ("cyclic", {**SETTINGS, "steps": 900, "every": 20}),
    "cyclic, location frozen at random": ("cyclic", {**SETTINGS, "freeze_location": True}),
    "cyclic, location frozen after imagebind": ("cyclic", {**SETTINGS, "freeze_location": True, "start": "imagebind"}),
    "melt": ("melt", SETTINGS),
    "text alone": ("imagebind", {**SETTINGS, "modalities": "text"}),
    "Blue Marble alone": ("imagebind", {**SETTINGS, **IMAGE}),
    "text and Blue Marble": ("imagebind", {**SETTINGS, "modalities": "text,image"}),
    "Sentinel-2 patches alone": ("imagebind", {**SETTINGS, "modalities": "sentinel2"}),
    "satclip on Blue Marble": ("satclip", {**BINARY, "learning_rate": 1e-3}),
    "geoclip on Blue Marble": ("geoclip", {**BINARY, "batch_size": 256, "queue": 512}),
    "csp on Blue Marble": ("csp", {**BINARY, "random_places": 512}),
}


def folder_of(name: str, seed: int) -> str:
    return f"{name.replace(',', '').replace(' ', '-')}-{seed}"


def train_one(name: str, seed: int, runs: Path) -> None:
    """One run on one thread, in this process."""
    from graticule.runs import train

    recipe, settings = RUNS[name]
    chosen = {**settings, "seed": seed, "threads": 1}
    if "start" in chosen:
        chosen["start"] = str(runs / folder_of(str(chosen["start"]), seed))
    train(recipe, runs / "world", to=runs / folder_of(name, seed), **chosen)


def train_all(
    data: Path, runs: Path, workers: int, names: Sequence[str] = tuple(RUNS), seeds: Sequence[int] = SEEDS
) -> None:
    """All runs not finished yet, `workers` processes side by side; those that start from another run come last."""
    prepare_world(data, runs / "world")
    jobs = [(name, seed) for name in names for seed in seeds]
    jobs = [job for job in jobs if not (runs / folder_of(*job) / "run.json").exists()]
    later = [job for job in jobs if "start" in RUNS[job[0]][1]]

    def arguments(job: tuple[str, int]) -> list[str]:
        return ["--one", job[0], "--seed", str(job[1]), str(data), str(runs)]

    for batch in ([job for job in jobs if job not in later], later):
        side_by_side("benchmarks.architectures", map(arguments, batch), workers)


def models(runs: Path, names: Sequence[str] = tuple(RUNS), seeds: Sequence[int] = SEEDS) -> dict[str, Model]:
    """Finished runs by name and seed."""
    return {f"{name} #{seed}": load(runs / folder_of(name, seed)) for name in names for seed in seeds}


def published() -> dict[str, Model]:
    """GeoCLIP's released weights, where the package `geoclip` was installed (--no-deps) into this environment."""
    spec = find_spec("geoclip")
    if spec is None or spec.origin is None:
        return {}
    weights = Path(spec.origin).parent / "model" / "weights" / "location_encoder_weights.pth"
    return {"GeoCLIP, released weights": zoo.load("geoclip", weights)}


def gather(data: Path, runs: Path, workers: int) -> tuple[Report, dict[str, list[float]]]:
    """Scores of the baselines, the runs and GeoCLIP's released weights; seconds of training."""
    tasks = load_tasks(data / "tasks", (*MAIN, *EXTRA))
    finished = models(runs)
    others = published()
    seconds: dict[str, list[float]] = {}
    for name, model in finished.items():
        seconds.setdefault(name.split(" #")[0], []).append(model.about["seconds"])
    embeds = {name: model.embed_points for name, model in (finished | others).items()}
    return evaluate(embeds, tasks, cache=runs / "answers", workers=workers), seconds


def table(report: Report, seconds: dict[str, list[float]]) -> str:
    """Markdown: group means over seeds; R and B are means over the groups, with the spread over seeds."""
    header = ["", *(f"{group} {split}" for group in report.groups for split in report.splits), "R", "B", "seconds"]
    names = list(dict.fromkeys(name.split(" #")[0] for name in report.names))
    rows = []
    for name in names:
        members = [n for n in report.names if n.split(" #")[0] == name]
        cells = [
            f"{np.mean([report.group_mean(n, group, split) for n in members]):.3f}"
            for group in report.groups
            for split in report.splits
        ]
        for split in report.splits:
            values = [report.mean(n, split) for n in members]
            low, high = np.mean([report.interval(n, split) for n in members], axis=0)
            spread = f" ± {np.ptp(values) / 2:.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread} [{low:.2f}, {high:.2f}]")
        cells.append(f"{np.mean(seconds[name]):.0f}" if name in seconds else "")
        rows.append([name, *cells])
    return markdown(header, rows)


NOTE = """# Architectures on the same data and encoder

`python -m benchmarks.architectures DATA RUNS` (about {minutes} minutes on 2 cores, one run a core).

Data: 45,886 texts (Wikipedia 2014, Wikivoyage), 135,886 Blue Marble patches (MODIS, 12 months, 126 km; no
Sentinel-2), 368 crops of 23 real Sentinel-2 patches. Every modality has its own places. Frozen 256-d vectors,
ridge probe with alpha by leave-one-out; random: folds 0-5 train, 6-9 test; blocks: mean over five folds of
10-degree cells; at most 6,000 rows a task; R2 clipped at 0, accuracy. No label of these tasks is used in
pretraining; but temperature and encoder were chosen by looking at these same 26 tasks (docs/LOG.md, one seed).
Two seeds (mean ± half their difference); in brackets the 95 % bootstrap interval over tasks and spatial
blocks, mean over seeds. R and B: mean over the groups shown under random folds and blocks. No model here saw night
lights; seconds are those of training on one thread beside other work.

Settings of all three architectures: {settings}.

"""


def main() -> None:
    parser = running.parser("data", "runs")
    parser.add_argument("--one")
    parser.add_argument("--seed", type=int, help="train only the runs of this seed, write no table")
    asked = parser.parse_args()
    if asked.one:
        return train_one(asked.one, asked.seed, asked.runs)
    train_all(asked.data, asked.runs, asked.workers, seeds=SEEDS if asked.seed is None else (asked.seed,))
    if asked.seed is not None:
        return None
    report, seconds = gather(asked.data, asked.runs, asked.workers)
    parts = []
    for title, names in (("Main tasks", MAIN), ("Main and extra tasks", (*MAIN, *EXTRA))):
        chosen = Report([outcome for outcome in report.outcomes if outcome.task.name in names])
        parts.append(f"## {title}\n\n{table(chosen, seconds)}\n")
    report.write(asked.runs / "scores")
    minutes = round(sum(map(sum, seconds.values())) / 60 / asked.workers)
    note = NOTE.format(minutes=minutes, settings=json.dumps(SETTINGS))
    Path(__file__).with_suffix(".md").write_text(note + "\n".join(parts))
    return None


if __name__ == "__main__":
    main()
