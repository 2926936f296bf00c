"""Do errors cluster in space: Moran's I over the whole Earth, and the Geo-Bias Score over neighbourhoods."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, SettingError, need
from graticule.geo.coords import Points, chord, offset_km, unit_sphere

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

LEAST_ROWS = 4  # for the variance of Moran's I
NEIGHBOURHOOD = 100  # rows of a neighbourhood at most
BACKGROUND = 5  # empty places for every row of a neighbourhood
ROOK = 4  # neighbours of a place within a neighbourhood


@dataclass(frozen=True)
class Moran:
    """Moran's I, what it is without autocorrelation, the z score and the two-sided p; NaN where not defined."""

    i: float
    expected: float
    z: float
    p_value: float


@dataclass(frozen=True)
class SelfInformation:
    """Geo-Bias Scores in nats, means over so many `neighbourhoods`; 0 = no pattern, NaN without neighbourhoods.

    unmarked  how unlikely the places alone are as a draw from an even spread
    marked    the same with right and wrong rows told apart
    """

    unmarked: float
    marked: float
    neighbourhoods: int


def morans_i(values: Floats, points: Points, neighbours: int = 8) -> Moran:
    """Autocorrelation of (n,) values at (n, 2) lon/lat degrees: 1 = like their neighbours, near 0 = no pattern.

    Weights are 1 / `neighbours` for each of the nearest places on the sphere, cut to n - 1. The variance is that
    under randomisation (Cliff and Ord 1981, eq. 2.29), the p that of a normal distribution. Not defined, and so
    NaN, for fewer than four rows, equal values, or when all places are neighbours of all.

    Raises DataError for different lengths and values that are not finite, SettingError for no neighbours.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) != len(points):
        raise DataError(f"Moran's I needs a value for every place, got {len(values)} values and {len(points)} places.")
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        raise DataError(f"Moran's I needs finite values; {len(bad)} of {len(values)} are not, first at row {bad[0]}.")
    if neighbours < 1:
        raise SettingError(f"At least one neighbour is needed, got {neighbours}.")
    if len(values) < LEAST_ROWS:
        return Moran(np.nan, np.nan, np.nan, np.nan)
    i, expected, z = _moran(values, nearest_rows(points, neighbours))
    return Moran(i, expected, z, float(2 * need("scipy.special", "train").ndtr(-abs(z))))


def geo_bias_score(
    points: Points, right: NDArray[np.bool_], radius_km: float = 637.1, centres: int = 500, seed: int = 0
) -> SelfInformation:
    """Geo-Bias Scores (Wu et al. 2024, TorchSpatial) of (n,) rows that are `right` or not at (n, 2) lon/lat degrees.

    Around a row lie the 100 nearest rows within `radius_km` (0.1 radians) and, on rings, five times as many empty
    places. Rows are 1 (unmarked), or 1 if right and -1 if wrong (marked), empty places 0; the score is the
    self-information -log p of Moran's I with 4 neighbours. Averaged over the neighbourhoods of at most `centres`
    random rows that hold a wrong row.

    Where we differ: mean and variance of Moran's I are those under randomisation (see `morans_i`), theirs are
    approximations of them with a constant added; so figures are comparable among themselves, not with the paper's.
    """
    if len(right) != len(points):
        raise DataError(f"Expected right or wrong for every place, got {len(right)} rows and {len(points)} places.")
    if not radius_km > 0:
        raise SettingError(f"A neighbourhood needs a positive radius in km, got {radius_km:g}.")
    scores = []
    if len(points):
        xyz, mark = unit_sphere(points), np.where(right, 1.0, -1.0)
        tree = need("scipy.spatial", "train").cKDTree(xyz)
        for centre in np.random.default_rng(seed).permutation(len(points))[:centres]:
            straight, found = tree.query(xyz[centre], k=np.arange(1, min(NEIGHBOURHOOD, len(points)) + 1))
            rows = found[straight <= chord(radius_km)]
            if (mark[rows] < 0).any():
                scores.append(_self_information(points[centre], points[rows], mark[rows], radius_km))
    unmarked, marked = np.mean(scores, axis=0) if scores else (np.nan, np.nan)
    return SelfInformation(float(unmarked), float(marked), len(scores))


def nearest_rows(points: Points, neighbours: int) -> Rows:
    """(n, 2) lon/lat degrees -> (n, k) rows of the nearest other places, k at most n - 1; duplicates are others."""
    n, k = len(points), min(neighbours, len(points) - 1)
    xyz = unit_sphere(points)
    _, found = need("scipy.spatial", "train").cKDTree(xyz).query(xyz, k=np.arange(1, k + 2))
    itself = found == np.arange(n)[:, None]
    itself[~itself.any(1), -1] = True  # more than k duplicates: the row is not among its own nearest
    return np.asarray(found[~itself].reshape(n, k), dtype=np.int64)


def _self_information(centre: Floats, points: Points, mark: Floats, radius_km: float) -> tuple[float, float]:
    """-log p of the unmarked and of the marked neighbourhood."""
    east_km, north_km = _rings(BACKGROUND * len(points), radius_km)
    around = offset_km(centre[None], east_km, north_km)[0]
    found = nearest_rows(np.concatenate([points, around]), ROOK)
    log_ndtr, empty = need("scipy.special", "train").log_ndtr, np.zeros(len(around))
    unmarked, marked = (
        -min(0.0, float(np.log(2) + log_ndtr(-abs(_moran(np.concatenate([value, empty]), found)[2]))))
        for value in (np.ones(len(points)), mark)
    )
    return unmarked, marked


def _rings(places: int, radius_km: float) -> tuple[Floats, Floats]:
    """Offsets in km, east and north, of about `places` evenly spread places on rings around a centre."""
    spacing_km = radius_km * np.sqrt(np.pi / places)
    counts = [int(np.ceil(2 * np.pi * ring)) for ring in range(1, int(np.ceil(radius_km / spacing_km)) + 1)]
    distance_km = np.repeat(spacing_km * np.arange(1, len(counts) + 1), counts)
    angle = np.concatenate([2 * np.pi * np.arange(count) / count for count in counts])
    return distance_km * np.sin(angle), distance_km * np.cos(angle)


def _moran(values: Floats, found: Rows) -> tuple[float, float, float]:
    """I, its expectation and z score of (n,) values with (n, k) neighbours of weight 1 / k each."""
    n, k = found.shape
    expected = -1 / (n - 1)
    if np.ptp(values) == 0:
        return np.nan, expected, np.nan
    x = values - values.mean()
    i = float((x * x[found].mean(1)).sum() / np.square(x).sum())
    row = np.arange(n)[:, None]
    mutual = np.isin(row * n + found, found * n + row, assume_unique=True).sum()
    s1 = n / k + mutual / k**2  # half the sum of (w_ij + w_ji)^2
    s2 = np.square(1 + np.bincount(found.ravel(), minlength=n) / k).sum()  # of (w_i. + w_.i)^2; the sum of w_ij is n
    kurtosis = n * (x**4).sum() / np.square(x).sum() ** 2
    free = n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * n**2)
    tied = kurtosis * ((n**2 - n) * s1 - 2 * n * s2 + 6 * n**2)
    variance = (free - tied) / ((n - 1) * (n - 2) * (n - 3) * n**2) - expected**2
    return i, expected, float((i - expected) / np.sqrt(variance)) if k < n - 1 and variance > 0 else np.nan
