"""From prepared data to a trained run: recipe, settings and data come together here."""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import graticule
from graticule.data.batches import table_places
from graticule.data.loader import colocate, without_neighbours
from graticule.data.store import Dataset, Table, open_dataset
from graticule.embed import FORMAT, Model, load
from graticule.encoders.location import LocationEncoder, location_encoder
from graticule.encoders.towers import Tower, tower, trunk
from graticule.errors import DataError, GraticuleError, SettingError, unknown
from graticule.files import digest_file, digest_json, read_json, write_json
from graticule.geo.placed import Batch, Placed
from graticule.learners.contrastive import ContrastiveLearner
from graticule.learners.features import cached_features, raw_features
from graticule.recipes import DEFAULTS, Parts, recipe
from graticule.settings import Settings, parse_settings
from graticule.training.checkpoint import save_tensors
from graticule.training.trainer import Schedule, fit

logger = logging.getLogger(__name__)
TAKEN = {"learning_rate", "loss", "place", "rank", "seconds", "spread", "step"} | set(dir(torch.nn.ParameterDict()))
DEFAULT_TRUNKS = {"text": "sentence", "image": "statistics"}


def train(name: str, data: Dataset | str | Path, *, to: str | Path, **settings: Any) -> Model:
    """Train the recipe `name` on prepared data into the folder `to`; returns the finished model.

    Settings are those of `graticule.settings.Settings`. A folder that holds the same finished run is
    loaded; an unfinished one goes on from its last checkpoint; any other run is refused.
    """
    make = recipe(name)
    resolved = parse_settings(settings, DEFAULTS.get(name))
    dataset = data if isinstance(data, Dataset) else open_dataset(data)
    folder = Path(to)
    tables = _chosen(dataset, resolved)
    device = _device(resolved.device)
    if resolved.threads:
        torch.set_num_threads(resolved.threads)
    about = {
        "format": FORMAT,
        "graticule": graticule.__version__,
        "name": folder.name,
        "recipe": name,
        "settings": asdict(resolved),
        "data": {
            n: {"folder": str(t.folder.resolve()), "kind": t.kind, "rows": len(t), "licence": t.manifest["licence"],
                "fingerprint": t.fingerprint}
            for n, t in tables.items()
        },
    }  # fmt: skip
    if (folder / "run.json").exists():
        _same_or_refuse(read_json(folder / "run.json"), about, folder)
        return load(folder)
    _refuse_other(folder, about)
    sources, trunk_configs = _sources(tables, resolved)
    location = _location(resolved)
    towers = _towers(sources, resolved, location.dim)
    parts = Parts(location, towers, {n: len(s) for n, s in sources.items()}, resolved)
    learner, phases = make(parts)
    if any(phase.paired for phase in phases):
        sources = colocate(sources, within_km=resolved.within_km)
    learner.to(device)
    write_json(folder / "started.json", about)
    began = time.monotonic()
    fit(learner, sources, phases, _schedule(resolved), folder)
    about |= {
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - began, 1),
        "rows_trained": {n: len(s) for n, s in sources.items()},
        "location": parts.location.config,
        "towers": {n: {"tower": t.config, "trunk": trunk_configs[n]} for n, t in parts.towers.items()},
    }
    return _finish(folder, learner, about)


def _chosen(dataset: Dataset, settings: Settings) -> dict[str, Table]:
    names = _names(settings.modalities)
    for name in names:
        if name not in dataset.tables:
            raise unknown(f"modality in {dataset.folder}", name, dataset.tables)
    tables = {n: t for n, t in dataset.tables.items() if (n in names or not names) and t.kind != "point"}
    if not tables:
        raise DataError(f"{dataset.folder} holds no modality with content to train on.")
    if taken := sorted(TAKEN & set(tables)):
        raise SettingError(
            f"A modality cannot be called {taken[0]!r}, which is used otherwise. Prepare it by another name."
        )
    for n in settings.trunks:
        if n not in tables:
            raise unknown("modality in trunk.NAME", n, tables)
    return tables


def _names(text: str) -> list[str]:
    return [name for name in text.replace(" ", "").split(",") if name]


def _refuse_other(folder: Path, about: dict[str, Any]) -> None:
    """A folder belongs to the run that has a checkpoint there."""
    if (folder / "resume.safetensors").exists() and (folder / "started.json").exists():
        _same_or_refuse(read_json(folder / "started.json"), about, folder)


def _same_or_refuse(there: Mapping[str, Any], about: Mapping[str, Any], folder: Path) -> None:
    for key in ("recipe", "settings", "data"):
        if not _same(there[key], about[key]):
            raise SettingError(
                f"{folder} holds a run with other {key}{_difference(there[key], about[key])}. "
                "Choose another folder or delete it."
            )


def _difference(there: Any, here: Any) -> str:
    if not isinstance(here, Mapping):
        return f" ({there} there, {here} here)"
    keys = [key for key in here if not _same(there.get(key), here[key])]
    if any(isinstance(here[key], Mapping) for key in keys):
        return f" ({', '.join(keys)})"
    return f" ({', '.join(f'{key}: {there.get(key)} there, {here[key]} here' for key in keys)})"


def _same(there: Any, here: Any) -> bool:
    return digest_json(_without_folders(there)) == digest_json(_without_folders(here))


def _without_folders(value: Any) -> Any:
    """The same without the folders of data, which may move."""
    if not isinstance(value, Mapping):
        return value
    return {k: _without_folders(v) for k, v in value.items() if k != "folder"}


def _sources(tables: Mapping[str, Table], settings: Settings) -> tuple[Batch, dict[str, dict[str, Any] | None]]:
    trainable = _names(settings.train_trunks)
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
    trunk_name, _, folder = spec.partition(":")
    return {"name": trunk_name} | ({"folder": folder} if folder else {})


def _location(settings: Settings) -> LocationEncoder:
    if settings.start:
        return load(settings.start).location.requires_grad_(True).train()
    options = {"dim": settings.dim, "seed": settings.seed, **settings.location_options}
    try:
        return location_encoder(settings.location, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, GraticuleError):
            raise
        raise SettingError(f"The location encoder cannot be made with {options}: {error}.") from error


def _towers(sources: Batch, settings: Settings, dim: int) -> dict[str, Tower]:
    towers = {}
    for name, rows in sources.items():
        torch.manual_seed(settings.seed)
        if rows.features.ndim > 2:
            towers[name] = tower(dim=dim, head=settings.head, trunk="multispectral", bands=rows.features.shape[1])
        else:
            width = rows.features.shape[1]
            whiten = min(settings.whiten, width)
            made = tower(width, dim=dim, head=settings.head, dropout=settings.dropout, whiten=whiten)
            towers[name] = made.fit_statistics(rows.features)
    return towers


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise SettingError(f"device must be auto, cpu or cuda, got {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError("device=cuda was asked for, but torch sees no CUDA device here. Use device=auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _schedule(settings: Settings) -> Schedule:
    same = {k: getattr(settings, k) for k in Schedule.__dataclass_fields__ if hasattr(settings, k)}
    return Schedule(**same, faster=((r"tables", 10.0),))


def _finish(folder: Path, learner: ContrastiveLearner, about: dict[str, Any]) -> Model:
    kept = {n: t for n, t in learner.state_dict().items() if n.startswith(("location.", "towers."))}
    save_tensors(folder / "model.safetensors", kept)
    about["weights"] = digest_file(folder / "model.safetensors")
    write_json(folder / "run.json", about)
    (folder / "started.json").unlink(missing_ok=True)
    (folder / "resume.safetensors").unlink(missing_ok=True)
    return load(folder)
