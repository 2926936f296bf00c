"""Evaluate trained runs: the public `graticule.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graticule.embed import Model, load
from graticule.errors import unknown
from graticule.evaluation import examine
from graticule.evaluation.report import Report
from graticule.evaluation.tasks import Task, built_in_tasks, load_tasks


def evaluate(
    runs: Model | str | Path | Sequence[Model | str | Path] | None = None,
    tasks: str | Sequence[str | Task] | None = None,
    *,
    folder: str | Path | None = None,
    split: str | Sequence[str] = ("random", "blocks"),
    probes: Sequence[str] = ("ridge",),
    baselines: bool = True,
) -> Report:
    """Score one or several runs (default: the model inside), and the baselines, on downstream tasks.

    tasks   names of tasks in `folder` (NAME.parquet beside NAME.json), or `Task`s, or both in one text
            as on the command line, "FOLDER" or "FOLDER:NAME,NAME"; without a folder the tasks that come
            with the package: city_country, city_timezone and city_population_log
    split, probes, baselines   as in `evaluation.examine.evaluate`
    """
    chosen = [runs] if runs is None or isinstance(runs, Model | str | Path) else list(runs)
    models = [run if isinstance(run, Model) else load(run) for run in chosen]
    names = _names(models)
    embeds = {name: model.embed_points for name, model in zip(names, models, strict=True)}
    return examine.evaluate(embeds, _tasks(tasks, folder), split, probes, baselines)


def _names(models: Sequence[Model]) -> list[str]:
    names = [str(model.about["name"]) for model in models]
    return names if len(set(names)) == len(names) else [str(model.folder) for model in models]


def _tasks(tasks: str | Sequence[str | Task] | None, folder: str | Path | None) -> list[Task]:
    if isinstance(tasks, str):
        folder, _, names = tasks.partition(":")
        tasks = [name for name in names.split(",") if name]
    ready = [task for task in tasks or () if isinstance(task, Task)]
    named = [task for task in tasks or () if isinstance(task, str)]
    if folder is not None:
        return ready + load_tasks(folder, named or None)
    if ready and not named:
        return ready
    inside = {task.name: task for task in built_in_tasks()}
    for name in named:
        if name not in inside:
            raise unknown("task (no folder was given)", name, inside)
    return ready + [inside[name] for name in named or inside]
