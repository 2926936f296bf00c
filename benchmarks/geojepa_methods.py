"""What is compared by `benchmarks.geojepa`: runs of GeoJEPA and baselines, and how each makes vectors of regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from graticule.data.store import open_dataset
from graticule.embed import load
from graticule.embed_map import load_map
from graticule.encoders.region import RegionTrunk
from graticule.encoders.region_vectors import encoded_tokens
from graticule.encoders.tags import TagTable
from graticule.evaluation.regions import baselines
from graticule.evaluation.regions.hex2vec import hex2vec
from graticule.evaluation.regions.places import centres
from graticule.files import digest_json
from graticule.geo.region import Region
from graticule.geo.tokens import Tokens
from graticule.learners.jepa import GEOJEPA, REGULARISERS, TARGETS
from graticule.recipes import JEPA_RECIPES
from graticule.runs.jepa import tag_table

SEEDS = (0, 1, 2)
PATCH_PIXELS = 4  # of the windows of Blue Marble: 16 tokens
INSIDE = "geojepa, the model inside"  # trained on Europe: it is asked about the rest alone
SUPERVISED = "supervised transformer TG"  # is given the labels, and answers without a probe

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
TRAINED = {**RUNS, **ABLATIONS}
SHUFFLED = "geojepa TGI, images shuffled"  # between the tiles of a city


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
        return RegionTrunk(self.table, PATCH_PIXELS, JEPA_RECIPES["geojepa"]["frequent"])


def jepa(name: str | None, shuffled: bool = False) -> Fit:
    """The vectors of a run of this side, without a name of the model inside the package.

    With the images of a city's tiles in another order, if asked for.
    """

    def fit(side: Side, train: Cities) -> Embed:
        model = load_map(None if name is None else folder(side.runs, name, side.name, side.seed))
        identity = digest_json(model.trunk.identity())

        def embed(regions: Sequence[Region]) -> Vectors:
            key = (identity, id(regions))  # an exam keeps its regions as long as it is asked
            if key not in TOKENS:
                TOKENS[key] = model.trunk(regions)
            tokens = TOKENS[key]
            if shuffled:
                order = np.random.default_rng(side.seed).permutation(len(tokens))
                tokens = replace(tokens, patches=tokens.patches[order], seen=tokens.seen[order])
            return encoded_tokens(model.encoder, tokens)

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
    INSIDE: jepa(None),
    **{name: jepa(name) for name in TRAINED},
    SHUFFLED: jepa("geojepa TGI", shuffled=True),
}
EVERY = (*METHODS, SUPERVISED)
SEEDED = ("Hex2Vec-style", SUPERVISED, *RUNS, SHUFFLED)
ALONE = (
    *TRAINED,
    SHUFFLED,
    INSIDE,
    *(name for name in METHODS if name.endswith("alone")),
)  # entities without their region beside them


def folder(runs: Path, name: str, side: str, seed: int) -> Path:
    """Where a run lies."""
    return runs / f"{name.replace(' ', '-')}-{side}-{seed}"
