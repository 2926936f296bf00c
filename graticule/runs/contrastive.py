"""A contrastive run: a location encoder, and a tower for every modality over cached or raw features."""

from __future__ import annotations

import hashlib
import logging
import zlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graticule.data.batches import table_places
from graticule.data.loader import colocate, without_neighbours
from graticule.data.store import Table
from graticule.embed import Model
from graticule.embed import load as load
from graticule.encoders.location import LocationEncoder, location_encoder
from graticule.encoders.towers import Tower, tower, trunk
from graticule.errors import DataError, GraticuleError, SettingError, unknown
from graticule.files import digest_json
from graticule.geo.placed import Batch, Placed
from graticule.learners.cached_basis import cached_basis
from graticule.learners.features import cached_features, raw_features, resemblance_km
from graticule.learners.teacher import TEACHER, restore, teach
from graticule.parts import Parts
from graticule.recipes import recipe
from graticule.runs.assembled import Assembled, device
from graticule.settings import Settings, names, prefix_lengths
from graticule.tensors import load_tensors, save_tensors

logger = logging.getLogger(__name__)
DEFAULT_TRUNKS = {"text": "sentence", "image": "statistics", "region": "regions"}

TEACHER_FILE = "teacher.safetensors"  # in the folder of an unfinished run
OPTION = {"statistics": "boxes"}  # what stands behind the colon of a trunk, if not a folder


def assemble(name: str, tables: Mapping[str, Table], settings: Settings, folder: Path) -> Assembled:
    """The learner of a contrastive recipe with its sources and phases; a teacher's vectors wait in the run's folder."""
    sources, trunks = _sources(tables, settings)
    start = load(settings.start) if settings.start else None
    location = deepcopy(start.location).requires_grad_(True).train() if start else _location(settings)
    towers = _towers(sources, settings, settings.shared or location.dim)
    fitted_km: dict[str, float] = {}

    def fit_km(modality: str) -> float:
        if modality not in fitted_km:
            fitted_km[modality] = resemblance_km(modality, sources[modality], settings.seed)
        return fitted_km[modality]

    parts = Parts(location, towers, {n: len(s) for n, s in sources.items()}, settings, fit_km)
    learner, phases = recipe(name)(parts)
    if any(phase.paired for phase in phases):
        sources = colocate(sources, within_km=settings.within_km)
    if settings.distil:
        sources[TEACHER] = _teacher(sources, settings, folder / TEACHER_FILE, start)
    if settings.cache_basis:
        kept = next(iter(tables.values())).folder.parent / "bases"
        sources = {n: replace(rows, basis=cached_basis(rows.lonlat, location, kept, n)) for n, rows in sources.items()}
    about = {
        "location": location.config,
        "shared": settings.shared if learner.towers else 0,
        "prefixes": list(parts.prefixes),
        "fitted_km": fitted_km,
        "towers": {n: {"tower": t.config, "trunk": trunks[n]} for n, t in towers.items() if n in learner.towers},
    }
    if start:
        about["started_from"] = {
            key: start.about[key] for key in ("recipe", "settings", "data", "seconds", "rows_trained")
        }
    last = (
        {"finish": partial(restore, location, sources[TEACHER], seed=settings.seed)}
        if name == "distil" and not settings.prefixes
        else {}
    )
    return Assembled(learner, sources, phases, about, **last, kept=("location.", "shared.", "towers."))


def _teacher(sources: Batch, settings: Settings, kept: Path, start: Model | None) -> Placed:
    """The teacher's vectors at the places asked for, or at those of all rows; from the file `kept` if it has them.

    The teacher of a run that goes on from another is that other run: what it knew is not forgotten (Li & Hoiem 2016).
    """
    for name in settings.neighbours:
        if name not in sources:
            raise unknown("modality in neighbours.NAME", name, sources)
    asked = [table_places(settings.teacher_places)] if settings.teacher_places else [r.lonlat for r in sources.values()]
    places = np.unique(np.concatenate(asked), axis=0)
    if start:
        return Placed(places, start.embed_points(places).astype(np.float16))
    prefixes = prefix_lengths(settings.prefixes, settings.dim)
    told = digest_json([settings.neighbours, settings.dim, settings.seed, prefixes])
    state = hashlib.blake2b(f"{told} {list(sources)}".encode() + places.tobytes(), digest_size=16)
    for rows in sources.values():
        state.update(rows.lonlat.tobytes() + np.ascontiguousarray(rows.features).tobytes())
    if kept.exists():
        tensors, metadata = load_tensors(kept)
        if metadata["of"] == state.hexdigest():
            return Placed(places, tensors["vectors"].numpy())
    taught = teach(
        sources, places, settings.neighbours, dim=settings.dim, seed=settings.seed, device=device(settings),
        prefixes=prefixes,
    )  # fmt: skip
    save_tensors(kept, {"vectors": torch.from_numpy(taught.features)}, of=state.hexdigest())
    return taught


def _sources(tables: Mapping[str, Table], settings: Settings) -> tuple[Batch, dict[str, dict[str, Any] | None]]:
    trainable = names(settings.train_trunks)
    sources: Batch = {}
    configs: dict[str, dict[str, Any] | None] = {}
    for name, table in tables.items():
        if name in trainable:
            sources[name], configs[name] = raw_features(table), None
        else:
            frozen = trunk(**_trunk_config(name, table.kind, settings))
            sources[name], configs[name] = cached_features(table, frozen), frozen.config
    if settings.holdout:
        places = table_places(settings.holdout)
        far = {n: without_neighbours(rows, places, within_km=settings.holdout_km) for n, rows in sources.items()}
        for n, rows in far.items():
            logger.info("holdout: %s of %s rows of %s left", f"{len(rows):,}", f"{len(sources[n]):,}", n)
            if not len(rows):
                raise DataError(f"All rows of {n!r} lie within {settings.holdout_km:g} km of {settings.holdout}.")
        sources = {n: rows.take(far[n]) for n, rows in sources.items()}
    if settings.shuffle:
        sources = {n: _shuffled(n, rows, settings.seed) for n, rows in sources.items()}
    return sources, configs


def _shuffled(name: str, rows: Placed, seed: int) -> Placed:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return Placed(rows.lonlat[rng.permutation(len(rows))], rows.features, rows.ids)


def _trunk_config(name: str, kind: str, settings: Settings) -> dict[str, Any]:
    spec = settings.trunks.get(name, DEFAULT_TRUNKS.get(kind))
    if spec is None:
        raise SettingError(f"Modality {name!r} holds {kind} rows and needs a trunk: --set trunk.{name}=photo:FOLDER.")
    trunk_name, _, value = spec.partition(":")
    return {"name": trunk_name} | ({OPTION.get(trunk_name, "folder"): value} if value else {})


def _location(settings: Settings) -> LocationEncoder:
    options = {"dim": settings.dim, "seed": settings.seed, **settings.location_options}
    try:
        return location_encoder(settings.location, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, GraticuleError):
            raise
        raise SettingError(f"The location encoder cannot be made with {options}: {error}.") from error


def _towers(sources: Batch, settings: Settings, dim: int) -> dict[str, Tower]:
    for name in settings.head_of:
        if name not in sources:
            raise unknown("modality in head.NAME", name, sources)
    towers = {}
    for name, rows in sources.items():
        torch.manual_seed(settings.seed)
        head = settings.head_of.get(name, settings.head)
        if rows.features.ndim > 2:
            towers[name] = tower(dim=dim, head=head, trunk="multispectral", bands=rows.features.shape[1])
        else:
            width = rows.features.shape[1]
            whiten = 0 if head == "none" else min(settings.whiten, width)
            made = tower(width, dim=dim, head=head, dropout=settings.dropout, whiten=whiten)
            towers[name] = made.fit_statistics(rows.features)
    return towers
