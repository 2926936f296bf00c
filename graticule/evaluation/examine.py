"""Examine location embeddings: frozen vectors, simple probes, the same splits and baselines for all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graticule.errors import DataError, SettingError, unknown
from graticule.evaluation.baselines import BASELINES
from graticule.evaluation.probes import CLASSES_ONLY, PROBES, Array, Predictor, score
from graticule.evaluation.report import BASELINE, Report, ResultRow
from graticule.evaluation.splits import SPLITS, Folds, Split
from graticule.evaluation.tasks import Task, built_in_tasks
from graticule.geo.coords import Points

logger = logging.getLogger(__name__)

MAX_ROWS = 6000
Embed = Callable[[Points], Array]


def evaluate(
    embed: Embed | Mapping[str, Embed],
    tasks: Sequence[Task] | None = None,
    split: str | Sequence[str] | Mapping[str, Split] = ("random", "blocks"),
    probes: Sequence[str] = ("ridge",),
    baselines: bool = True,
    max_rows: int = MAX_ROWS,
) -> Report:
    """Score one or several embeddings, and the baselines, on downstream tasks.

    embed      function of (n, 2) lon/lat degrees giving (n, d) vectors, or several by name
    tasks      from `load_tasks`; without them the built-in ones about cities
    split      names of `splits.SPLITS`, or split functions by name
    probes     names of `probes.PROBES`; a probe that cannot do a regression passes it over
    baselines  whether the rows of `baselines.BASELINES` come first
    max_rows   larger tasks are cut to a random draw of so many rows, the same for every embedding

    Raises SettingError for unknown names, DataError for vectors of a wrong shape or with NaN.
    """
    tasks = built_in_tasks() if tasks is None else list(tasks)
    _demand_names(tasks)
    drawn = [task.subsample(max_rows) for task in tasks]
    plan = [(task, {name: cut(task) for name, cut in _splits(split).items()}) for task in drawn]
    predictors = _probes(probes)
    rows: list[ResultRow] = []
    for name, baseline in BASELINES.items() if baselines else ():
        for task, folds in plan:
            rows += _score(task, folds, task.points, name, BASELINE, baseline)
    for name, function in (embed if isinstance(embed, Mapping) else {"embedding": embed}).items():
        vectors = {task.name: function(task.points) for task in drawn}
        rows += _score_vectors(vectors, plan, predictors, name)
    return Report(rows)


def evaluate_vectors(
    vectors: Mapping[str, Array],
    tasks: Sequence[Task],
    splits: Mapping[str, Split],
    probes: Sequence[str] = ("ridge",),
    name: str = "embedding",
) -> list[ResultRow]:
    """Score vectors made beforehand: (n, d) for each task by its name, in the order of its rows."""
    _demand_names(tasks)
    if missing := [task.name for task in tasks if task.name not in vectors]:
        raise DataError(f"Vectors of {name!r} are missing for the tasks {', '.join(missing)}.")
    plan = [(task, {split: cut(task) for split, cut in splits.items()}) for task in tasks]
    return _score_vectors(vectors, plan, _probes(probes), name)


def _score_vectors(
    vectors: Mapping[str, Array], plan: list[tuple[Task, dict[str, Folds]]], probes: Mapping[str, Predictor], name: str
) -> list[ResultRow]:
    rows: list[ResultRow] = []
    for task, folds in plan:
        values = _demand_vectors(np.asarray(vectors[task.name]), task, name)
        for probe, predict in probes.items():
            if task.kind == "classification" or probe not in CLASSES_ONLY:
                rows += _score(task, folds, values, name, probe, predict)
        logger.info("%s: %s examined", name, task.name)
    return rows


def _score(
    task: Task, splits: dict[str, Folds], vectors: Array, name: str, probe: str, predict: Predictor
) -> list[ResultRow]:
    """One row for each split and fold of one task."""
    classes = len(task.classes)
    rows: list[ResultRow] = []
    for split, folds in splits.items():
        for fold, (train, test) in enumerate(folds):
            predicted = predict(vectors[train], task.label[train], vectors[test], classes)
            rows.append(
                {
                    "task": task.name,
                    "kind": task.kind,
                    "embedding": name,
                    "split": split,
                    "fold": fold,
                    "probe": probe,
                    "metric": "accuracy" if classes else "r2",
                    "value": score(task.label[test], predicted, classes),
                    "n_train": len(train),
                    "n_test": len(test),
                }
            )
    return rows


def _splits(split: str | Sequence[str] | Mapping[str, Split]) -> Mapping[str, Split]:
    if isinstance(split, Mapping):
        return split
    return _chosen("split", [split] if isinstance(split, str) else split, SPLITS)


def _probes(names: Sequence[str]) -> Mapping[str, Predictor]:
    return _chosen("probe", [names] if isinstance(names, str) else names, PROBES)


def _chosen(what: str, names: Sequence[str], valid: Mapping[str, Any]) -> dict[str, Any]:
    for name in names:
        if name not in valid:
            raise unknown(what, name, valid)
    if not names:
        raise SettingError(f"At least one {what} is needed: {', '.join(valid)}.")
    return {name: valid[name] for name in names}


def _demand_names(tasks: Sequence[Task]) -> None:
    names = [task.name for task in tasks]
    if not names:
        raise SettingError("At least one task is needed to evaluate an embedding.")
    if len(set(names)) < len(names):
        raise SettingError(f"Tasks need different names, got {', '.join(names)}.")


def _demand_vectors(vectors: Array, task: Task, name: str) -> Array:
    if vectors.ndim != 2 or len(vectors) != len(task) or not vectors.shape[1]:
        raise DataError(f"{name!r} must give ({len(task)}, d) vectors for task {task.name}, got shape {vectors.shape}.")
    if not np.issubdtype(vectors.dtype, np.number) or np.iscomplexobj(vectors):
        raise DataError(f"{name!r} must give real numbers for task {task.name}, got {vectors.dtype}.")
    if len(bad := np.flatnonzero(~np.isfinite(vectors).all(1))):
        raise DataError(
            f"{name!r} gave NaN or infinite vectors for {len(bad)} rows of {task.name}, first at row {bad[0]}."
        )
    return vectors
