"""Where is an embedding good: by distance to what it was trained on, by region, by density, and on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.errors import DataError, SettingError, need
from graticule.evaluation.predictors import Array
from graticule.evaluation.uncertainty import INTERVAL_DRAWS, block_sums, block_weights, interval, row_loss
from graticule.geo.cells import cell_centres, equal_area_cells
from graticule.geo.coords import Points, great_circle_km, unit_sphere

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

QUINTILES = 5


@dataclass(frozen=True)
class ByDistance:
    """Skill by distance: bin b holds `rows[b]` rows from `edges_km[b]` to below `edges_km[b + 1]`.

    The last bin holds its end too. skill (b,) = 1 - squared error / variance of the truth over all rows, or
    accuracy; low, high (b,) its 95 % interval; NaN for bins without rows. `outside` rows lie beyond the edges.
    """

    edges_km: Floats
    rows: Rows
    skill: Floats
    low: Floats
    high: Floats
    outside: int


@dataclass(frozen=True)
class ByGroup:
    """Skill of groups of rows, as in `ByDistance`.

    names, rows, skill (g,); gap = best minus worst; deviation = standard deviation of skill, weighted by rows.
    NaN without groups. `outside` rows belong to no group or to one that is too small.
    """

    names: tuple[str, ...]
    rows: Rows
    skill: Floats
    gap: float
    deviation: float
    outside: int


@dataclass(frozen=True)
class GeoBias:
    """How unequal the skill is between regions, and between sparse and dense surroundings."""

    region: ByGroup
    density: ByGroup


def nearest_km(points: Points, to: Points, neighbour: int = 1) -> Floats:
    """Great-circle distance in km from (n, 2) lon/lat degrees to the nearest of (m, 2) others -> (n,).

    `neighbour` = k asks for the k-th nearest. Infinite where there are fewer others than that.
    """
    if neighbour < 1:
        raise SettingError(f"The nearest neighbour has number 1, got {neighbour}.")
    if len(to) < neighbour or not len(points):
        return np.full(len(points), np.inf)
    _, found = need("scipy.spatial", "train").cKDTree(unit_sphere(to)).query(unit_sphere(points), k=[neighbour])
    return np.asarray(great_circle_km(points, to[found[:, 0]]))


def quantile_edges(distance_km: Floats, bins: int = 8) -> Floats:
    """Edges of `bins` bins with about as many rows each; fewer where distances are equal."""
    known = _finite(distance_km, bins)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.repeat(edges, 2)


def by_distance(
    truth: Array,
    predicted: Array,
    distance_km: Floats,
    block: Rows,
    classes: int = 0,
    edges_km: ArrayLike | None = None,
    seed: int = 0,
) -> ByDistance:
    """Skill of (n,) predictions by (n,) distance in km, to the nearest training label or pretraining sample say.

    block     (n,) numbers of `resampling_blocks`, drawn for the intervals
    edges_km  (bins + 1,) increasing; without them those of `quantile_edges`

    All bins share the variance of the truth over all rows, so they compare errors, not how varied the truth is.
    """
    _same_length(truth=truth, predicted=predicted, distance_km=distance_km, block=block)
    edges = quantile_edges(distance_km) if edges_km is None else np.asarray(edges_km, dtype=np.float64)
    one_distance = edges.shape == (2,) and edges[0] == edges[1]
    if edges.ndim != 1 or len(edges) < 2 or not ((np.diff(edges) > 0).all() or one_distance):
        raise SettingError(f"Edges of bins must be two or more increasing distances in km, got {edges.tolist()}.")
    loss, bins = row_loss(truth, predicted, classes), len(edges) - 1
    inside = (distance_km >= edges[0]) & (distance_km <= edges[-1])
    where = np.where(inside, np.searchsorted(edges[1:-1], distance_km, side="right"), -1)
    member = (where[:, None] == np.arange(bins)).astype(np.float64)
    sums = block_sums(block, np.concatenate([member * loss[:, None], member], axis=1))
    drawn = block_weights(len(sums), INTERVAL_DRAWS, seed) @ sums
    limits = [interval(skill) for skill in _skill(drawn[:, :bins], drawn[:, bins:]).T]
    low, high = np.array(limits).T
    rows = member.sum(0)
    skill = _skill(member.T @ loss, rows)
    return ByDistance(edges, rows.astype(np.int64), skill, low, high, int((~inside).sum()))


def by_group(truth: Array, predicted: Array, group: Array, classes: int = 0, least_rows: int = 1) -> ByGroup:
    """Skill of (n,) predictions by (n,) group: numbers (negative: in no group) or text (empty: in none).

    Groups of fewer than `least_rows` rows are left out and counted in `outside`.
    """
    _same_length(truth=truth, predicted=predicted, group=group)
    group = np.asarray(group)
    known = group >= 0 if np.issubdtype(group.dtype, np.number) else group.astype(str) != ""
    names, code = np.unique(group[known], return_inverse=True)
    loss = row_loss(truth, predicted, classes)[known]
    rows = np.bincount(code, minlength=len(names)).astype(np.int64)
    kept = rows >= max(least_rows, 1)
    lost = np.asarray(np.bincount(code, weights=loss, minlength=len(names)), dtype=np.float64)
    skill, rows = _skill(lost, rows.astype(np.float64))[kept], rows[kept]
    outside = len(truth) - int(rows.sum())
    if not len(rows):
        return ByGroup((), rows, skill, np.nan, np.nan, outside)
    spread = np.sqrt(np.average(np.square(skill - np.average(skill, weights=rows)), weights=rows))
    return ByGroup(tuple(str(n) for n in names[kept]), rows, skill, float(np.ptp(skill)), float(spread), outside)


def geo_bias(
    truth: Array, predicted: Array, region: Array, spacing_km: Floats, classes: int = 0, least_rows: int = 10
) -> GeoBias:
    """How much worse (n,) predictions are in some regions, and where training rows are far between.

    region      (n,) labels as in `by_group`, of continents say
    spacing_km  (n,) how sparse the training rows are around a row: `nearest_km(points, training, neighbour=10)`
    Groups by density are quintiles of the spacing, from "1 densest" to "5 sparsest".
    """
    _same_length(truth=truth, predicted=predicted, region=region, spacing_km=spacing_km)
    quintile = np.full(len(truth), -1)
    quintile[np.isfinite(spacing_km)] = _quintiles(spacing_km[np.isfinite(spacing_km)])
    names = np.array(["1 densest", "2", "3", "4", "5 sparsest", ""])
    return GeoBias(
        by_group(truth, predicted, region, classes, least_rows),
        by_group(truth, predicted, names[quintile], classes, least_rows),
    )


def error_grid(points: Points, loss: Floats, size_km: float = 500) -> tuple[Points, Floats, Rows]:
    """Mean of (n,) losses at (n, 2) lon/lat degrees in equal-area cells of `size_km` squared, for maps.

    Returns centres (m, 2), mean losses (m,) and numbers of rows (m,) of the cells that hold any.
    """
    _same_length(points=points, loss=loss)
    cells, code, rows = np.unique(equal_area_cells(points, size_km), return_inverse=True, return_counts=True)
    mean = np.bincount(code, weights=loss, minlength=len(cells)) / rows
    return cell_centres(size_km)[cells], mean, rows.astype(np.int64)


def _quintiles(values: Floats) -> Rows:
    """0 to 4, equal values together."""
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    limits = np.quantile(values, np.arange(1, QUINTILES) / QUINTILES)
    return np.searchsorted(limits, values, side="left").astype(np.int64)


def _skill(loss: Floats, rows: Floats) -> Floats:
    """One minus the mean loss from sums; NaN without rows."""
    return np.where(rows > 0, 1 - loss / np.maximum(rows, 1), np.nan)


def _finite(distance_km: Floats, bins: int) -> Floats:
    known = np.asarray(distance_km)[np.isfinite(distance_km)]
    if bins < 1 or not len(known):
        raise DataError(f"Bins of distance need a finite distance and one bin or more, got {len(known)} and {bins}.")
    return known


def _same_length(**arrays: Array) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"Arrays must have the same number of rows, got {lengths}.")
