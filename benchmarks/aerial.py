"""Does an aerial image help to know a roof? GeoJEPA with and without it in Banepa, and training-free baselines.

    python -m benchmarks.aerial DATA RUNS [--seeds 3]

48 chips of OpenAerialMap (zoom 19, 13 cm pixels) and the 1,466 buildings of OpenStreetMap under them, cut into slippy
tiles of zoom 20. For each task its answer is taken out of all tags before anything is trained. Scores what is not in
RUNS/aerial.jsonl yet, and writes benchmarks/aerial.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import shapely
import torch

from benchmarks.running import markdown
from graticule.data.osm.source import osm
from graticule.data.source import Row
from graticule.encoders.region import RegionTrunk, centres_and_sizes
from graticule.encoders.tags import TagTable
from graticule.encoders.towers import trunk
from graticule.evaluation.regions import baselines
from graticule.evaluation.regions.answers import EntityRows, EntityTask, Tags, entity_rows
from graticule.evaluation.regions.entity_tasks import ENTITY_TASKS
from graticule.evaluation.regions.probes import fit_predict
from graticule.evaluation.splits import balanced_folds, without_buffer
from graticule.evaluation.uncertainty import block_weights, interval
from graticule.geo.cells import equal_area_cells
from graticule.geo.placed import Placed
from graticule.geo.region import Region
from graticule.geo.tokens import Tokens
from graticule.learners.jepa import GEOJEPA, JepaLearner
from graticule.recipes import JEPA_RECIPES
from graticule.training.trainer import Phase, Schedule, fit

CELLS, PIXELS, PATCH_PIXELS = "slippy:20", 128, 16  # tiles of 34 m, pixels of 26 cm, patches of 4.2 m
BLOCK_KM, BUFFER_KM, FOLDS, DRAWS = 0.1, 0.05, 5, 2000
STEPS, STEP_TOKENS = 60, 2048
COMBINATIONS = ("T", "G", "TG", "I", "TI", "GI", "TGI")
SHAPES = {"flat": 0, "mixed": 1, "mix": 1, "Mix": 1}

ALONE, AT_CENTRE = ": entity alone", ": entity and patch at its centre"

Vectors = tuple[np.ndarray, list[np.ndarray]]  # of regions, and of the entities of each
Method = Callable[["Exam", int], dict[str, Vectors]]  # by what is added to the method's name


def without_roof_shape(tags: Tags) -> Tags | None:
    """No key with roof and shape, type, angle, levels or height, nor what is only said of some shapes."""
    told = ("shape", "type", "angle", "level", "height", "orientation")
    return {
        k: v
        for k, v in tags.items()
        if not ("roof" in k.lower() and any(word in k.lower() for word in told)) and k != "green_roof"
    }


TASKS = {
    "roof_material": ENTITY_TASKS["roof_material"],
    "roof_shape": EntityTask(
        "roof_shape", lambda tags: SHAPES.get(tags.get("roof:shape", "")), without_roof_shape, ("flat", "mixed")
    ),
}


def regions_of(data: Path) -> list[Region]:
    """The tiles with their buildings and images."""
    folder = data / "aerial"
    source = osm(
        folder / "banepa_osm_buildings.geojson", cells=CELLS, images=folder / "banepa_chips", image_pixels=PIXELS
    )
    return [record.content for record in source.records(0) if isinstance(record, Row)]


@dataclass(frozen=True)
class Exam:
    """One task: the regions without its answer, and the labelled buildings."""

    task: EntityTask
    full: list[Region]

    @cached_property
    def regions(self) -> list[Region]:
        return [self.task.hidden(region) for region in self.full]

    @cached_property
    def rows(self) -> EntityRows:
        return entity_rows(self.task, self.full, most=10**6)

    @cached_property
    def places(self) -> np.ndarray:
        return centres_and_sizes([region.outline for region in self.full])[0]

    @cached_property
    def tokens(self) -> Tokens:
        return self.trunk(self.regions)

    @cached_property
    def trunk(self) -> RegionTrunk:
        counts: dict[str, int] = {}
        for region in self.regions:
            for tags in region.tags:
                for key, value in tags.items():
                    counts[f"{key}={value}"] = counts.get(f"{key}={value}", 0) + 1
        return RegionTrunk(
            TagTable.build(counts, trunk("sentence"), 128), PATCH_PIXELS, JEPA_RECIPES["geojepa"]["frequent"]
        )

    @cached_property
    def pixels(self) -> list[np.ndarray]:
        """For each region (its entities, 24): statistics of the pixels of the image that lie in each entity."""
        return [pixels_inside(region) for region in self.regions]


def pixels_inside(region: Region) -> np.ndarray:
    """(entities, 24): mean, deviation, quantiles and step of the colours under each entity; zeros where none are."""
    if region.image is None:
        return np.zeros((len(region), 24), np.float32)
    west, south, east, north = shapely.from_wkb(region.outline).bounds
    parts = (np.arange(PIXELS) + 0.5) / PIXELS
    lon, lat = np.meshgrid(west + parts * (east - west), north - parts * (north - south))
    covered = np.ones((PIXELS, PIXELS), bool) if region.covered is None else region.covered
    inside = [shapely.contains_xy(shape, lon, lat) & covered for shape in shapely.from_wkb(list(region.geometries))]
    return baselines.image_statistics([replace(region, covered=own) for own in inside])


def one_hot_tags(exam: Exam) -> list[np.ndarray]:
    return baselines.entity_tag_counts(exam.regions)(exam.regions)


def shapes(exam: Exam) -> list[np.ndarray]:
    return np.split(np.asarray(exam.tokens.geometry, np.float32), exam.tokens.offsets[1:-1])


def alone(*fits: Callable[[Exam], list[np.ndarray]]) -> Method:
    """Vectors of entities side by side, without their regions."""

    def vectors(exam: Exam, seed: int) -> dict[str, Vectors]:
        parts = [np.hstack(own) for own in zip(*(one(exam) for one in fits), strict=True)]
        return {"": (np.zeros((len(parts), 0)), parts)}

    return vectors


def nothing(exam: Exam, seed: int) -> dict[str, Vectors]:
    return {"": (np.zeros((len(exam.regions), 0)), [np.zeros((len(region), 0)) for region in exam.regions])}


def with_pixels(exam: Exam) -> Tokens:
    """The tokens with the pixels under an entity as a part of its geometry."""
    return replace(exam.tokens, geometry=np.hstack([exam.tokens.geometry, np.vstack(exam.pixels)]).astype(np.float32))


def jepa(modalities: str, steps: int = STEPS, tokens_of: Callable[[Exam], Tokens] = lambda exam: exam.tokens) -> Method:
    """A GeoJEPA trained on all tiles: entities beside their regions, alone, and beside the patch at their centre."""

    def vectors(exam: Exam, seed: int) -> dict[str, Vectors]:
        torch.manual_seed(seed)
        tokens = tokens_of(exam)
        learner = JepaLearner.of(tokens, **{**GEOJEPA, "modalities": modalities})
        with TemporaryDirectory() as folder:
            fit(
                learner,
                {"osm": Placed(exam.places, tokens)},
                [Phase(("osm",))],
                Schedule(
                    steps, batch_tokens=STEP_TOKENS, weight_decay=0.05, beta2=0.95, clip=10.0, warmup=0.1, seed=seed
                ),
                Path(folder),
            )
        regions, entities, patches = encoded(learner, tokens)
        none = np.zeros((len(regions), 0))
        found = {"": (regions, entities)}
        if modalities != "I":
            found[ALONE] = none, entities
        if len(modalities) > 1 and "I" in modalities:
            found[AT_CENTRE] = none, [np.hstack(own) for own in zip(entities, patches, strict=True)]
        return found

    return vectors


def encoded(learner: JepaLearner, tokens: Tokens) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Vectors of regions, of the entities of each, and of the patches at the centres of these."""
    regions, entities, patches = [], [], []
    learner.eval()
    with torch.no_grad():
        for rows in np.array_split(np.arange(len(tokens)), max(len(tokens) // 16, 1)):
            part = tokens.take(rows)
            found = learner.encoder(part.to("cpu"))
            regions.append(found.regions.numpy())
            entities += np.split(found.vectors.numpy(), part.offsets[1:-1])
            if found.patches is not None:
                owner = np.repeat(np.arange(len(part)), np.diff(part.offsets))
                at = found.patches.numpy()[owner, patch_at(part.position, found.patches.shape[1])]
                patches += np.split(at, part.offsets[1:-1])
    return np.vstack(regions), entities, patches


def patch_at(position: np.ndarray, patches: int) -> np.ndarray:
    """(t,) the patch, row by row from the north-west, in which the centres of (t, p) positions lie."""
    side = int(patches**0.5)
    column, row = (np.clip((v + 1) / 2 * side, 0, side - 1).astype(int) for v in (position[:, 0], -position[:, 1]))
    return row * side + column


METHODS: dict[str, Method] = {
    "majority": nothing,
    "own tags": alone(one_hot_tags),
    "own tags + shape": alone(one_hot_tags, shapes),
    "pixels under it": alone(lambda exam: exam.pixels),
    "own tags + shape + pixels under it": alone(one_hot_tags, shapes, lambda exam: exam.pixels),
    "untrained TG": jepa("TG", 0),
    "untrained TGI": jepa("TGI", 0),
    **{f"geojepa {letters}": jepa(letters) for letters in COMBINATIONS},
    "geojepa TG, pixels in G": jepa("TG", tokens_of=with_pixels),
    "geojepa TGI, pixels in G": jepa("TGI", tokens_of=with_pixels),
}
PAIRS = (
    ("geojepa TGI", "geojepa TG"),
    (f"geojepa TGI{ALONE}", f"geojepa TG{ALONE}"),
    ("geojepa TI", "geojepa T"),
    ("geojepa GI", "geojepa G"),
    ("geojepa TG", "untrained TG"),
    ("geojepa TGI", "untrained TGI"),
    (f"geojepa TGI{AT_CENTRE}", f"geojepa TG{ALONE}"),
    ("geojepa TG, pixels in G", "geojepa TG"),
    (f"geojepa TG, pixels in G{ALONE}", f"geojepa TG{ALONE}"),
    ("geojepa TGI, pixels in G", "geojepa TG"),
    ("own tags + shape + pixels under it", "own tags + shape"),
)


def blocks(exam: Exam) -> np.ndarray:
    """(n,) the block of every tile."""
    return np.unique(equal_area_cells(exam.places, BLOCK_KM), return_inverse=True)[1]


def answers(exam: Exam, vectors: Vectors) -> np.ndarray:
    """(k,) the class of every labelled building, by a probe of the other folds' buildings beyond the buffer."""
    rows, block = exam.rows, blocks(exam)
    pool, parts = vectors
    x = baselines.entity_vectors(parts, pool, rows) if parts[0].shape[1] else pool[rows.region]
    fold = balanced_folds(block[rows.region], FOLDS)
    said = np.zeros(len(rows), np.int64)
    for k in range(FOLDS):
        places = exam.places[rows.region]
        test = np.flatnonzero(fold == k)
        train = without_buffer(places, np.flatnonzero(fold != k), test, BUFFER_KM)
        said[test] = fit_predict(
            x[train], rows.label[train], block[rows.region[train]], x[test], len(exam.task.classes)
        )
    return said


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """(..., c, c) counts of truths and answers -> (...,) mean F1 over the classes that occur."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    there, told = confusion.sum(-1), confusion.sum(-2)
    f1 = 2 * hits / np.maximum(there + told, 1)
    return (f1 * (there > 0)).sum(-1) / (there > 0).sum(-1)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1).sum(-1) / confusion.sum((-2, -1))


METRICS = {"macro-F1": macro_f1, "accuracy": accuracy}


def draws(exam: Exam, said: Sequence[Sequence[int]], metric: str) -> np.ndarray:
    """(1 + DRAWS,) the score, mean over seeds, as it is and in bootstrap draws of blocks; the same for all methods."""
    classes, block = len(exam.task.classes), blocks(exam)[exam.rows.region]
    block = np.unique(block, return_inverse=True)[1]
    weights = np.vstack([np.ones((1, block.max() + 1)), block_weights(block.max() + 1, DRAWS)])
    found = []
    for own in said:
        counts = np.zeros((block.max() + 1, classes, classes))
        np.add.at(counts, (block, exam.rows.label, np.asarray(own)), 1)
        found.append(METRICS[metric](np.tensordot(weights, counts, 1)))
    return np.mean(found, axis=0)


def score_all(data: Path, store: Path, seeds: int) -> dict[str, Exam]:
    """Every method on every task; answers that are in the file are not made again."""
    full = regions_of(data)
    exams = {name: Exam(task, full) for name, task in TASKS.items()}
    done = {(a["task"], a["method"], a["seed"]) for a in read(store)}
    for seed in range(seeds):
        for task, exam in exams.items():
            for name, method in METHODS.items():
                if (task, name, seed) in done or (seed and not seeded(name)):
                    continue
                said = {f"{name}{part}": answers(exam, own).tolist() for part, own in method(exam, seed).items()}
                with store.open("a") as file:
                    for full_name, own in reversed(said.items()):  # the name that `done` looks for comes last
                        line = {"task": task, "method": full_name, "seed": seed, "said": own}
                        file.write(json.dumps(line) + "\n")
    return exams


def seeded(name: str) -> bool:
    return name.startswith(("geojepa", "untrained"))


def read(store: Path) -> list[dict]:
    return [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []


def cell(values: np.ndarray, signed: bool = False) -> str:
    low, high = interval(values[1:])
    return f"{values[0]:+.3f} [{low:+.3f}, {high:+.3f}]" if signed else f"{values[0]:.3f} [{low:.3f}, {high:.3f}]"


def write(exams: dict[str, Exam], store: Path) -> None:
    said: dict[tuple[str, str], list[list[int]]] = {}
    for answer in read(store):
        said.setdefault((answer["task"], answer["method"]), []).append(answer["said"])
    columns = [(task, metric) for task in exams for metric in METRICS]
    scores = {
        (task, method, metric): draws(exams[task], own, metric)
        for (task, method), own in said.items()
        for metric in METRICS
    }
    every = [f"{name}{part}" for name in METHODS for part in ("", ALONE, AT_CENTRE)]
    known = [m for m in every if all((task, m) in said for task in exams)]
    header = [f"{task}, {metric}" for task, metric in columns]
    body = [[m, str(len(said["roof_material", m])), *(cell(scores[t, m, k]) for t, k in columns)] for m in known]
    gains = [
        [f"{a} - {b}", *(cell(scores[t, a, k] - scores[t, b, k], True) for t, k in columns)]
        for a, b in PAIRS
        if a in known and b in known
    ]
    counts = {
        task: ", ".join(f"{name} {n}" for name, n in zip(e.task.classes, np.bincount(e.rows.label), strict=False) if n)
        for task, e in exams.items()
    }
    exam = exams["roof_material"]
    text = NOTE.format(
        tiles=len(exam.full),
        material=counts["roof_material"],
        shape=counts["roof_shape"],
        blocks=len(np.unique(blocks(exam)[exam.rows.region])),
        steps=STEPS,
    )
    parts = [text, "## Scores\n", markdown(["method", "seeds", *header], body), "## Differences\n"]
    Path("benchmarks/aerial.md").write_text("\n".join([*parts, markdown(["", *header], gains)]))


NOTE = """# Roofs of Banepa, with and without an aerial image

`python -m benchmarks.aerial DATA RUNS`

{tiles} slippy tiles of zoom 20 (34 m) with buildings of OpenStreetMap, images of 128 pixels (26 cm) of OpenAerialMap,
patches of 16 pixels (4.2 m). Roof material: {material}. Roof shape: {shape}. Levels are on 25 buildings: too few to
ask. The answer is taken out of the tags of all buildings first (`evaluation.regions.entity_tasks`; for the shape
`without_roof_shape`), then GeoJEPA trains on all tiles, {steps} steps of 2,048 tokens. A linear probe of the vector of
a building beside the one of its tile, if nothing else is said; five folds of whole blocks of 100 m, training buildings
in tiles nearer than 50 m to one of the test left out. Scores over the buildings of all folds, means over seeds; 95 %
intervals by the bootstrap of {blocks} blocks. "Pixels under it": mean, deviation, quantiles and step of the colours
inside the outline; "pixels in G": the same as a part of the geometry of an entity's token, before anything is trained.
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.runs.mkdir(parents=True, exist_ok=True)
    store = asked.runs / "aerial.jsonl"
    write(score_all(asked.data, store, asked.seeds), store)


if __name__ == "__main__":
    main()
