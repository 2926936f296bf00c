"""Examine location embeddings: frozen vectors, simple probes, the same splits and baselines for all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graticule.errors import DataError, GraticuleError, SettingError, need
from graticule.evaluation.baselines import BASELINES
from graticule.evaluation.leakage import Leakage, leakage
from graticule.evaluation.outcomes import Answers, Outcome, answers, fingerprint, fingerprint_of_folds, keep, kept
from graticule.evaluation.predictors import Array, Inputs, Predictor
from graticule.evaluation.probes import CLASSES_ONLY, probe
from graticule.evaluation.report import Failure, Report
from graticule.evaluation.scores import BASELINE
from graticule.evaluation.splits import Folds, Split, expand
from graticule.evaluation.tasks import Task, built_in_tasks
from graticule.geo.coords import Points
from graticule.progress import Progress

logger = logging.getLogger(__name__)

MAX_ROWS = 6000
Embed = Callable[[Points], Array]


@dataclass(frozen=True)
class Paper:
    """One task, cut: what every embedding is asked."""

    task: Task
    folds: dict[str, Folds]


@dataclass(frozen=True)
class Question:
    """One embedding on one task: `predictors` by name of the embedding and of the probe."""

    paper: Paper
    inputs: Inputs
    predictors: dict[tuple[str, str], Predictor]
    cache: Path | None


Reply = tuple[str, dict[tuple[str, str, str], Answers], list[Failure]]
"""The task, what was said by embedding, probe and split, and what failed."""


def evaluate(
    embed: Embed | Mapping[str, Embed],
    tasks: Sequence[Task] | None = None,
    split: str | Sequence[str] | Mapping[str, Split] = ("random", "blocks"),
    probes: str | Sequence[str] = ("ridge",),
    baselines: bool = True,
    max_rows: int = MAX_ROWS,
    *,
    cache: Path | None = None,
    workers: int = 1,
    failures: Iterable[Failure] = (),
) -> Report:
    """Score one or several embeddings, and the baselines, on downstream tasks.

    embed      function of (n, 2) lon/lat degrees giving (n, d) vectors, or several by name
    tasks      from `load_tasks`; without them the built-in ones about cities
    split      names of `splits.SPLITS`, or split functions by name
    probes     names of `probes.PROBES`, each also with "+place": the vector and the coordinates; a probe that
               cannot do a regression passes it over
    baselines  whether the rows of `baselines.BASELINES` come first
    max_rows   larger tasks are cut to a random draw of so many rows, the same for every embedding
    cache      folder that keeps the answers by a digest of task, folds, vectors and probe: what is there is not
               computed again, so a killed run goes on where it was
    workers    processes side by side
    failures   what failed before, to be listed in the report

    A task or split that cannot be used is listed in the report's failures, and the others go on.
    Raises SettingError for unknown names, DataError for vectors of a wrong shape or with NaN, and when all failed.
    """
    tasks = built_in_tasks() if tasks is None else list(tasks)
    _demand_names(tasks)
    names = [probes] if isinstance(probes, str) else list(probes)
    if not names:
        raise SettingError("At least one probe is needed.")
    chosen = {name: probe(name) for name in names}
    splits = split if isinstance(split, Mapping) else expand([split] if isinstance(split, str) else split)
    failed = list(failures)
    papers = [_paper(task.subsample(max_rows), splits, failed) for task in tasks]
    embeds = embed if isinstance(embed, Mapping) else {"embedding": embed}
    if taken := [name for name in embeds if baselines and name in BASELINES]:
        raise SettingError(f"{taken[0]!r} is the name of a baseline: give the embedding another name.")
    questions = _questions(papers, embeds, chosen, baselines, cache)
    asked_tasks = {paper.task.name: paper.task for paper in papers}
    outcomes: list[Outcome] = []
    total = len(papers) * (len(embeds) + bool(baselines))
    with Progress("examine", total, unit="tasks of embeddings") as progress:
        for task, found, wrong in _side_by_side(questions, workers):
            outcomes += [Outcome(*asked, asked_tasks[task], said) for asked, said in found.items()]
            failed += wrong
            progress.advance(1, task)
    if not outcomes:
        raise DataError(f"Nothing could be examined: {failed[0].reason if failed else 'no folds'}")
    for failure in failed:
        logger.warning("not examined: %s", failure)
    return Report(outcomes, failed, _leaks(papers))


def _paper(task: Task, splits: Mapping[str, Split], failed: list[Failure]) -> Paper:
    folds = {}
    for name, cut in splits.items():
        try:
            folds[name] = cut(task)
        except DataError as error:
            failed.append(Failure(task.name, name, str(error)))
    return Paper(task, folds)


def _questions(
    papers: Sequence[Paper], embeds: Mapping[str, Embed], probes: Mapping[str, Predictor], baselines: bool,
    cache: Path | None,
) -> Iterator[Question]:  # fmt: skip
    if baselines:
        named = {(name, BASELINE): predict for name, predict in BASELINES.items()}
        for paper in papers:
            nothing = Inputs(np.empty((len(paper.task), 0), np.float32), paper.task.points)
            yield Question(paper, nothing, named, cache)
    for name, embed in embeds.items():
        for paper in papers:
            vectors = _demand_vectors(np.asarray(embed(paper.task.points)), paper.task, name)
            named = {
                (name, p): predict
                for p, predict in probes.items()
                if paper.task.kind == "classification" or p.removesuffix("+place") not in CLASSES_ONLY
            }
            yield Question(paper, Inputs(vectors, paper.task.points), named, cache)


def _side_by_side(questions: Iterable[Question], workers: int) -> Iterable[Reply]:
    if workers < 1:
        raise SettingError(f"workers must be 1 or more, got {workers}.")
    if workers == 1:
        return map(_answered, questions)
    joblib = need("joblib", "train")
    run = joblib.Parallel(n_jobs=workers, return_as="generator", pre_dispatch="2*n_jobs")
    return run(joblib.delayed(_answered)(question) for question in questions)  # type: ignore[no-any-return]


def _answered(question: Question) -> Reply:
    """All probes under all splits."""
    found: dict[tuple[str, str, str], Answers] = {}
    failed: list[Failure] = []
    task, folds = question.paper.task, question.paper.folds
    about = fingerprint(question.inputs.vectors, task.points, task.label) if question.cache else ""
    for (embedding, name), predict in question.predictors.items():
        for split, pairs in folds.items():
            try:
                said = _asked(question, predict, name if name != BASELINE else embedding, pairs, about)
                found[embedding, name, split] = said
            except GraticuleError as error:
                failed.append(Failure(task.name, f"{split}, {embedding} by {name}", str(error)))
    return task.name, found, failed


def _asked(question: Question, predict: Predictor, name: str, folds: Folds, about: str) -> Answers:
    """From the cache, or computed and kept there."""
    if question.cache is None:
        return answers(predict, question.inputs, question.paper.task, folds)
    key = fingerprint(about, name, fingerprint_of_folds(folds))
    path = question.cache / key[:2] / f"{key}.npz"
    if (said := kept(path)) is None:
        said = answers(predict, question.inputs, question.paper.task, folds)
        keep(path, said)
    return said


def _leaks(papers: Sequence[Paper]) -> dict[tuple[str, str], Leakage]:
    """What every task leaks under every split, few labels aside."""
    return {
        (paper.task.name, name): leakage(paper.task, folds)
        for paper in papers
        for name, folds in paper.folds.items()
        if not name.startswith("few-shot")
    }


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
