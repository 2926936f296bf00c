"""Emergent alignment: text finds image and image finds text, never paired in training, at held-out places.

    python -m benchmarks.alignment DATA RUNS [--workers 2]

1,000 held-out texts lie in random 300 km cells; every training row of any modality is at least 100 km from all
of them. Their images are Blue Marble patches at the same places. Writes benchmarks/alignment.md.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import running
from benchmarks.architectures import SETTINGS
from benchmarks.running import markdown, side_by_side
from benchmarks.world import months, prepare_world
from graticule.data.store import open_dataset, prepare
from graticule.embed import load
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import great_circle_km
from graticule.learners.features import cached_features

PLACES, PER_CELL, CELL_KM, APART_KM = 1000, 12, 300.0, 100.0
BOTH = {**SETTINGS, "modalities": "image,text", "steps": 300, "holdout_km": APART_KM}
RUNS: dict[str, tuple[str, dict[str, object]]] = {
    "imagebind": ("imagebind", BOTH),
    "cyclic": ("cyclic", {**BOTH, "steps": 600}),
    "melt": ("melt", BOTH),
    "imagebind, shuffled coordinates": ("imagebind", {**BOTH, "shuffle": True}),
}


def held_out(points: NDArray[np.float64], seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of 1,000 texts, at most 12 a cell, from random cells; and the cell of each."""
    rng = np.random.default_rng(seed)
    cells = equal_area_cells(points, CELL_KM)
    chosen: list[int] = []
    for cell in rng.permutation(np.unique(cells)):
        rows = np.flatnonzero(cells == cell)
        chosen += list(rng.permutation(rows)[:PER_CELL])
        if len(chosen) >= PLACES:
            break
    rows = np.sort(np.array(chosen[:PLACES]))
    return rows, cells[rows]


def recall(questions: NDArray[np.float32], answers: NDArray[np.float32], k: int = 10) -> NDArray[np.bool_]:
    """Whether row i of the answers is among the k most similar (cosine) to row i of the questions."""
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (questions, answers))
    similarity = a @ b.T
    rank = (similarity > similarity.diagonal()[:, None]).sum(axis=1)
    return rank < k


def interval(hits: NDArray[np.bool_], cells: NDArray[np.int64], draws: int = 2000) -> str:
    """Mean and 95 % interval in percent, by a bootstrap that draws whole cells."""
    rng = np.random.default_rng(0)
    _, cell = np.unique(cells, return_inverse=True)
    sums, counts = np.bincount(cell, hits), np.bincount(cell)
    drawn = rng.integers(len(counts), size=(draws, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{100 * hits.mean():.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def main() -> None:
    parser = running.parser("data", "runs")
    parser.add_argument("--one")
    asked = parser.parse_args()
    world, places_csv = asked.runs / "world", asked.runs / "alignment" / "places.csv"
    if asked.one:
        from graticule.runs import train

        recipe, settings = RUNS[asked.one]
        train(recipe, world, to=folder(asked.runs, asked.one), **settings, holdout=str(places_csv), threads=1)
        return
    texts = prepare_world(asked.data, world)["text"]
    rows, cells = held_out(texts.lonlat)
    places = texts.lonlat[rows]
    places_csv.parent.mkdir(parents=True, exist_ok=True)
    with places_csv.open("w", newline="") as file:
        csv.writer(file).writerows([("lon", "lat"), *places])
    prepare({"image": months(asked.data, places)}, to=asked.runs / "alignment" / "held-out")
    waiting = [name for name in RUNS if not (folder(asked.runs, name) / "run.json").exists()]
    jobs = [[str(asked.data), str(asked.runs), "--one", name] for name in waiting]
    side_by_side("benchmarks.alignment", jobs, asked.workers)
    Path(__file__).with_suffix(".md").write_text(NOTE + table(asked.runs, rows, cells) + closest(asked.runs, places))


def folder(runs: Path, name: str) -> Path:
    return runs / "alignment" / name.replace(",", "").replace(" ", "-")


def table(runs: Path, rows: NDArray[np.int64], cells: NDArray[np.int64]) -> str:
    header = ["", "text → image", "image → text", "its position → image", "its position → text"]
    lines = []
    texts = open_dataset(runs / "world")["text"]
    images = open_dataset(runs / "alignment" / "held-out")["image"]
    for name in RUNS:
        model = load(folder(runs, name))
        text = model.embed_features("text", cached_features(texts, model.trunk("text")).features[rows])
        image = model.embed_features("image", cached_features(images, model.trunk("image")).features)
        place = model.embed_points(texts.lonlat[rows])
        pairs = [(text, image), (image, text), (place, image), (place, text)]
        lines.append([name, *(interval(recall(*pair), cells) for pair in pairs)])
    return markdown(header, lines)


def closest(runs: Path, places: NDArray[np.float64]) -> str:
    """The measured distance from the held-out places to the nearest training row of each modality."""
    found = []
    for name in ("text", "image"):
        points = open_dataset(runs / "world")[name].lonlat
        nearest = np.stack([great_circle_km(points, place[None]) for place in places]).min(axis=0)
        trained = points[nearest > APART_KM]
        away = min(float(great_circle_km(trained, place[None]).min()) for place in places)
        found.append(f"{name} {away:.1f} km ({len(trained):,} of {len(points):,} rows trained on)")
    return f"\nNearest training row to any held-out place: {', '.join(found)}.\n"


NOTE = """# Emergent alignment of modalities that were never paired

`python -m benchmarks.alignment DATA RUNS`

Recall@10 among 1,000 held-out places (chance 1 %), with 95 % intervals by a bootstrap over 300 km cells. Text
(Wikipedia, Wikivoyage) and Blue Marble patches were each tied to position only; no training row of either lies
within 100 km of a held-out place. The last two columns ask with the vector of the true position instead of the
other modality: the ceiling of what position can hand on.

"""

if __name__ == "__main__":
    main()
