"""Chapter two: what is left far from labels, with few labels, and where it fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from graticule.evaluation.report import Report
from graticule.evaluation.residuals import Residuals
from graticule.web import figures
from graticule.web.document import Block, Cell, Chapter, Figure, Grid, Section, Table, Text
from graticule.web.examination.material import INTERPOLATION, Material, slug, with_interval
from graticule.web.examination.quality import against, per_task, ranks, summary

MEANINGS = {
    "random": "random: labels near every test row",
    "blocks": "blocks: whole 10-degree blocks left out",
    "cells": "cells: whole equal-area cells left out, with a buffer ring around them",
    "continents": "continents: one continent left out at a time",
    "countries": "countries: one country left out at a time (that of the nearest city)",
    "checker": "checker: the black fields of a checkerboard train for the white ones, and back",
    "given": "given: the split the table brought",
}


def generalisation(material: Material) -> Chapter:
    """Splits side by side, few labels, leaks, and the geography of errors."""
    return Chapter("Generalisation", list(_blocks(material)))


def _blocks(material: Material) -> Iterator[Block]:
    report, splits = material.report, material.report.whole
    yield Text("Folds: " + "; ".join(MEANINGS.get(split, split) for split in splits) + ".")
    yield by_split(report, splits)
    for split in splits[1:2]:
        yield from ranks(material, split)
        if INTERPOLATION in material.names:
            yield from against(material, INTERPOLATION, split)
    for split in splits[1:]:
        yield summary(report, split)
        yield per_task(material, split)
    yield from few_shot(material)
    yield from errors(material)
    yield from leaks(report)


def by_split(report: Report, splits: Sequence[str]) -> Table:
    """Mean over groups of tasks under every split, and what blocks cost."""
    names = [name for name in report.names if any(report.tasks_of(name, split) for split in splits)]
    rows: list[list[Cell]] = [
        [
            name,
            *(
                with_interval(report.mean(name, s), report.interval(name, s)) if report.tasks_of(name, s) else np.nan
                for s in splits
            ),
        ]
        for name in names
    ]
    return Table(
        ["embedding", *splits],
        rows,
        caption="Mean over groups of tasks by split, with 95 % intervals over tasks and spatial blocks.",
        best=dict.fromkeys(splits, "highest"),
    )


def few_shot(material: Material) -> Iterator[Block]:
    """Curves of score by number of labels, a figure a task."""
    report = material.curves or material.report
    if others := [split for split in report.splits if split not in report.curves and report is not material.report]:
        yield Section("Whole countries and checkerboards")
        yield Text("On fewer tasks. Folds: " + "; ".join(MEANINGS.get(split, split) for split in others) + ".")
        yield by_split(report, others)
    if not report.curves:
        return
    yield Section("Few labels")
    yield Text(
        "Score with 1 to 1,000 labels, tested on the test rows of random folds; five draws each. Spread: labels spread"
        " evenly over the map. Clustered: all labels from three neighbourhoods, as field work brings them."
    )
    named = report.by_probe(report.first_probe)
    shown = {name: named[name] for name in material.figured if name in named}
    for kind, words in (("few-shot", "spread"), ("few-shot clustered", "clustered")):
        points = [split for split in report.curves if split.rsplit(" ", 1)[0] == kind]
        if points:
            yield Grid([c for task in report.tasks for c in _curve(material, report, task, points, shown, words)])
            yield _labels_table(report, points, words)
    yield _key(material, shown)


def _key(material: Material, shown: Iterable[str]) -> Figure:
    looks = {name: material.looks[name] for name in shown}
    return Figure("key", lambda: figures.key(looks), "Key to the curves.", f"Colours of {', '.join(looks)}.")


def _curve(
    material: Material, report: Report, task: str, points: Sequence[str], shown: dict[str, str], words: str
) -> Iterator[Figure]:
    """A figure of the embeddings that have the task, at the numbers of labels that all of these have; or none."""
    asked = {split: {name for name, full in shown.items() if task in report.tasks_of(full, split)} for split in points}
    shown = {name: full for name, full in shown.items() if name in set().union(*asked.values())}
    points = [split for split in points if asked[split] == set(shown)]
    if not shown or not points:
        return
    shots = [int(split.rsplit(" ", 1)[1]) for split in points]
    scores = {name: [report.score(full, task, s) for s in points] for name, full in shown.items()}
    bands = {name: np.array([report.task_interval(full, task, s) for s in points]).T for name, full in shown.items()}
    yield Figure(
        slug("few-shot", words, task),
        lambda: figures.few_shot_curves(
            shots, scores, {name: (low, high) for name, (low, high) in bands.items()}, title=task, show_legend=False,
            metric="Accuracy" if report.tasks[task].classes else "R2", looks=material.looks,
        ),
        f"{task}, labels {words}; bands: 95 % over spatial blocks.",
        f"Few-shot curves of {task}.",
    )  # fmt: skip


def _labels_table(report: Report, points: Sequence[str], words: str) -> Table:
    rows: list[list[Cell]] = [[name, *(report.mean(name, split) for split in points)] for name in report.names]
    return Table(
        ["embedding", *(split.rsplit(" ", 1)[1] for split in points)],
        rows,
        caption=f"Mean over groups of tasks by number of labels, {words}.",
        collapsed=True,
    )


def errors(material: Material) -> Iterator[Block]:
    """Where the errors lie: clusters, regions, density, distance, maps."""
    if not material.residuals:
        return
    yield Section("Geography of error")
    yield Text(
        "Residuals of held-out rows. Moran's I (8 nearest neighbours): near 0 = errors without pattern,"
        " large = whole regions are wrong together. Gaps: skill of the best minus that of the worst continent, and of"
        " the fifth of rows with the densest training labels minus the sparsest. Skill is 1 - squared error / variance"
        " over all rows, or accuracy."
    )
    rows: list[list[Cell]] = [
        [
            f"{name}: {task}",
            found.moran.i,
            found.moran.z,
            found.bias.region.gap,
            found.bias.region.deviation,
            found.score.unmarked,
            found.score.marked,
            _densest_minus_sparsest(found),
        ]
        for (name, task), found in material.residuals.items()
    ]
    yield Table(
        [
            "embedding: task",
            "Moran's I",
            "z",
            "gap of continents",
            "deviation of continents",
            "Geo-Bias, unmarked",
            "Geo-Bias, marked",
            "densest minus sparsest",
        ],
        rows,
        caption="Geography of error; Geo-Bias Scores (TorchSpatial) in nats, 0 = no pattern of right and wrong.",
        formats={"z": ".1f"},
        collapsed=len(rows) > 12,
    )
    names = list(dict.fromkeys(name for name, _ in material.residuals))
    tasks = list(dict.fromkeys(task for _, task in material.residuals))
    yield _key(material, names)
    mapped = [task for task in tasks if (names[0], task) in material.residuals]
    yield Grid([_error_map(names[0], task, material.residuals[names[0], task]) for task in mapped])
    yield Grid([_distance(material, names, task) for task in tasks])
    for modality in next(iter(material.residuals.values())).by_pretraining:
        yield Grid([_distance(material, names, task, modality) for task in tasks])


def _densest_minus_sparsest(found: Residuals) -> float:
    skill = dict(zip(found.bias.density.names, found.bias.density.skill, strict=True))
    return float(skill.get("1 densest", np.nan) - skill.get("5 sparsest", np.nan))


def _error_map(name: str, task: str, found: Residuals) -> Figure:
    return Figure(
        slug("errors", task),
        lambda: figures.world_map(found.cells, np.sqrt(found.loss), "root of mean loss", title=task),
        f"{task}: where {name} errs. Root of the mean loss in equal-area cells (1 = the deviation of the label, or"
        " always the wrong class).",
        f"Map of the errors of {name} on {task}.",
    )


def _distance(material: Material, names: Sequence[str], task: str, modality: str | None = None) -> Figure:
    what = "training label" if modality is None else f"pretraining sample of {modality}"
    curves = {}
    for name in (n for n in names if (n, task) in material.residuals):
        found = material.residuals[name, task]
        by = found.by_label if modality is None else found.by_pretraining[modality]
        middle = (by.edges_km[:-1] + by.edges_km[1:]) / 2
        curves[name] = (middle, by.skill, by.low, by.high)
    return Figure(
        slug("distance", modality or "label", task),
        lambda: figures.by_distance(
            curves, xlabel=f"Distance to the nearest {what}, km", title=task, metric="Skill", looks=material.looks,
            show_legend=False,
        ),
        f"{task}: skill by distance to the nearest {what}; bands: 95 % over spatial blocks.",
        f"Skill by distance to the nearest {what} on {task}.",
    )  # fmt: skip


def leaks(report: Report) -> Iterator[Block]:
    """What splits leak, and what could not be examined."""
    if report.leaks:
        yield Section("Leakage")
        yield Text(
            "The leak score is the share of test labels that could be copied from a training row within 1 km, beyond"
            " chance: 0 = nothing, 1 = everything."
        )
        rows: list[list[Cell]] = [
            [f"{task}, {split}", leak.test_rows, leak.same_place, leak.near, leak.median_km, leak.score]
            for (task, split), leak in report.leaks.items()
        ]
        yield Table(
            ["task, folds", "test rows", "at a training place", "within 1 km", "median km to training", "leak score"],
            rows,
            caption="Leakage of every task and split.",
            formats={"median km to training": ",.1f", "leak score": ".2f"},
            collapsed=True,
        )
    if report.failures:
        yield Section("Not examined")
        yield Table(
            ["task", "where", "why"],
            [[failure.task, failure.where, failure.reason] for failure in report.failures],
            caption=f"{len(report.failures)} parts could not be examined; everything else was.",
            collapsed=len(report.failures) > 8,
        )
