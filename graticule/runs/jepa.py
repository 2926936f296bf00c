"""A GeoJEPA run: regions of maps become tokens once, then one learner predicts hidden tokens from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from graticule.data.store import Table
from graticule.embed_map import load_map as load
from graticule.encoders.region import RegionTrunk
from graticule.encoders.tags import TagTable
from graticule.encoders.towers import trunk
from graticule.errors import DataError
from graticule.files import digest_json
from graticule.geo.region import Region
from graticule.learners.features import cached_features
from graticule.learners.jepa import JepaLearner
from graticule.recipes import JEPA_RECIPES
from graticule.runs.assembled import Assembled
from graticule.settings import Settings
from graticule.training.trainer import Phase

__all__ = ["assemble", "load"]


def assemble(name: str, tables: Mapping[str, Table], settings: Settings, folder: Path) -> Assembled:
    """The learner of a GeoJEPA recipe with its tokens; a text trunk reads each tag once for a data set."""
    regions = {n: table for n, table in tables.items() if table.kind == "region"}
    if len(regions) != 1:
        raise DataError(
            f"GeoJEPA learns from one modality of regions, found {', '.join(regions) or 'none'}: prepare one by the "
            "reader osm, or choose by modalities=NAME."
        )
    ((modality, table),) = regions.items()
    options = {**JEPA_RECIPES[name], **settings.jepa}
    tags = tag_table(table, settings.trunks.get(modality, "sentence"), options.pop("tag_dim", None))
    made = RegionTrunk(tags, options.pop("patch_pixels", 16), options.pop("frequent", 0))
    rows = cached_features(table, made)
    torch.manual_seed(settings.seed)
    learner = JepaLearner.of(rows.features, max_tokens=settings.row_tokens, **options)
    about = {"modality": modality, "encoder": learner.encoder.config, "trunk": made.config}
    return Assembled(
        learner,
        {modality: rows},
        [Phase((modality,))],
        about,
        kept=("encoder.",),
        keep_beside=lambda folder: tags.save(folder / "tags.safetensors"),
    )


def tag_table(table: Table, trunk_name: str, dim: int | None) -> TagTable:
    """The tags of a table of regions as vectors of a text trunk, on `dim` axes of them where given; kept beside it."""
    text = trunk(trunk_name)
    identity = {"table": table.fingerprint, "trunk": text.identity(), "dim": dim}
    path = table.folder / "tags" / f"{digest_json(identity)}.safetensors"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        counts = tag_counts(table)
        TagTable.build(counts, text, dim, cache=path.with_suffix(".texts")).save(path)
    return TagTable.load(path)


def tag_counts(table: Table) -> Counter[str]:
    """How many entities of a table of regions have each tag "key=value"; one in several regions counts for each."""
    counts: Counter[str] = Counter()
    for region in table.all_contents():
        if isinstance(region, Region):
            counts.update(f"{key}={value}" for tags in region.tags for key, value in tags.items())
    return counts
