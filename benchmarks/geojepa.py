"""GeoJEPA against its baselines on cities of other continents, with the answers taken out of the maps.

    python -m benchmarks.maps DATA MAPS && python -m benchmarks.geojepa DATA MAPS RUNS [--workers 2]

Every run trains twice, on the cities of Europe and on those of the rest; a model and its probe, which learn on one
side, are tested on the cities of the other. Scores are rows of docs/results/geojepa/TASK.jsonl: what is there is not
scored again, and what is scored on every task is not trained again. They count for the code that made them: delete the
rows of a method when its vectors change. Writes docs/results/geojepa.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks import geojepa_losses, geojepa_table, running
from benchmarks.geojepa_methods import (
    ABLATIONS,
    ALONE,
    EVERY,
    INSIDE,
    METHODS,
    PATCH_PIXELS,
    RUNS,
    SEEDED,
    SEEDS,
    SUPERVISED,
    TRAINED,
    Embed,
    Side,
    Vectors,
    folder,
)
from benchmarks.maps import HEXAGON_CITIES, cities, some
from benchmarks.running import side_by_side
from graticule.evaluation.regions import baselines
from graticule.evaluation.regions.answers import EntityTask, RegionTask, entity_rows, region_labels
from graticule.evaluation.regions.cities import one_city_out
from graticule.evaluation.regions.entity_tasks import ENTITY_TASKS
from graticule.evaluation.regions.labels import BESIDE_MAPS, EXTERNAL, Joined
from graticule.evaluation.regions.probes import Sample, score_cities
from graticule.evaluation.regions.region_tasks import REGION_TASKS
from graticule.evaluation.regions.results import ResultStore
from graticule.evaluation.regions.scores import Scores
from graticule.evaluation.regions.supervised import Labelled, score_supervised
from graticule.geo.region import Region
from graticule.geo.tokens import Tokens

SIDES = ("europe", "rest")
MOST_REGIONS, MOST_ENTITIES = 150, 500  # of a city
POPULATION_CITIES, LEAST_CELLS = ("liechtenstein", "munich", "sophia-antipolis", "wildau"), 8
NO_BUILDINGS = ("porto-alegre",)  # an extract of roads alone
NO_NIGHT_LIGHT = ("north-bayreuth", "porto-alegre")
SCORES = Path("docs/results/geojepa")

Rows = TypeVar("Rows", Sample, Labelled)  # what a probe, or a network, learns from


def train_one(maps: Path, runs: Path, name: str, side: str, seed: int) -> None:
    from graticule.runs import train

    options = {
        "checkpoint_every": 50,
        "log_every": 10,
        "threads": 1,
        "jepa.patch_pixels": PATCH_PIXELS,
        **TRAINED[name],
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
    labelled: Callable[[str, str, Tokens], Labelled] | None  # the same of tokens; None where rows join several regions
    crossed: bool = True  # the other side trains the probe; else the other cities of the same side do
    least: int = 20


def score(exam: Exam, name: str, sides: Mapping[str, Side]) -> dict[str, Scores]:
    """Scores of all cities: models of the other side, probes of the other side or of the other cities."""
    scores = {}
    for asked in exam.shown:
        other = next(name for name in SIDES if name != asked.replace("hexagons", "rest"))
        if name == INSIDE and other != "europe":
            continue
        side, known = sides[other], other if exam.crossed else None
        if name == SUPERVISED:
            scores |= score_labelled(exam, side, asked, known)
            continue
        embed = METHODS[name](side, exam.shown.get(other) or cities(side.maps, other))
        embed = without_regions(embed) if exam.group == "entity tasks" and name in ALONE else embed
        scores |= score_vectors(exam, embed, asked, known)
    return scores


def score_vectors(exam: Exam, embed: Embed, asked: str, known: str | None) -> dict[str, Scores]:
    """Scores of the cities that are asked for, by vectors and a probe that learns from the cities of `splits`."""

    def sample(side: str, city: str, regions: Sequence[Region]) -> Sample:
        return exam.sample(side, city, embed(regions))

    scores = {}
    for train, test in splits(exam, asked, known, sample):
        scores |= score_cities(train, test, exam.classes, exam.least)
    return scores


def score_labelled(exam: Exam, side: Side, asked: str, known: str | None) -> dict[str, Scores]:
    """The same by a network that learns from the labels."""
    if (labelled := exam.labelled) is None:
        return {}

    def rows(where: str, city: str, regions: Sequence[Region]) -> Labelled:
        return labelled(where, city, side.trunk(regions))

    scores = {}
    for train, test in splits(exam, asked, known, rows):
        scores |= score_supervised(train, test, exam.classes, exam.least, seed=side.seed, modalities="TG")
    return scores


def splits(
    exam: Exam, asked: str, known: str | None, rows: Callable[[str, str, Sequence[Region]], Rows]
) -> Iterator[tuple[dict[str, Rows], dict[str, Rows]]]:
    """Training and test cities: those of the side `known` for all asked, or without it all others for each one."""
    test = {city: rows(asked, city, own) for city, own in exam.shown[asked].items()}
    if known is not None:
        yield {city: rows(known, city, own) for city, own in exam.shown[known].items()}, test
    else:
        for train, one in one_city_out(test):
            yield {city: test[city] for city in train}, {city: test[city] for city in one}


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

    def labelled(side: str, city: str, tokens: Tokens) -> Labelled:
        return Labelled(tokens, *labels[side, city])

    return Exam(task.name, "region tasks", 0, shown, sample, labelled)


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

    def labelled(side: str, city: str, tokens: Tokens) -> Labelled:
        own = rows[side, city]
        return Labelled(tokens, own.region, own.label, own.entity)

    return Exam(task.name, "entity tasks", len(task.classes), shown, sample, labelled)


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

    def labelled(side: str, city: str, tokens: Tokens) -> Labelled:
        return Labelled(tokens, joined[side, city].region, joined[side, city].label)

    single = all(len(own) == len(own.region) for own in joined.values())
    return Exam(name, "external labels", 0, shown, sample, labelled if single else None, crossed, least)


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
    parser = running.parser("data", "maps", "runs")
    parser.add_argument("--methods", nargs="+", default=list(EVERY))
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
    geojepa_table.write(SCORES, EVERY, geojepa_losses.collect(asked.runs, SIDES))


if __name__ == "__main__":
    main()
