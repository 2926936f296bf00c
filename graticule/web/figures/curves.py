"""Curves of several embeddings: scores by labels or distance, and spectra and semivariograms of the vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from graticule.evaluation.information.scale import resolution_km
from graticule.web.figures.frame import (
    QUIET,
    Floats,
    Look,
    blank,
    column,
    legend,
    looks_of,
    plain_log_axis,
    sentence,
    shortened,
    style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Looks = Mapping[str, Look]
BAND = 0.13  # opacity of an interval
MOST_MARKERS = 30  # on a curve
LABELLED_DEGREES = (1, 2, 5, 10, 20, 50, 100, 200, 500)
LABELLED_KM = (20_000, 10_000, 5_000, 2_000, 1_000, 500, 200, 100, 50, 20, 10)


class _Curve(NamedTuple):
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


@style()
def few_shot_curves(
    shots: ArrayLike,
    scores: Mapping[str, ArrayLike],
    intervals: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    *,
    title: str = "",
    metric: str = "Score",
    xlabel: str = "Labels",
    looks: Looks | None = None,
    show_legend: bool = True,
) -> Figure:
    """Scores (k,) of each embedding by the number of labels (k,), which are positive, on a logarithmic axis.

    `intervals`: name -> (low (k,), high (k,)), drawn as bands. NaN leaves a gap.
    """
    x = column(shots, "shots")
    curves = {name: _Curve(x, values, *(intervals or {}).get(name, ())) for name, values in scores.items()}
    return _curves(curves, title, xlabel, metric, x, looks, show_legend)


@style()
def by_distance(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]],
    *,
    xlabel: str = "Distance to the nearest label, km",
    title: str = "",
    metric: str = "Score",
    looks: Looks | None = None,
    show_legend: bool = True,
) -> Figure:
    """Name -> (km, score, low, high), all (k,): curves with bands, logarithmic where km span a factor of 20.

    `low` and `high` may be NaN.
    """
    shown = {name: _Curve(*curve) for name, curve in curves.items()}
    return _curves(shown, title, xlabel, metric, _decades(shown), looks, show_legend)


@style()
def semivariograms(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    title: str = "",
    looks: Looks | None = None,
    show_legend: bool = True,
) -> Figure:
    """Name -> (km (k,), gamma (k,)), gamma over the variance; the sill, 1, is a dashed line."""
    shown = {name: _Curve(*curve) for name, curve in curves.items()}
    label = "Semivariance / variance"
    figure = _curves(shown, title, "Distance, km", label, _decades(shown), looks, show_legend)
    if figure.axes[0].lines:
        figure.axes[0].axhline(1, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        figure.axes[0].set_ylim(bottom=0)
    return figure


@style()
def degree_spectrum(
    spectra: Mapping[str, ArrayLike],
    *,
    title: str = "",
    looks: Looks | None = None,
    show_legend: bool = True,
) -> Figure:
    """Name -> shares of the variance (k,) of degrees 1..k of the spherical harmonics, both axes logarithmic.

    The upper axis is the resolution on the ground, half a wavelength: 20,015 km / degree. Shares of 0 are gaps;
    what is less than a 100,000th of the largest share is cut off.
    """
    shares = {name: column(values, f"spectrum of {name}") for name, values in spectra.items()}
    shares = {name: np.where(share > 0, share, np.nan) for name, share in shares.items()}
    curves = {name: _Curve(np.arange(1, len(share) + 1), share) for name, share in shares.items()}
    longest = max((len(share) for share in shares.values()), default=0)
    degrees = [degree for degree in LABELLED_DEGREES if degree <= longest]
    label = "Degree of the spherical harmonics"
    figure = _curves(curves, title, label, "Share of variance", degrees, looks, show_legend)
    axes = figure.axes[0]
    if not axes.lines:
        return figure
    every = np.concatenate(list(shares.values()))
    axes.set_yscale("log")
    plain_log_axis(axes.yaxis)
    axes.set_ylim(bottom=max(float(np.nanmin(every)) * 0.8, float(np.nanmax(every)) * 1e-5))
    kilometres = axes.secondary_xaxis("top", functions=(_other_scale, _other_scale))
    shown = [km for km in LABELLED_KM if resolution_km(longest) * 0.99 <= km]
    plain_log_axis(kilometres.xaxis, shown[:: 1 + len(shown) // 7])
    kilometres.set_xlabel("Resolution on the ground, km")
    return figure


def _other_scale(values: ArrayLike) -> Floats:
    """Degree -> km and km -> degree."""
    array = np.asarray(values, dtype=np.float64)
    return np.asarray(resolution_km(1) / np.where(array > 0, array, np.nan))


def _curves(
    curves: Mapping[str, _Curve],
    title: str,
    xlabel: str,
    ylabel: str,
    log_ticks: Sequence[float] | Floats | None,
    given: Looks | None,
    show_legend: bool,
) -> Figure:
    """Lines with bands; a logarithmic x axis where ticks for it are given."""
    given = given or looks_of(curves)
    figure, axes = blank(height_in=2.9 + (0.1 * len(curves) if show_legend else 0), title=title)
    for name, curve in curves.items():
        x = column(curve.x, f"x of {name}")
        y = column(curve.y, f"curve of {name}", len(x))
        look = given[name]
        if np.isfinite(x + y).any():
            (line,) = axes.plot(x, y, color=look.colour, linestyle=look.dash, label=shortened(name))
            line.set(marker=look.marker if len(x) <= MOST_MARKERS else "", markersize=3.8)
        if curve.low is not None and curve.high is not None:
            low, high = (column(side, f"interval of {name}", len(x)) for side in (curve.low, curve.high))
            axes.fill_between(x, low, high, color=look.colour, alpha=BAND, linewidth=0)
    if not axes.lines:
        return sentence("No embedding has values to draw.", title)
    if log_ticks is not None:
        axes.set_xscale("log")
        plain_log_axis(axes.xaxis, _thinned(log_ticks))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if show_legend:
        legend(figure, axes)
    return figure


def _decades(curves: Mapping[str, _Curve]) -> list[float] | None:
    """Ticks at 1, 2 and 5 times powers of ten (powers of ten alone where many), None below a factor of 20."""
    km = np.concatenate([column(curve.x, f"km of {name}") for name, curve in curves.items()] or [np.empty(0)])
    km = km[np.isfinite(km)]
    if not len(km) or km.min() <= 0 or km.max() <= 20 * km.min():
        return None
    powers = np.arange(np.floor(np.log10(km.min())), np.ceil(np.log10(km.max())) + 1)
    factors = (1,) if len(powers) > 4 else (1, 2, 5)
    ticks = sorted(float(factor * 10.0**power) for power in powers for factor in factors)
    return [tick for tick in ticks if km.min() * 0.8 <= tick <= km.max() * 1.25]


def _thinned(ticks: Sequence[float] | Floats) -> list[float]:
    """Ticks whose labels do not touch: those a tenth of the axis or more beyond the one before."""
    ordered = np.unique(ticks)
    reach = 0.09 * np.log(ordered[-1] / ordered[0])
    kept: list[float] = []
    for tick in ordered:
        if not kept or np.log(tick / kept[-1]) >= reach:
            kept.append(float(tick))
    return kept
