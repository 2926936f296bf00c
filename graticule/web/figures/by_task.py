"""A row for each task: scores, differences, and parts of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graticule.web.figures.frame import (
    COLOURS,
    FAINT,
    INK,
    QUIET,
    Look,
    blank,
    column,
    legend,
    looks_of,
    sentence,
    shortened,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TOP_IN, ROW_IN = 0.75, 0.21  # what axes and title take, and one row of names


@style()
def score_dots(
    tasks: Sequence[str],
    scores: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    *,
    title: str = "",
    metric: str = "Score",
    looks: Mapping[str, Look] | None = None,
    show_legend: bool = True,
) -> Figure:
    """A row a task, a dot an embedding: name -> (score, low, high), all (tasks,), in the order of `tasks`.

    A score of NaN is left out, an interval of NaN not drawn.
    """
    given = looks or looks_of(scores)
    if not tasks or not scores:
        return sentence("No task has a score.", title)
    thickness = 0.08 + 0.04 * len(scores)
    figure, axes = blank(5.2, TOP_IN + 0.2 + 0.1 * len(scores) + max(ROW_IN, thickness) * len(tasks), title)
    _name_rows(axes, tasks, striped=True)
    offsets = np.linspace(-0.36, 0.36, len(scores)) if len(scores) > 1 else np.zeros(1)
    for (name, values), offset in zip(scores.items(), offsets, strict=True):
        score, low, high = (column(v, f"scores of {name}", len(tasks)) for v in values)
        y = np.arange(len(tasks)) + offset
        axes.hlines(y, low, high, color=given[name].colour, linewidth=1.1, alpha=0.55)
        axes.plot(
            score, y, given[name].marker, color=given[name].colour, markersize=4, label=shortened(name), clip_on=False
        )
    axes.set_xlabel(metric)
    if show_legend:
        legend(figure, axes)
    return figure


@style()
def paired_differences(
    tasks: Sequence[str],
    difference: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    significant: ArrayLike,
    *,
    title: str = "",
    label: str = "Difference of scores",
) -> Figure:
    """A forest plot: differences and intervals (tasks,) about the line at 0; filled dots are significant.

    NaN is left out. `label` should say which sign favours which embedding.
    """
    values, left, right = (column(v, "differences", len(tasks)) for v in (difference, low, high))
    sure = column(significant, "significant", len(tasks)) > 0
    if not np.isfinite(values).any():
        return sentence("No task was answered by both.", title)
    figure, axes = blank(4.6, TOP_IN + 0.3 + ROW_IN * len(tasks), title)
    _name_rows(axes, tasks)
    y = np.arange(len(tasks))
    axes.axvline(0, color=INK, linewidth=0.9)
    for which, colour, face, what in (
        (sure & (values > 0), COLOURS[0], COLOURS[0], "better"),
        (sure & (values < 0), COLOURS[1], COLOURS[1], "worse"),
        (~sure | (values == 0), QUIET, "white", "not significant"),
    ):
        which = which & np.isfinite(values)
        axes.hlines(y[which], left[which], right[which], color=colour, linewidth=1.3)
        if which.any():
            axes.plot(values[which], y[which], "o", color=colour, markerfacecolor=face, markersize=5, label=what)
    axes.set_xlabel(label)
    legend(figure, axes, columns=3)
    return figure


@style()
def partition_bars(
    tasks: Sequence[str],
    parts: Mapping[str, ArrayLike],
    *,
    title: str = "",
    label: str = "Part of the score",
) -> Figure:
    """Stacked bars, one a task, of parts (tasks,) that add up to a whole; negative parts go to the left of 0.

    A diamond marks the sum where a part is negative. NaN counts as missing, not as 0: its task is left blank.
    """
    shown = {name: column(values, f"part {name}", len(tasks)) for name, values in parts.items()}
    if not tasks or not shown:
        return sentence("No task was partitioned.", title)
    whole = np.sum(list(shown.values()), axis=0)
    figure, axes = blank(5.2, TOP_IN + 0.5 + 0.19 * (len(shown) + 1) + (ROW_IN + 0.03) * len(tasks), title)
    _name_rows(axes, tasks)
    y = np.arange(len(tasks))
    left, right = np.zeros(len(tasks)), np.zeros(len(tasks))
    for (name, values), look in zip(shown.items(), looks_of(shown).values(), strict=True):
        values = np.where(np.isfinite(whole), values, 0.0)
        start = np.where(values < 0, left, right)
        axes.barh(
            y, values, 0.68, start, color=look.colour, edgecolor="white", linewidth=0.5, label=shortened(name, 60)
        )
        left, right = left + np.minimum(values, 0), right + np.maximum(values, 0)
    axes.axvline(0, color=INK, linewidth=0.9)
    mixed = (left < 0) & np.isfinite(whole)
    if mixed.any():
        axes.plot(whole[mixed], y[mixed], "D", color=INK, markeredgecolor="white", markersize=4.5, label="sum")
    axes.set_xlabel(label)
    legend(figure, axes)
    return figure


def _name_rows(axes: Axes, tasks: Sequence[str], striped: bool = False) -> None:
    """Tasks from the top down, with lines across, or shaded in turns."""
    axes.set_yticks(range(len(tasks)), [shortened(task, 26) for task in tasks], color=INK)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(not striped, axis="y")
    for row in range(0, len(tasks) if striped else 0, 2):
        axes.axhspan(row - 0.5, row + 0.5, color=FAINT, linewidth=0, zorder=0)
