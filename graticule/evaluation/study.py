"""What stands in a report beside its scores: information content, shared variance, where two embeddings differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graticule.errors import unknown
from graticule.evaluation.baselines import waves
from graticule.evaluation.contrast import Place, disagreement, top_places
from graticule.evaluation.examine import Embed
from graticule.evaluation.information.dimension import local_dimension
from graticule.evaluation.information.profile import profile
from graticule.evaluation.information.similarity import cka, debiased_cka, neighbour_overlap, procrustes_angle
from graticule.evaluation.outcomes import fingerprint, fingerprint_of_folds
from graticule.evaluation.partition import partition
from graticule.evaluation.predictors import Array
from graticule.evaluation.report import Report
from graticule.evaluation.splits import SPLITS
from graticule.evaluation.uncertainty import resampling_blocks
from graticule.files import read_json, write_json
from graticule.geo.coords import Points
from graticule.progress import Progress

MEASURES: dict[str, Callable[[Array, Array], float]] = {
    "linear CKA": cka,
    "debiased CKA": debiased_cka,
    "Procrustes angle": procrustes_angle,
    "overlap of 10 nearest": neighbour_overlap,
}
MAPPED = 4000  # places whose local dimension is drawn
LEAST_VECTORS = 12  # different ones; with fewer there is nothing to measure
SHARED = ("random", "blocks")  # splits under which variance is taken apart


@dataclass(frozen=True)
class Study:
    """Numbers in JSON types.

    places      (n, 2) lon/lat degrees at which vectors were compared
    profiles    `information.profile.Profile` of every embedding
    similarity  of every two embeddings by measure: (k, k) in the order of `profiles`
    dimension   local intrinsic dimension at the first `MAPPED` places, by embedding
    pair        the two embeddings that were set against each other, or nothing
    partitions  by task and split: scores, parts and intervals of the pair and of coordinates
    differing   places where the pair sees the world most differently, of the n places
    collapsed   embeddings left out of all this: they give the same few vectors everywhere
    """

    places: Points
    profiles: dict[str, dict[str, Any]]
    similarity: dict[str, list[list[float]]]
    dimension: dict[str, list[float]]
    pair: tuple[str, ...]
    partitions: dict[str, dict[str, dict[str, Any]]]
    differing: list[Place]
    collapsed: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Everything in JSON types."""
        return asdict(self) | {"places": self.places.round(4).tolist()}


def study(
    report: Report,
    embeds: Mapping[str, Embed],
    places: Points,
    *,
    pair: tuple[str, str] | None = None,
    cache: Path | None = None,
) -> Study:
    """Everything about `embeds` that needs no label, at `places` (n, 2), and the pair's shares of the report's tasks.

    pair   two names of `embeds`; without them the first two, if there are two
    cache  folder that keeps what is finished, by a digest of vectors, labels and folds

    Raises SettingError for a name of the pair that is none of `embeds`.
    """
    for name in pair or ():
        if name not in embeds:
            raise unknown("embedding of the pair", name, embeds)
    vectors = {name: np.asarray(embed(places)) for name, embed in embeds.items()}
    names = [name for name, found in vectors.items() if len(np.unique(found, axis=0)) >= LEAST_VECTORS]
    chosen = tuple(pair or names[:2]) if len(names) > 1 else ()
    steps = 2 * len(names) + len(names) * (len(names) + 1) // 2 + bool(chosen) * len(report.tasks)
    with Progress("study", steps, unit="steps") as progress:

        def step(kind: str, about: str, parts: list[Any], compute: Callable[[], Any]) -> Any:
            found = remembered(cache, kind, parts, compute)
            progress.advance(1, f"{kind} {about}")
            return found

        profiles, dimension = {}, {}
        for name in names:
            embed = embeds[name]
            own = [vectors[name]]
            profiles[name] = step("profile", name, [*own, places], lambda embed=embed: asdict(profile(embed, places)))  # type: ignore[misc]
            dimension[name] = step("dimension", name, own, lambda own=own: local_dimension(*own)[:MAPPED].tolist())  # type: ignore[misc]
        similarity = {measure: np.full((len(names), len(names)), np.nan) for measure in MEASURES}
        for i, j in zip(*np.tril_indices(len(names)), strict=True):
            both = [vectors[names[i]], vectors[names[j]]]
            found = step("similarity", f"{names[i]}, {names[j]}", both, lambda both=both: _alike(*both))  # type: ignore[misc]
            for measure, value in found.items():
                similarity[measure][i, j] = similarity[measure][j, i] = value
        partitions = {}
        if chosen:
            pair_embeds = {n: embeds[n] for n in chosen}
            partitions = {task: _partitions(report, task, pair_embeds, step) for task in report.tasks}
    differing = []
    if chosen:
        value = disagreement(vectors[chosen[0]], vectors[chosen[1]], np.arange(0, len(places), 10))
        differing = top_places(places, value, 20, apart_km=1000)
    matrices = {measure: values.tolist() for measure, values in similarity.items()}
    collapsed = [name for name in embeds if name not in names]
    return Study(places, profiles, matrices, dimension, chosen, partitions, differing, collapsed)


def remembered(cache: Path | None, kind: str, parts: list[Any], compute: Callable[[], Any]) -> Any:
    """What `compute` gives, in JSON types; from the cache where the same arrays were asked the same before."""
    if cache is None:
        return json.loads(json.dumps(compute()))
    path = cache / f"{kind}-{fingerprint(*parts)}.json"
    if not path.exists():
        write_json(path, {"found": compute()})
    return read_json(path)["found"]


def _alike(a: Array, b: Array) -> dict[str, float]:
    return {measure: float(function(a, b)) for measure, function in MEASURES.items()}


def _partitions(
    report: Report,
    name: str,
    embeds: Mapping[str, Embed],
    step: Callable[[str, str, list[Any], Callable[[], Any]], Any],
) -> dict[str, dict[str, Any]]:
    """The variance of one task taken apart under the splits of SHARED that it was asked under."""
    task = report.tasks[name]
    blocks = {n: np.asarray(embed(task.points)) for n, embed in embeds.items()}
    blocks["coordinates"] = waves(10)(task.points)
    answered = {outcome.split for outcome in report.outcomes if outcome.task.name == name}
    folds = {split: SPLITS[split](task) for split in SHARED if split in answered}

    def compute() -> dict[str, dict[str, Any]]:
        found = {}
        for split, pairs in folds.items():
            fitted = partition(blocks, task.label, pairs, len(task.classes))
            found[split] = fitted.summary() | {"intervals": fitted.intervals(resampling_blocks(task.points))}
        return found

    parts = [*blocks.values(), task.label, *map(fingerprint_of_folds, folds.values())]
    return step("partition", name, parts, compute)  # type: ignore[no-any-return]
