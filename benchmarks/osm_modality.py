"""OpenStreetMap as a modality: `melt` on text and Blue Marble with and without the regions of maps, external labels.

    python -m benchmarks.maps DATA MAPS && python -m benchmarks.geojepa DATA MAPS RUNS
    python -m benchmarks.osm_modality DATA MAPS RUNS [--workers 2]

The maps are those of one side of the world, Europe or the rest, read by the GeoJEPA of tags and geometry that was
trained on them (RUNS, seed 0); a probe learns from the labels of all cities of that side but one and answers for this
one. Maps are a modality: that of the tested city is seen, without labels; its labels are not. Scores are rows of
docs/results/osm-modality/TASK.jsonl, kept and continued as those of `benchmarks.geojepa`. Writes
docs/results/osm-modality.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import running
from benchmarks.architectures import SETTINGS
from benchmarks.geojepa import SIDES, external_exam, score_vectors
from benchmarks.geojepa_methods import SEEDS, Cities, Embed, Fit, Side, Vectors, jepa
from benchmarks.geojepa_methods import folder as run_folder
from benchmarks.running import markdown, side_by_side
from benchmarks.world import prepare_text_and_image
from graticule.embed import load
from graticule.evaluation.regions.labels import EXTERNAL
from graticule.evaluation.regions.places import centres
from graticule.evaluation.regions.results import Result, ResultStore, compare, summary, task_means
from graticule.geo.region import Region

READER = "geojepa TG"
GRID = {"location.levels": 8, "location.coarsest": 64, "location.finest": 8192}  # cells of 200 to 1.6 km
ENCODERS = {"harmonics": {}, "harmonics and hash grid": {"location": "harmonics+hash-grid", **GRID}}
SCORES = Path("docs/results/osm-modality")
PAGE = Path("docs/results/osm-modality.md")
NOTE = """# OpenStreetMap as a modality

`python -m benchmarks.osm_modality DATA MAPS RUNS`

`melt` on 45,886 texts and 135,886 Blue Marble patches, with and without the tiles of zoom 16 of the maps of one side of
the world (Europe, the rest), three seeds; two location encoders, spherical harmonics to degree 30, and the same with a
hash grid of cells of 200 to 1.6 km. Frozen vectors, ridge on the labels of all cities of a side but one, tested on this
one: its map was seen as a modality, its labels were not. Skill = 1 - SSE / SSE of the training mean, floored at -1 in
means. *place*: 256-d, by the location encoder at the centre of the tile. *place and map*: beside it the vector of the
tile's own map by the OSM tower of the same run. *GeoJEPA*: the vector that the OSM tower reads, as it is.

"""


def world(data: Path, maps: Path, runs: Path, side: str) -> Path:
    """Text and image, and beside them the maps of a side where one is named."""
    plain = runs / "world-text-image"
    prepare_text_and_image(data, plain)
    if not side:
        return plain
    together = runs / f"world-{side}"
    together.mkdir(parents=True, exist_ok=True)
    for name, source in (("text", plain), ("image", plain), ("osm", maps / side)):
        if not (link := together / name).exists():
            link.symlink_to((source / name).resolve())
    return together


def folder(runs: Path, encoder: str, side: str, seed: int) -> Path:
    """Where a run lies; without a side it is one without maps."""
    return runs / f"melt-{encoder.replace(' ', '-')}-{side or 'without'}-{seed}"


def train_one(data: Path, maps: Path, runs: Path, encoder: str, side: str, seed: int) -> None:
    from graticule.runs import train

    reader = {"trunk.osm": f"regions:{run_folder(runs, READER, side, 0)}"} if side else {}
    settings = {**SETTINGS, **ENCODERS[encoder], **reader}
    train("melt", world(data, maps, runs, side), to=folder(runs, encoder, side, seed), seed=seed, threads=1, **settings)


def place(encoder: str, osm: bool) -> Fit:
    """The vectors of a run's location encoder."""

    def fit(side: Side, train: Cities) -> Embed:
        model = load(folder(side.runs, encoder, side.name if osm else "", side.seed))
        return lambda regions: (model.embed_points(centres(regions)), None)

    return fit


def geojepa(side: Side, train: Cities) -> Embed:
    """The vectors that the OSM tower reads."""
    return jepa(READER)(replace(side, seed=0), train)


def place_and_map(encoder: str) -> Fit:
    """The vectors of a run's location encoder beside those of its OSM tower."""

    def fit(side: Side, train: Cities) -> Embed:
        model, read = load(folder(side.runs, encoder, side.name, side.seed)), geojepa(side, train)

        def embed(regions: Sequence[Region]) -> Vectors:
            own = model.embed_features("osm", read(regions)[0].astype(np.float32))
            return np.hstack([model.embed_points(centres(regions)), own]), None

        return embed

    return fit


GEOJEPA = "GeoJEPA"
METHODS: dict[str, Fit] = {
    **{f"{e}, text, image: place": place(e, osm=False) for e in ENCODERS},
    **{f"{e}, text, image, OSM: place": place(e, osm=True) for e in ENCODERS},
    **{f"{e}, text, image, OSM: place and map": place_and_map(e) for e in ENCODERS},
    GEOJEPA: geojepa,
}
PAIRS = [
    *(
        (f"{e}, text, image, OSM: {v}", f"{e}, text, image: place")
        for e in ENCODERS
        for v in ("place", "place and map")
    ),
    ("harmonics and hash grid, text, image, OSM: place", "harmonics, text, image: place"),
]


def score_all(data: Path, maps: Path, runs: Path, task: str) -> None:
    """Score every method and seed on one task; what is in SCORES/TASK.jsonl is not done again."""
    store = ResultStore(SCORES / f"{task}.jsonl")
    todo = [(n, s) for s in SEEDS for n in METHODS if not store.done(n, s, task) and (s == 0 or n != GEOJEPA)]
    if not todo:
        return
    exam = external_exam(task, data, maps)
    for name, seed in todo:
        scores = {}
        for asked in exam.shown:
            side = Side(asked.replace("hexagons", "rest"), maps, runs, seed)
            scores |= score_vectors(exam, METHODS[name](side, exam.shown[asked]), asked, None)
        store.add(name, seed, task, exam.group, scores)


def write() -> None:
    """The page, from the rows of all tasks."""
    rows = [row for task in EXTERNAL for row in ResultStore(SCORES / f"{task}.jsonl").rows]
    means, of_task, ranks = summary(rows), task_means(rows), task_means(rows, "spearman")
    header = ["vector", *of_task, "mean over cities"]
    body = [
        [n, *(f"{found[n]:.3f}" for found in of_task.values()), f"{means[n]['external labels']:.3f}"] for n in METHODS
    ]
    ordered = [[n, *(f"{found[n]:.3f}" for found in ranks.values())] for n in METHODS]
    gains = [[f"{a} minus {b}", *(_gain(rows, a, b, task) for task in (*of_task, None))] for a, b in PAIRS]
    PAGE.write_text(
        NOTE
        + markdown(header, body)
        + "\nRank correlation (Spearman) within cities:\n\n"
        + markdown(header[:-1], ordered)
        + "\nDifferences of skill, with 95 % t intervals over cities (population has four cities, hexagons two):\n\n"
        + markdown(header, gains)
    )


def _gain(rows: Sequence[Result], ours: str, other: str, task: str | None) -> str:
    found = compare(rows, ours, other, task=task)
    return f"{found.difference:+.3f} [{found.t_low:+.3f}, {found.t_high:+.3f}]"


def main() -> None:
    parser = running.parser("data", "maps", "runs")
    parser.add_argument("--train", nargs=3, metavar=("ENCODER", "SIDE", "SEED"))
    parser.add_argument("--score", metavar="TASK")
    asked = parser.parse_args()
    common = (asked.data, asked.maps, asked.runs)
    if asked.train:
        train_one(*common, asked.train[0], asked.train[1], int(asked.train[2]))
        return
    if asked.score:
        score_all(*common, asked.score)
        return
    for side in ("", *SIDES):
        world(*common, side)
    jobs = [(e, side, seed) for seed in SEEDS for e in ENCODERS for side in ("", *SIDES)]
    jobs = [job for job in jobs if not (folder(asked.runs, *job) / "run.json").exists()]
    words = tuple(map(str, common))
    training = [(*words, "--train", encoder, side, str(seed)) for encoder, side, seed in jobs]
    side_by_side("benchmarks.osm_modality", training, asked.workers)
    side_by_side("benchmarks.osm_modality", [(*words, "--score", task) for task in EXTERNAL], asked.workers)
    write()


if __name__ == "__main__":
    main()
