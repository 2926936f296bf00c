"""GeoJEPA against its baselines on cities of other continents, with the answers taken out of the maps.

    python -m benchmarks.maps DATA MAPS && python -m benchmarks.geojepa DATA MAPS RUNS [--workers 2]

Every run trains twice, on the cities of Europe and on those of the rest; a model and its probe, which learn on one
side, are tested on the cities of the other. Scores are rows of docs/results/geojepa/TASK.jsonl: what is there is not
scored again, and what is scored on every task is not trained again. They count for the code that made them: delete the
rows of a method when its vectors change. Writes docs/results/geojepa.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import geojepa_table
from benchmarks.maps import HEXAGON_CITIES, cities, some
from benchmarks.running import side_by_side
from graticule.data.store import open_dataset
from graticule.embed import load
from graticule.embed_map import load_map
from graticule.encoders.region import RegionTrunk
from graticule.encoders.region_vectors import encoded_tokens
from graticule.encoders.tags import TagTable
from graticule.evaluation.regions import baselines
from graticule.evaluation.regions.answers import EntityTask, RegionTask, entity_rows, region_labels
from graticule.evaluation.regions.cities import one_city_out
from graticule.evaluation.regions.entity_tasks import ENTITY_TASKS
from graticule.evaluation.regions.hex2vec import hex2vec
from graticule.evaluation.regions.labels import BESIDE_MAPS, EXTERNAL, Joined
from graticule.evaluation.regions.places import centres
from graticule.evaluation.regions.probes import Sample, score_cities
from graticule.evaluation.regions.region_tasks import REGION_TASKS
from graticule.evaluation.regions.results import ResultStore
from graticule.evaluation.regions.scores import Scores
from graticule.files import digest_json
from graticule.geo.region import Region
from graticule.geo.tokens import Tokens
from graticule.learners.jepa import GEOJEPA, REGULARISERS, TARGETS
from graticule.runs.jepa import tag_table

SIDES = ("europe", "rest")
MOST_REGIONS, MOST_ENTITIES = 150, 500  # of a city
POPULATION_CITIES, LEAST_CELLS = ("liechtenstein", "munich", "sophia-antipolis", "wildau"), 8
NO_BUILDINGS = ("porto-alegre",)  # an extract of roads alone
NO_NIGHT_LIGHT = ("north-bayreuth", "porto-alegre")
SEEDS = (0, 1, 2)
SCORES = Path("docs/results/geojepa")
PATCH_PIXELS = 4  # of the windows of Blue Marble: 16 tokens

TOKENS: dict[tuple[str, int], Tokens] = {}  # of the regions of an exam: all runs of a side read the same

Cities = Mapping[str, Sequence[Region]]
Vectors = tuple[np.ndarray, list[np.ndarray] | None]  # of regions, and of the entities of each
Embed = Callable[[Sequence[Region]], Vectors]
Fit = Callable[["Side", Cities], Embed]  # from one side's training cities, as the task shows them

COMBINATIONS = ("T", "G", "I", "TG", "TI", "GI", "TGI")
RUNS: dict[str, dict[str, Any]] = {
    "untrained TG": {"jepa.modalities": "TG", "steps": 0},
    "untrained TGI": {"jepa.modalities": "TGI", "steps": 0},
    **{f"geojepa {letters}": {"jepa.modalities": letters} for letters in COMBINATIONS},
}
ABLATIONS: dict[str, dict[str, Any]] = {  # of tags and geometry, one seed
    f"geojepa TG, {targets} + {regulariser}": {
        "jepa.modalities": "TG", "jepa.targets": targets, "jepa.regulariser": regulariser
    }
    for targets in TARGETS
    for regulariser in REGULARISERS
    if (targets, regulariser) != (GEOJEPA["targets"], GEOJEPA["regulariser"])
}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """Where a method may learn: one half of the world."""

    name: str
    maps: Path
    runs: Path
    seed: int

    @cached_property
    def table(self) -> TagTable:
        """The tags of this side, as the sentence encoder reads them."""
        return tag_table(open_dataset(self.maps / self.name)["osm"], "sentence", None)

    @cached_property
    def trunk(self) -> RegionTrunk:
        """Tokens without anything learned."""
        return RegionTrunk(self.table)


def jepa(name: str) -> Fit:
    """The vectors of a run of this side."""

    def fit(side: Side, train: Cities) -> Embed:
        model = load_map(folder(side.runs, name, side.name, side.seed))
        identity = digest_json(model.trunk.identity())

        def embed(regions: Sequence[Region]) -> Vectors:
            key = (identity, id(regions))  # an exam keeps its regions as long as it is asked
            if key not in TOKENS:
                TOKENS[key] = model.trunk(regions)
            return encoded_tokens(model.encoder, TOKENS[key])

        return embed

    return fit


def tag_pool(side: Side, train: Cities) -> Embed:
    def embed(regions: Sequence[Region]) -> Vectors:
        parts = baselines.tag_parts(regions, side.table)
        return baselines.pooled(parts), parts

    return embed


def tag_count(side: Side, train: Cities) -> Embed:
    known = [region for own in train.values() for region in own]
    pool, own = baselines.tag_counts(known), baselines.entity_tag_counts(known)
    return lambda regions: (pool(regions), own(regions))


def geometry_pool(side: Side, train: Cities) -> Embed:
    def embed(regions: Sequence[Region]) -> Vectors:
        shapes, _ = side.trunk.shape_rows(regions)
        parts = np.split(shapes, np.cumsum([len(region) for region in regions])[:-1])
        return baselines.pooled(parts, count=True), parts

    return embed


def beside(*fits: Fit) -> Fit:
    """Several methods side by side."""

    def fit(side: Side, train: Cities) -> Embed:
        embeds = [one(side, train) for one in fits]

        def embed(regions: Sequence[Region]) -> Vectors:
            found = [one(regions) for one in embeds]
            parts = [[np.asarray(p) for p in own or []] for _, own in found]
            return np.hstack([v for v, _ in found]), [np.hstack(rows) for rows in zip(*parts, strict=True)]

        return embed

    return fit


def harmonics(side: Side, train: Cities) -> Embed:
    return lambda regions: (baselines.location_harmonics(centres(regions)), None)


def location(side: Side, train: Cities) -> Embed:
    model = load()
    return lambda regions: (model.embed_points(centres(regions)), None)


def image(side: Side, train: Cities) -> Embed:
    return lambda regions: (baselines.image_statistics(regions), None)


def skip_gram(side: Side, train: Cities) -> Embed:
    learned = hex2vec([list(own) for own in train.values()], seed=side.seed)
    return lambda regions: (learned(regions), None)


def nothing(side: Side, train: Cities) -> Embed:
    return lambda regions: (baselines.nothing(regions), None)


METHODS: dict[str, Fit] = {
    "mean or majority": nothing,
    "location: harmonics": harmonics,
    "location: the model inside": location,
    "image: Blue Marble statistics": image,
    "TagCount": tag_count,
    "TagPool": tag_pool,
    "geometry pool": geometry_pool,
    "TagPool + geometry pool": beside(tag_pool, geometry_pool),
    "TagPool, entities alone": tag_pool,
    "TagPool + geometry, entities alone": beside(tag_pool, geometry_pool),
    "Hex2Vec-style": skip_gram,
    **{name: jepa(name) for name in (*RUNS, *ABLATIONS)},
}
SEEDED = ("Hex2Vec-style", *RUNS)
ALONE = (
    *RUNS,
    *ABLATIONS,
    *(name for name in METHODS if name.endswith("alone")),
)  # entities without their region beside them


def folder(runs: Path, name: str, side: str, seed: int) -> Path:
    """Where a run lies."""
    return runs / f"{name.replace(' ', '-')}-{side}-{seed}"


def train_one(maps: Path, runs: Path, name: str, side: str, seed: int) -> None:
    from graticule.runs import train

    options = {
        "checkpoint_every": 50,
        "log_every": 10,
        "threads": 1,
        "jepa.patch_pixels": PATCH_PIXELS,
        **{**RUNS, **ABLATIONS}[name],
    }
    train("geojepa", maps / side, to=folder(runs, name, side, seed), seed=seed, **options)


@dataclass(frozen=True)
class Exam:
    """One task: the regions of each city as the task shows them, what is labelled, and who trains for whom."""

    name: str
    group: str
    classes: int
    shown: dict[str, dict[str, list[Region]]]  # side -> city -> regions
    sample: Callable[[str, str, Vectors], Sample]  # side, city, vectors -> labelled rows
    crossed: bool = True  # the other side trains the probe; else the other cities of the same side do
    least: int = 20


def score(exam: Exam, name: str, sides: Mapping[str, Side]) -> dict[str, Scores]:
    """Scores of all cities: models of the other side, probes of the other side or of the other cities."""
    fit, scores = METHODS[name], {}
    alone = exam.group == "entity tasks" and name in ALONE
    for asked in exam.shown:
        other = next(name for name in SIDES if name != asked.replace("hexagons", "rest"))
        embed = fit(sides[other], exam.shown.get(other) or cities(sides[other].maps, other))
        embed = without_regions(embed) if alone else embed
        samples = {city: exam.sample(asked, city, embed(own)) for city, own in exam.shown[asked].items()}
        if exam.crossed:
            known = {city: exam.sample(other, city, embed(own)) for city, own in exam.shown[other].items()}
            scores |= score_cities(known, samples, exam.classes, exam.least)
        else:
            for train, test in one_city_out(samples):
                parts = ({city: samples[city] for city in names} for names in (train, test))
                scores |= score_cities(*parts, exam.classes, exam.least)
    return scores


def without_regions(embed: Embed) -> Embed:
    """The vectors of entities alone."""
    return lambda regions: (baselines.nothing(regions), embed(regions)[1])


def region_exam(task: RegionTask, maps: Path) -> Exam:
    full = {side: {c: some(r, MOST_REGIONS) for c, r in cities(maps, side).items()} for side in SIDES}
    if task.name in ("buildings", "amenities"):
        full = {side: {c: r for c, r in own.items() if not c.startswith(NO_BUILDINGS)} for side, own in full.items()}
    labels = {(side, c): region_labels(task, r) for side, own in full.items() for c, r in own.items()}
    shown = {side: {c: [task.hidden(one) for one in r] for c, r in own.items()} for side, own in full.items()}

    def sample(side: str, city: str, vectors: Vectors) -> Sample:
        rows, label = labels[side, city]
        return Sample(vectors[0][rows], label)

    return Exam(task.name, "region tasks", 0, shown, sample)


def entity_exam(task: EntityTask, maps: Path) -> Exam:
    full = {side: {c: some(r, MOST_REGIONS) for c, r in cities(maps, side).items()} for side in SIDES}
    rows = {(side, c): entity_rows(task, r, MOST_ENTITIES) for side, own in full.items() for c, r in own.items()}
    shown: dict[str, dict[str, list[Region]]] = {side: {} for side in SIDES}
    for (side, city), own in rows.items():
        if len(own):
            shown[side][city] = [task.hidden(one) for one in full[side][city]]

    def sample(side: str, city: str, vectors: Vectors) -> Sample:
        own = rows[side, city]
        pool, parts = vectors
        vectors_of = pool[own.region] if parts is None else baselines.entity_vectors(parts, pool, own)
        return Sample(vectors_of, own.label)

    return Exam(task.name, "entity tasks", len(task.classes), shown, sample)


def external_exam(name: str, data: Path, maps: Path) -> Exam:
    read, labels = EXTERNAL[name], data / BESIDE_MAPS
    crossed, least = name == "night_light", 20
    if crossed:
        lit = {side: [c for c in cities(maps, side) if not c.startswith(NO_NIGHT_LIGHT)] for side in SIDES}
        shown = {side: {c: some(cities(maps, side)[c], MOST_REGIONS) for c in own} for side, own in lit.items()}
    elif name.startswith("population"):
        shown = {"europe": {c: r for c, r in cities(maps, "europe").items() if c.startswith(POPULATION_CITIES)}}
        least = LEAST_CELLS
    else:
        shown = {"hexagons": {c: r for c, r in cities(maps, "hexagons").items() if c.startswith(HEXAGON_CITIES)}}
    joined: dict[tuple[str, str], Joined] = {
        (side, c): read(labels, c, r) for side, own in shown.items() for c, r in own.items()
    }

    def sample(side: str, city: str, vectors: Vectors) -> Sample:
        return Sample(joined[side, city].of(vectors[0]), joined[side, city].label)

    return Exam(name, "external labels", 0, shown, sample, crossed, least)


def exams(data: Path, maps: Path) -> dict[str, Callable[[], Exam]]:
    """All tasks, made when they are asked for."""
    found: dict[str, Callable[[], Exam]] = {n: partial(region_exam, task, maps) for n, task in REGION_TASKS.items()}
    found |= {n: partial(entity_exam, task, maps) for n, task in ENTITY_TASKS.items()}
    return found | {n: partial(external_exam, n, data, maps) for n in EXTERNAL}


def score_all(data: Path, maps: Path, runs: Path, task: str, names: Sequence[str], seeds: Sequence[int]) -> None:
    """Score methods on one task; what is in SCORES/TASK.jsonl is not done again."""
    store = ResultStore(SCORES / f"{task}.jsonl")
    todo = [(n, s) for s in seeds for n in names if not store.done(n, s, task) and (s == 0 or n in SEEDED)]
    if not todo:
        return
    exam = exams(data, maps)[task]()
    todo = [(name, seed) for name, seed in todo if exam.group == "entity tasks" or not name.endswith("alone")]
    for name, seed in todo:
        sides = {side: Side(side, maps, runs, seed) for side in SIDES}
        store.add(name, seed, task, exam.group, score(exam, name, sides))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--train", nargs=3, metavar=("RUN", "SIDE", "SEED"))
    parser.add_argument("--score", metavar="TASK")
    asked = parser.parse_args()
    if asked.train:
        train_one(asked.maps, asked.runs, asked.train[0], asked.train[1], int(asked.train[2]))
        return
    if asked.score:
        score_all(asked.data, asked.maps, asked.runs, asked.score, asked.methods, asked.seeds)
        return
    common = (str(asked.data), str(asked.maps), str(asked.runs))
    chosen = ("--methods", *asked.methods, "--seeds", *map(str, asked.seeds))
    tasks = list(exams(asked.data, asked.maps))
    stores = {task: ResultStore(SCORES / f"{task}.jsonl") for task in tasks}
    lacking = [
        (name, seed)
        for seed in asked.seeds
        for name in asked.methods
        if (name in RUNS or (name in ABLATIONS and seed == 0))
        and not all(store.done(name, seed, task) for task, store in stores.items())
    ]
    jobs = [(name, side, str(seed)) for name, seed in lacking for side in SIDES]
    side_by_side("benchmarks.geojepa", [(*common, "--train", *job) for job in jobs], asked.workers)
    side_by_side("benchmarks.geojepa", [(*common, *chosen, "--score", task) for task in tasks], asked.workers)
    geojepa_table.write(SCORES, list(METHODS))


if __name__ == "__main__":
    main()
