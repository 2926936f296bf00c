"""Embeddings against each other: mean ranks over tasks, and similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from graticule.errors import DataError
from graticule.web.figures.frame import COLOURS, INK, QUIET, Floats, blank, column, sentence, shortened, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@style()
def critical_difference(
    names: Sequence[str],
    mean_ranks: ArrayLike,
    cd: float | None,
    cliques: Sequence[Sequence[int]] = (),
    *,
    title: str = "",
) -> Figure:
    """The diagram of Demsar 2006: embeddings on an axis of mean ranks, the best to the left.

    `cliques`: groups of positions in `names` that do not differ, joined by bars. `cd`: the critical difference,
    drawn as a length, or None.
    """
    ranks = column(mean_ranks, "mean_ranks", len(names))
    if len(names) < 2 or not np.isfinite(ranks).all():
        return sentence("Mean ranks need two or more embeddings, all of them on every task.", title)
    order = np.argsort(ranks, kind="stable")
    half = (len(names) + 1) // 2
    bars = [sorted(float(ranks[i]) for i in clique) for clique in cliques]
    first = 0.75 + 0.35 * len(bars)  # the height of the first name below the axis, in rows
    low, high = 1.0, float(max(len(names), np.ceil(ranks.max())))
    labels = [shortened(name, 24) for name in names]
    wide = max(map(len, labels)) > 16 or len(names) > 12
    figure, axes = blank(7.6 if wide else 5.4, 0.55 + 0.25 * (first + half + 1.2) + (0.2 if title else 0), title)
    axes.set(xlim=(low - 0.55 * (high - low), high + 0.55 * (high - low)), ylim=(first + half - 0.4, -1.9))
    axes.axis("off")
    axes.plot([low, high], [0, 0], color=INK, linewidth=1)
    step = int(np.ceil(high / 10))
    for tick in np.arange(low, high + 0.01, step):
        axes.plot([tick, tick], [0, -0.18], color=INK, linewidth=1)
        axes.text(tick, -0.3, f"{tick:.0f}", ha="center", va="bottom", color=QUIET)
    for place, i in enumerate(order):
        side, row = ("right", place) if place < half else ("left", len(names) - 1 - place)
        end, gap = (low, -1) if side == "right" else (high, 1)
        end, text = end + gap * 0.03 * (high - low), end + gap * 0.045 * (high - low)
        y = first + row
        axes.plot([ranks[i], ranks[i], end], [0, y, y], color="#8b949c", linewidth=0.9, solid_joinstyle="miter")
        axes.plot(ranks[i], 0, "o", color=COLOURS[0], markersize=4.5, zorder=4)
        axes.text(text, y, f"{labels[i]}  {ranks[i]:.2f}", ha=side, va="center")
    for level, bar in enumerate(bars):
        y = 0.42 + 0.35 * level
        axes.plot([bar[0] - 0.04, bar[-1] + 0.04], [y, y], color=COLOURS[1], linewidth=3.2, solid_capstyle="butt")
    if cd is not None:
        _draw_length(axes, low, cd)
    return figure


def _draw_length(axes: Axes, start: float, length: float) -> None:
    axes.plot([start, start + length], [-1.35, -1.35], color=INK, linewidth=1.2)
    for end in (start, start + length):
        axes.plot([end, end], [-1.5, -1.2], color=INK, linewidth=1.2)
    words = f"  critical difference {length:.2f}"
    axes.text(start + length, -1.35, words, va="center", color=QUIET)


@style()
def similarity_matrix(names: Sequence[str], values: ArrayLike, *, title: str = "", label: str = "CKA") -> Figure:
    """Numbers (n, n) between 0 and 1 in shaded cells; NaN is a dash on grey."""
    if not len(names):
        return sentence("No embeddings to compare.", title)
    matrix: Floats = np.asarray(values, dtype=np.float64)
    if matrix.shape != (len(names), len(names)):
        raise DataError(f"A similarity matrix of {len(names)} names must be square, got shape {matrix.shape}.")
    size = 1.7 + 0.37 * len(names)
    figure, axes = blank(max(size + 0.5, 3.4), max(size, 2.4), title)
    shown = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    labels = [shortened(name, 22) for name in names]
    axes.set_yticks(range(len(names)), labels, color=INK)
    axes.set_xticks(range(len(names)), labels, color=INK, rotation=90 if len(names) > 3 else 0)
    for row, column_, value in ((r, c, matrix[r, c]) for r in range(len(names)) for c in range(len(names))):
        text = f"{value:.2f}".removeprefix("0") if np.isfinite(value) else "–"
        colour = "white" if value > 0.6 else INK
        axes.text(column_, row, text, ha="center", va="center", color=colour, fontsize=8)
    bar = figure.colorbar(shown, ax=axes, shrink=0.6, aspect=18, label=label, ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    return figure
