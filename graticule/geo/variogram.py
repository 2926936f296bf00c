"""How vectors differ with distance on the ground: pairs of places by distance, their semivariogram and its range."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, SettingError, need
from graticule.geo.coords import Points, chord, great_circle_km, unit_sphere

Array = NDArray[Any]
DRAWS = 1_000_000  # random pairs, which fill the wide bins
NEAR_KM = 2000.0  # up to here a bin that they do not fill is filled by searching around places
ANCHORS = 500  # places at least whose surroundings are searched: few would stand for the rest
PARTNERS = 2_000_000  # places found around others at a time
FIT_KM = (0.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)  # bins of `range_km`
LEAST_SHARE = 0.05  # of the sill, that depends on distance
CANDIDATES = 400  # ranges tried, evenly on the logarithm: some 2 % apart


class Semivariogram(NamedTuple):
    """Of every bin: mean distance in km, half the mean squared difference over the variance, number of pairs."""

    mean_km: NDArray[np.float64]
    gamma: NDArray[np.float64]
    pairs: NDArray[np.int64]

    @property
    def half_sill_km(self) -> float | None:
        """The first distance at which gamma reaches 0.5, on straight lines between bins from (0 km, 0).

        None where it never does. The sill is 1: pairs that have nothing in common differ by the variance.
        """
        filled = self.pairs > 0
        km, gamma = np.append(0, self.mean_km[filled]), np.append(0, self.gamma[filled])
        above = np.flatnonzero(gamma >= 0.5)
        if not len(above):
            return None
        i = above[0]
        return float(km[i - 1] + (0.5 - gamma[i - 1]) / (gamma[i] - gamma[i - 1]) * (km[i] - km[i - 1]))

    @property
    def range_km(self) -> float | None:
        """The range a of the exponential model gamma(h) = c0 + c1 (1 - exp(-h / a)), fitted with c0, c1 >= 0.

        At a kilometres the correlation that depends on distance has fallen to 1 / e. Least squares weighted by pairs
        (not also by 1 / h^2 as in gstat, Pebesma 2004, where smooth fields then get too long a range), a tried on a
        logarithmic grid between the mean distances of the first and last bin, c0 and c1 exact for each. None with
        fewer than three bins that hold pairs, or where c1 is less than a twentieth of the sill: hardly a pattern.
        """
        filled = self.pairs > 0
        km, gamma, pairs = self.mean_km[filled], self.gamma[filled], self.pairs[filled]
        if len(km) < 3:
            return None
        weight = np.sqrt(pairs)
        best, least = None, np.inf
        for a in np.geomspace(km[0].clip(1e-6), km[-1], CANDIDATES):
            model = np.stack([np.ones_like(km), 1 - np.exp(-km / a)], axis=1)
            (c0, c1), missed = need("scipy.optimize", "train").nnls(weight[:, None] * model, weight * gamma)
            if missed < least:
                best, least = (float(a) if c1 > LEAST_SHARE * (c0 + c1) else None), missed
        return best


def semivariogram(
    points: Points, vectors: Array, edges_km: Sequence[float], *, pairs: int = 5000, seed: int = 0
) -> Semivariogram:
    """Semivariogram of (n, d) vectors at (n, 2) places, between the distances `edges_km` (bins + 1, increasing).

    Matheron 1963: gamma(h) is half the mean squared difference of pairs h apart, here summed over components
    and divided by the total variance, so that 1 is the sill. At most `pairs` random pairs are taken from each
    bin: from a million random pairs, and where too few of them fall in, below 2000 km, from a search around places. A
    bin without pairs has NaN. Which places count (land, say) is the caller's choice; dense regions count more,
    as there are more pairs.

    Raises SettingError for edges that do not increase from 0 or more, DataError for fewer than 2 places.
    """
    edges = np.asarray(edges_km, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or edges[0] < 0 or not (np.diff(edges) > 0).all():
        raise SettingError(f"edges_km must be at least two numbers that increase from 0 or more, got {list(edges_km)}.")
    if len(points) != len(vectors) or len(points) < 2:
        raise DataError(
            f"A semivariogram needs at least 2 places with a vector each, got {len(points)}, {len(vectors)}."
        )
    variance = float(vectors.var(0, dtype=np.float64).sum())
    rng = np.random.default_rng(seed)
    drawn = _random_pairs(len(points), rng)
    drawn_bin = np.searchsorted(edges, great_circle_km(points[drawn[:, 0]], points[drawn[:, 1]]), side="right") - 1
    mean_km, gamma = np.full((2, len(edges) - 1), np.nan)
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    for i, (low, high) in enumerate(pairwise(edges)):
        chosen = drawn[drawn_bin == i][:pairs]
        if len(chosen) < pairs and high <= NEAR_KM:
            chosen = near_pairs(points, low, high, pairs=pairs, seed=rng)
        counts[i] = len(chosen)
        if not len(chosen):
            continue
        a, b = chosen.T
        mean_km[i] = great_circle_km(points[a], points[b]).mean()
        squared = np.square(vectors[a].astype(np.float64) - vectors[b]).sum(1).mean()
        gamma[i] = squared / 2 / variance if variance else 0.0
    return Semivariogram(mean_km, gamma, counts)


def near_pairs(
    points: Points, low_km: float, high_km: float, *, pairs: int = 5000, seed: int | np.random.Generator = 0
) -> NDArray[np.int64]:
    """At most `pairs` different pairs of places from low_km to below high_km apart: (m, 2) row numbers.

    Places, at least 500, are taken in random order with all their partners until there are enough pairs, of
    which a random choice is kept; where there are no more than `pairs`, all are found.
    """
    rng = np.random.default_rng(seed)
    xyz = unit_sphere(points)
    tree = need("scipy.spatial", "train").cKDTree(xyz)
    radius = chord(high_km) * (1 + 1e-9) + 1e-12
    found = np.empty((0, 2), dtype=np.int64)
    order, start, size = rng.permutation(len(points)), 0, 16
    while start < len(order) and (len(found) < pairs or start < ANCHORS):
        anchors = order[start : start + size]
        partners = tree.query_ball_point(xyz[anchors], radius, return_sorted=False)
        a = np.repeat(anchors, [len(p) for p in partners])
        b = np.concatenate([np.asarray(p, dtype=np.int64) for p in partners])
        km = great_circle_km(points[a], points[b])
        kept = (a != b) & (km >= low_km) & (km < high_km)
        both = np.sort(np.stack([a[kept], b[kept]], 1), axis=1)
        found = np.unique(np.concatenate([found, both]), axis=0)
        start += len(anchors)
        size = max(1, min(4 * size, PARTNERS * len(anchors) // max(1, len(a))))
    return found if len(found) <= pairs else found[rng.choice(len(found), pairs, replace=False)]


def _random_pairs(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A million pairs of two different rows of n, each equally likely, or all pairs where these are fewer."""
    if n * (n - 1) // 2 <= DRAWS:
        return rng.permutation(np.stack(np.triu_indices(n, 1), axis=1))
    a = rng.integers(n, size=DRAWS)
    return np.stack([a, (a + rng.integers(1, n, size=DRAWS)) % n], axis=1)
