"""Evaluate trained runs: the public `graticule.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graticule.data.bluemarble import WORLD
from graticule.embed import Model, load
from graticule.errors import unknown
from graticule.evaluation import examine
from graticule.evaluation.examine import Embed
from graticule.evaluation.explicit import explicit
from graticule.evaluation.report import Failure, Report
from graticule.evaluation.tasks import Task, built_in_tasks, load_tasks
from graticule.zoo import ENCODERS
from graticule.zoo import load as load_published

Run = Model | str | Path
EXPLICIT = "explicit"  # as in "explicit:PICTURE,PICTURE"


def evaluate(
    runs: Run | Sequence[Run] | None = None,
    tasks: str | Sequence[str | Task] | None = None,
    *,
    folder: str | Path | None = None,
    split: str | Sequence[str] = ("random", "blocks"),
    probes: str | Sequence[str] = ("ridge",),
    baselines: bool = True,
    cache: str | Path | None = None,
    workers: int = 1,
) -> Report:
    """Score one or several runs (default: the model inside), and the baselines, on downstream tasks.

    runs    models, folders of runs, published encoders as "geoclip:CHECKPOINT" (names of `zoo.ENCODERS`), or the frozen
            features of pictures at the place, "explicit:PICTURE,PICTURE" (GeoTIFF, or whole maps of the Earth)
    tasks   names of tasks in `folder` (NAME.parquet beside NAME.json), or `Task`s, or both in one text
            as on the command line, "FOLDER", "FOLDER:NAME,NAME" or "NAME,NAME"; without a folder the tasks that
            come with the package: city_country, city_timezone and city_population_log
    split, probes, baselines, cache, workers   as in `evaluation.examine.evaluate`
    """
    failures: list[Failure] = []
    chosen = load_chosen_tasks(tasks, folder, failures)
    keep = None if cache is None else Path(cache)
    return examine.evaluate(
        embeds(runs), chosen, split, probes, baselines, cache=keep, workers=workers, failures=failures
    )


def embeds(runs: Run | Sequence[Run] | None = None) -> dict[str, Embed]:
    """Functions of places by the names under which runs and published encoders stand in a report."""
    chosen = [runs] if runs is None or isinstance(runs, Model | str | Path) else list(runs)
    named: dict[str, Embed] = {}
    for run in chosen:
        name, embed = _named(run)
        if name in named:
            name = str(run.folder if isinstance(run, Model) else run)
        named[name] = embed
    return named


def _named(run: Run | None) -> tuple[str, Embed]:
    """The name in the report and the function of a model, folder, published encoder or explicit baseline."""
    kind, colon, path = str(run).partition(":")
    if colon and kind == EXPLICIT:
        pictures = path.split(",")
        return f"explicit {', '.join(Path(picture).stem for picture in pictures)}", explicit(pictures, bounds=WORLD)
    if isinstance(run, Model):
        return str(run.about["name"]), run.embed_points
    return _named(load_published(kind, path) if colon and kind in ENCODERS else load(run))


def load_chosen_tasks(
    tasks: str | Sequence[str | Task] | None, folder: str | Path | None, failures: list[Failure]
) -> list[Task]:
    """The tasks that are meant; a file of the folder that cannot be read is added to `failures`."""
    if isinstance(tasks, str):
        named, folder = _parsed(tasks, folder)
        ready: list[Task] = []
    else:
        ready = [task for task in tasks or () if isinstance(task, Task)]
        named = [task for task in tasks or () if isinstance(task, str)]
    if folder is not None:
        wrong: dict[str, str] = {}
        found = load_tasks(folder, named or None, failures=wrong)
        failures += [Failure(name, "table", reason) for name, reason in wrong.items()]
        return ready + found
    if ready and not named:
        return ready
    inside = {task.name: task for task in built_in_tasks()}
    for name in named:
        if name not in inside:
            raise unknown("task (no folder was given)", name, inside)
    return ready + [inside[name] for name in named or inside]


def _parsed(text: str, folder: str | Path | None) -> tuple[list[str], str | Path | None]:
    """Names and folder of "FOLDER", "FOLDER:NAME,NAME" or "NAME,NAME"."""
    before, colon, after = text.rpartition(":")
    if colon:
        return [name for name in after.split(",") if name], before
    if folder is None and ("/" in text or Path(text).is_dir()):
        return [], text
    return [name for name in text.split(",") if name], folder
