"""From prepared data to a trained run: recipe, settings and data come together here."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import graticule
from graticule.data.store import Dataset, Table, open_dataset
from graticule.errors import DataError, SettingError, unknown
from graticule.files import digest_file, digest_json, read_json, write_json
from graticule.finished import FORMAT
from graticule.learners.teacher import TEACHER
from graticule.learners.together import Together
from graticule.parts import rows_a_step
from graticule.recipes import DEFAULTS, JEPA_RECIPES, RECIPES
from graticule.runs import contrastive, jepa
from graticule.runs.assembled import Assembled, device
from graticule.settings import Settings, names, parse_settings
from graticule.tensors import save_tensors
from graticule.training.distributed import first_then_others, forget_signs, joined, wait_for_all
from graticule.training.trainer import Schedule, fit

logger = logging.getLogger(__name__)
TAKEN = {
    *("learning_rate", "loss", "place", "rank", "seconds", "spread", "step", "uniformity", "consistency", "waited"),
    TEACHER,
    *dir(torch.nn.ParameterDict()),
}


def train(name: str, data: Dataset | str | Path, *, to: str | Path, **settings: Any) -> Any:
    """Train the recipe `name` on prepared data into the folder `to`; returns the finished model.

    The model is a `graticule.Model`, of the geojepa recipes a `graticule.MapModel`.
    Settings are those of `graticule.settings.Settings`. A folder that holds the same finished run is
    loaded; an unfinished one goes on from its last checkpoint; any other run is refused.

    Under torchrun every process calls it: they learn from shares of the same batches, the first one writes.
    """
    with joined(Path(to)) as together:
        return _train(name, data, Path(to), settings, together)


def _train(name: str, data: Dataset | str | Path, folder: Path, settings: dict[str, Any], together: Together) -> Any:
    with first_then_others(together):
        family, resolved = _family(name), parse_settings(settings, DEFAULTS.get(name))
        tables = _chosen(data if isinstance(data, Dataset) else open_dataset(data), resolved)
        where = device(resolved)
        if resolved.threads:
            torch.set_num_threads(resolved.threads)
        about = _about(name, tables, resolved, folder)
        if (folder / "run.json").exists():
            _same_or_refuse(read_json(folder / "run.json"), about, folder)
            return family.load(folder)
        _refuse_other(folder, about)
        run = family.assemble(name, tables, resolved, folder)
        run.learner.to(where)
        if together.rank == 0:
            write_json(folder / "started.json", about)
    began = time.monotonic()
    fit(run.learner, run.sources, run.phases, _schedule(resolved, run), folder)
    about |= {
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - began, 1),
        "processes": together.size,
        "rows_trained": {n: len(s) for n, s in run.sources.items()},
        **run.about,
    }
    if together.rank == 0:
        _finish(folder, run, about)
    wait_for_all(together)
    return family.load(folder)


def _about(name: str, tables: Mapping[str, Table], settings: Settings, folder: Path) -> dict[str, Any]:
    """What tells this run from others."""
    return {
        "format": FORMAT,
        "graticule": graticule.__version__,
        "name": folder.name,
        "recipe": name,
        "settings": asdict(settings),
        "data": {
            n: {"folder": str(t.folder.resolve()), "kind": t.kind, "rows": len(t), "licence": t.manifest["licence"],
                "fingerprint": t.fingerprint}
            for n, t in tables.items()
        },
    }  # fmt: skip


def _family(recipe: str) -> Any:
    """The module that assembles a recipe's runs and loads them."""
    if recipe not in RECIPES and recipe not in JEPA_RECIPES:
        raise unknown("recipe", recipe, [*RECIPES, *JEPA_RECIPES])
    return jepa if recipe in JEPA_RECIPES else contrastive


def _chosen(dataset: Dataset, settings: Settings) -> dict[str, Table]:
    wanted = names(settings.modalities)
    for name in wanted:
        if name not in dataset.tables:
            raise unknown(f"modality in {dataset.folder}", name, dataset.tables)
    tables = {n: t for n, t in dataset.tables.items() if (n in wanted or not wanted) and t.kind != "point"}
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


def _refuse_other(folder: Path, about: dict[str, Any]) -> None:
    """A folder belongs to the run that has a checkpoint there."""
    if (folder / "resume.safetensors").exists() and (folder / "started.json").exists():
        _same_or_refuse(read_json(folder / "started.json"), about, folder)


def _same_or_refuse(there: Mapping[str, Any], about: Mapping[str, Any], folder: Path) -> None:
    there = {**there, "settings": asdict(Settings()) | there["settings"]}  # a run is older than some settings
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
    return digest_json(without_folders(there)) == digest_json(without_folders(here))


def without_folders(value: Any) -> Any:
    """The same without the folders of data, which may move."""
    if not isinstance(value, Mapping):
        return value
    return {k: without_folders(v) for k, v in value.items() if k != "folder"}


def _schedule(settings: Settings, run: Assembled) -> Schedule:
    same = {k: getattr(settings, k) for k in Schedule.__dataclass_fields__ if hasattr(settings, k)}
    rows = {name: len(source) for name, source in run.sources.items() if name != TEACHER}
    return Schedule(**same, faster=((r"tables", 10.0),), batch_rows=rows_a_step(rows, settings))


def _finish(folder: Path, run: Assembled, about: dict[str, Any]) -> None:
    run.finish()
    run.keep_beside(folder)
    kept = {n: t for n, t in run.learner.state_dict().items() if n.startswith(run.kept)}
    save_tensors(folder / "model.safetensors", kept)
    about["weights"] = digest_file(folder / "model.safetensors")
    write_json(folder / "run.json", about)
    (folder / "started.json").unlink(missing_ok=True)
    (folder / "resume.safetensors").unlink(missing_ok=True)
    (folder / contrastive.TEACHER_FILE).unlink(missing_ok=True)
    forget_signs(folder)
