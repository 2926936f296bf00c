"""Evaluate trained runs: the public `graticule.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graticule.embed import Model, load
from graticule.evaluation import examine
from graticule.evaluation.report import Report
from graticule.evaluation.tasks import Task, load_tasks


def evaluate(
    runs: Model | str | Path | Sequence[Model | str | Path] | None = None,
    tasks: Sequence[str | Task] | None = None,
    *,
    folder: str | Path | None = None,
    split: str | Sequence[str] = ("random", "blocks"),
    probes: Sequence[str] = ("ridge",),
    baselines: bool = True,
) -> Report:
    """Score one or several runs (default: the model inside), and the baselines, on downstream tasks.

    tasks   names of tasks in `folder` (NAME.parquet beside NAME.json), or `Task`s; without either the
            tasks that come with the package: country, timezone and log population of cities
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


def _tasks(tasks: Sequence[str | Task] | None, folder: str | Path | None) -> list[Task] | None:
    ready = [task for task in tasks or () if isinstance(task, Task)]
    named = [task for task in tasks or () if isinstance(task, str)]
    if folder is not None:
        return ready + load_tasks(folder, named or None)
    if named:
        from graticule.evaluation.tasks import built_in_tasks

        ready += [task for task in built_in_tasks() if task.name in named]
    return ready or None
