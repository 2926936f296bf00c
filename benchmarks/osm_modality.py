"""OpenStreetMap as a modality: `melt` on text and Blue Marble with and without the regions of maps, external labels.

    python -m benchmarks.maps DATA MAPS && python -m benchmarks.geojepa DATA MAPS RUNS
    python -m benchmarks.osm_modality DATA MAPS RUNS [--workers 2]

The maps are those of one side of the world, Europe or the rest, read by the GeoJEPA of tags and geometry that was
trained there (RUNS, seed 0); the labels are those of the cities of the other side. So neither the maps nor the labels
of a tested city, nor any of its continent, were seen. Scores are rows of docs/results/osm-modality/TASK.jsonl, kept
and continued as those of `benchmarks.geojepa`. Writes docs/results/osm-modality.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.geojepa import SIDES, external_exam, score_vectors
from benchmarks.geojepa_methods import SEEDS, Cities, Embed, Fit, Side, Vectors, jepa
from benchmarks.geojepa_methods import folder as run_folder
from benchmarks.running import markdown, side_by_side
from benchmarks.world import image_places, months, text
from graticule.data.store import prepare
from graticule.embed import Model, load
from graticule.evaluation.regions.labels import EXTERNAL
from graticule.evaluation.regions.places import centres
from graticule.evaluation.regions.results import ResultStore, compare, summary, task_means
from graticule.geo.region import Region

READER = "geojepa TG"
SETTINGS = {
    "location": "harmonics",
    "location.max_degree": 30,
    "location.damping": 1,
    "location.low_frequency": 10,
    "steps": 300,
    "batch_size": 1024,
    "whiten": 96,
}
SCORES = Path("docs/results/osm-modality")
PAGE = Path("docs/results/osm-modality.md")
WITHOUT, WITH = "text, image", "text, image, OSM"
NOTE = """# OpenStreetMap as a modality

`python -m benchmarks.osm_modality DATA MAPS RUNS`

`melt` on 45,886 texts and 135,886 Blue Marble patches, with and without the tiles of zoom 16 of the maps of one side of
the world, three seeds; ridge on cities of the other side (population and hexagons: leave one city out), skill = 1 -
SSE / SSE of the training mean, floored at -1 in means. *place*: 256-d, by the location encoder at the centre of the
tile. *place and map*: beside it the vector of the tile's own map by the OSM tower of the same run. *GeoJEPA*:
the vector that the OSM tower reads, as it is.

"""


def world(data: Path, maps: Path, runs: Path, side: str) -> Path:
    """Text and image, and beside them the maps of a side where one is named."""
    texts = prepare({"text": text(data)}, to=runs / "world-text-image")["text"]
    prepare(
        {"image": months(data, image_places(texts.lonlat, land=75_000, ocean=15_000))}, to=runs / "world-text-image"
    )
    if not side:
        return runs / "world-text-image"
    together = runs / f"world-{side}"
    together.mkdir(parents=True, exist_ok=True)
    for name, source in (
        ("text", runs / "world-text-image"),
        ("image", runs / "world-text-image"),
        ("osm", maps / side),
    ):
        link = together / name
        if not link.exists():
            link.symlink_to((source / name).resolve())
    return together


def folder(runs: Path, side: str, seed: int) -> Path:
    """Where a run lies; without a side it is the one without maps."""
    return runs / f"melt-{side or 'without'}-{seed}"


def train_one(data: Path, maps: Path, runs: Path, side: str, seed: int) -> None:
    from graticule.runs import train

    reader = {"trunk.osm": f"regions:{run_folder(runs, READER, side, 0)}"} if side else {}
    train(
        "melt",
        world(data, maps, runs, side),
        to=folder(runs, side, seed),
        seed=seed,
        threads=1,
        **SETTINGS,
        **reader,
    )


@cache
def model(runs: Path, side: str, seed: int) -> Model:
    return load(folder(runs, side, seed))


def place(osm: bool) -> Fit:
    def fit(side: Side, train: Cities) -> Embed:
        run = model(side.runs, side.name if osm else "", side.seed)
        return lambda regions: (run.embed_points(centres(regions)), None)

    return fit


def place_and_map(side: Side, train: Cities) -> Embed:
    run, read = model(side.runs, side.name, side.seed), jepa(READER)(_first(side), train)

    def embed(regions: Sequence[Region]) -> Vectors:
        own = run.embed_features("osm", read(regions)[0].astype(np.float32))
        return np.hstack([run.embed_points(centres(regions)), own]), None

    return embed


def geojepa(side: Side, train: Cities) -> Embed:
    return jepa(READER)(_first(side), train)


def _first(side: Side) -> Side:
    return Side(side.name, side.maps, side.runs, 0)


METHODS: dict[str, Fit] = {
    f"{WITHOUT}: place": place(osm=False),
    f"{WITH}: place": place(osm=True),
    f"{WITH}: place and map": place_and_map,
    "GeoJEPA": geojepa,
}
PAIRS = [
    (f"{WITH}: place and map", f"{WITHOUT}: place"),
    (f"{WITH}: place", f"{WITHOUT}: place"),
    (f"{WITH}: place and map", "GeoJEPA"),
]


def score_all(data: Path, maps: Path, runs: Path, task: str) -> None:
    """Score every method and seed on one task; what is in SCORES/TASK.jsonl is not done again."""
    store = ResultStore(SCORES / f"{task}.jsonl")
    todo = [(n, s) for s in SEEDS for n in METHODS if not store.done(n, s, task) and (s == 0 or n != "GeoJEPA")]
    exam = external_exam(task, data, maps) if todo else None
    for name, seed in todo if exam else ():
        assert exam is not None
        scores = {}
        for asked in exam.shown:
            other = next(side for side in SIDES if side != asked.replace("hexagons", "rest"))
            scores |= score_vectors(exam, METHODS[name], Side(other, maps, runs, seed), asked)
        store.add(name, seed, task, exam.group, scores)


def write() -> None:
    """The page, from the rows of all tasks."""
    rows = [row for task in EXTERNAL for row in ResultStore(SCORES / f"{task}.jsonl").rows]
    means, of_task = summary(rows), task_means(rows)
    header = ["vector", *of_task, "mean over cities"]
    body = [
        [name, *(f"{of_task[task][name]:.3f}" for task in of_task), f"{means[name]['external labels']:.3f}"]
        for name in METHODS
    ]
    gains = []
    for ours, other in PAIRS:
        cells = []
        for task in (*of_task, None):
            found = compare(rows, ours, other, task=task)
            cells.append(f"{found.difference:+.3f} [{found.t_low:+.3f}, {found.t_high:+.3f}]")
        gains.append([f"{ours} minus {other}", *cells])
    note = "\nDifferences, with 95 % t intervals over cities (population has four cities, hexagons two):\n\n"
    PAGE.write_text(NOTE + markdown(header, body) + note + markdown(header, gains))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--train", nargs=2, metavar=("SIDE", "SEED"))
    parser.add_argument("--score", metavar="TASK")
    asked = parser.parse_args()
    common = (asked.data, asked.maps, asked.runs)
    if asked.train:
        train_one(*common, asked.train[0], int(asked.train[1]))
        return
    if asked.score:
        score_all(*common, asked.score)
        return
    for side in ("", *SIDES):
        world(*common, side)
    jobs = [
        (side, seed)
        for seed in SEEDS
        for side in ("", *SIDES)
        if not (folder(asked.runs, side, seed) / "run.json").exists()
    ]
    words = tuple(map(str, common))
    side_by_side("benchmarks.osm_modality", [(*words, "--train", s, str(n)) for s, n in jobs], asked.workers)
    side_by_side("benchmarks.osm_modality", [(*words, "--score", task) for task in EXTERNAL], asked.workers)
    write()


if __name__ == "__main__":
    main()
