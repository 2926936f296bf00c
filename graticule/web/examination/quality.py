"""Chapter one: how good is the representation where labels are near."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from graticule.evaluation.report import Comparison, Report
from graticule.web import figures
from graticule.web.document import Block, Cell, Chapter, Figure, Section, Table, Text
from graticule.web.examination.material import INTERPOLATION, Material, slug, with_interval

ALPHA = 0.05


def quality(material: Material) -> Chapter:
    """Scores under the first split, ranks, paired tests against interpolation, probes."""
    return Chapter("Representation quality", list(_blocks(material)))


def _blocks(material: Material) -> Iterator[Block]:
    split = material.report.whole[0]
    yield Text(
        f"Frozen vectors, simple probes, folds `{split}`. Random folds leave labels near every test row, so"
        " interpolation does well and a high score need not mean knowledge; the next chapter asks about places far from"
        " labels. R2 (clipped at 0) or accuracy; means over groups of tasks. Intervals (95 %) draw tasks and, within"
        " tasks, spatial blocks of about 2,000 km; they are wide because tasks differ. To tell two rows apart use the"
        " paired tests."
    )
    yield summary(material.report, split)
    yield from ranks(material, split)
    if INTERPOLATION in material.names:
        yield Section("Against interpolation")
        yield from against(material, INTERPOLATION, split)
    yield per_task(material, split)
    if material.probes is not None:
        yield Section("Other probes")
        yield Text(
            "Slow probes on fewer tasks: a Gaussian process with a kernel on the vector and one on the sphere, a small"
            " network, and the way practitioners use vectors: beside the coordinates (`+place`)."
        )
        for other in material.probes.splits:
            yield summary(material.probes, other)


def summary(report: Report, split: str) -> Table:
    """A row for every embedding and probe, a column for every group of tasks."""
    names = [name for name in report.names if report.tasks_of(name, split)]
    groups = [g for g in report.groups if any(report.tasks_of(name, split, g) for name in names)]
    rows: list[list[Cell]] = [
        [
            name,
            *(report.group_mean(name, group, split) for group in groups),
            with_interval(report.mean(name, split), report.interval(name, split)),
        ]
        for name in names
    ]
    counts = {group: len({t for n in names for t in report.tasks_of(n, split, group)}) for group in groups}
    counted = ", ".join(f"{count} {group}" for group, count in counts.items())
    return Table(
        ["embedding", *groups, "mean"],
        rows,
        caption=f"Scores, folds {split}, tasks: {counted}.",
        best=dict.fromkeys([*groups, "mean"], "highest"),
    )


def ranks(material: Material, split: str) -> Iterator[Block]:
    """The critical-difference diagram of a split."""
    report = material.report
    plain = {name: short for short, name in material.names.items() if report.tasks_of(name, split)}
    shared = [task for task in report.tasks if all(task in report.tasks_of(name, split) for name in plain)]
    if len(plain) < 2 or len(shared) < 2:
        return
    ranking = report.ranking(split, list(plain))
    p = f"{ranking.p_value:.1e}" if ranking.p_value < 1e-3 else f"{ranking.p_value:.3f}"
    yield Figure(
        slug("ranks", split),
        lambda: figures.critical_difference(
            [plain[name] for name in ranking.names],
            ranking.mean_ranks,
            ranking.critical_difference,
            ranking.cliques,
        ),
        f"Mean ranks over {ranking.tasks} tasks, folds {split}; bars join what does not differ by the critical"
        f" difference {ranking.critical_difference:.2f} (Nemenyi, Demsar 2006; Friedman p = {p}).",
        f"Critical-difference diagram, folds {split}; best: {plain[ranking.names[0]]}.",
    )


def against(material: Material, other: str, split: str) -> Iterator[Block]:
    """Paired tests of every embedding against one other, and a forest plot of the first."""
    report, names = material.report, material.names
    mine = [name for name in names if name in material.study.profiles and name != other]
    common = {name: both for name in mine if (both := _on_shared_tasks(report, names[name], names[other], split))}
    found = {name: both.compare(names[name], names[other], split) for name, both in common.items()}
    if not found:
        return
    rows: list[list[Cell]] = []
    for name, tests in found.items():
        gap, low, high = common[name].difference(names[name], names[other], split)
        won, lost = (sum(t.adjusted < ALPHA and s * t.difference > 0 for t in tests) for s in (1, -1))
        rows.append([name, with_interval(gap, (low, high)), won, len(tests) - won - lost, lost])
    yield Table(
        ["embedding", f"mean minus {other}", "better", "undecided", "worse"],
        rows,
        caption=f"Each embedding minus {other}, folds {split}: difference of means with interval, and on how many"
        " tasks it is better or worse (paired sign-flip test with spatial blocks as the unit, Holm-corrected over"
        " tasks, p < .05).",
    )
    first = next((name for name in material.drawn if name in found), None)
    if first is not None:
        yield forest(found[first], first, other, split)


def _on_shared_tasks(report: Report, name: str, other: str, split: str) -> Report | None:
    """The report itself where two have the same tasks, else one without their other tasks; None where none is left."""
    ours, theirs = report.tasks_of(name, split), report.tasks_of(other, split)
    shared = [task for task in ours if task in theirs]
    if ours == theirs or not shared:
        return report if shared else None
    kept = [o for o in report.outcomes if o.task.name in shared or report.name_of(o) not in (name, other)]
    return replace(report, outcomes=kept)


def forest(tests: list[Comparison], name: str, other: str, split: str) -> Figure:
    """Differences on every task, the largest first."""
    ordered = sorted(tests, key=lambda test: -test.difference)
    difference, low, high = ([getattr(test, what) for test in ordered] for what in ("difference", "low", "high"))
    return Figure(
        slug("paired", name, "against", other, split),
        lambda: figures.paired_differences(
            [test.task for test in ordered],
            difference,
            low,
            high,
            [test.adjusted < ALPHA for test in ordered],
            label=f"{name} minus {other}: right = better",
        ),
        f"{name} minus {other} on every task, folds {split}: R2 or accuracy over all test rows, 95 % interval over"
        " spatial blocks; filled: p < .05 after Holm.",
        f"Differences between {name} and {other} on {len(tests)} tasks.",
    )


def per_task(material: Material, split: str) -> Table:
    """Every task, every embedding, with intervals; folded away on the page."""
    report, names = material.report, material.names
    rows: list[list[Cell]] = []
    for task in report.tasks:
        cells: list[Cell] = [
            with_interval(report.score(full, task, split), report.task_interval(full, task, split))
            if task in report.tasks_of(full, split)
            else np.nan
            for full in names.values()
        ]
        rows.append([task, report.tasks[task].kind, len(report.tasks[task]), *cells])
    return Table(
        ["task", "kind", "rows", *names],
        rows,
        caption=f"Every task, folds {split}: score and 95 % interval over spatial blocks of the test rows.",
        collapsed=True,
    )
