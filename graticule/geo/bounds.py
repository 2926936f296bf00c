"""The box around many places, the short way round the Earth, from one pass over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.errors import DataError

BINS = 3600  # of longitude, a tenth of a degree each


class Bounds:
    """West, south, east and north of boxes or points in degrees that are added bit by bit.

    The box leaves out the widest empty stretch of longitudes, to a tenth of a degree, so places around the antimeridian
    get west > east, as in GeoJSON; where several are as wide, the one over the antimeridian.
    """

    def __init__(self) -> None:
        self.south, self.north = np.inf, -np.inf
        self.covered = np.zeros(BINS + 1)  # how many boxes begin less how many ended before, a bin
        self.first, self.last = np.full(BINS, np.inf), np.full(BINS, -np.inf)  # least west and greatest east, a bin

    def add(self, west: ArrayLike, south: ArrayLike, east: ArrayLike, north: ArrayLike) -> None:
        """(n,) sides of n boxes, west = east of points; west > east or east > 180 over the antimeridian."""
        sides = [np.asarray(side, dtype=np.float64) for side in (west, south, east, north)]
        if not len(sides[0]):
            return
        self.south, self.north = min(self.south, sides[1].min()), max(self.north, sides[3].max())
        west, east = (np.where(lon > 180, lon - 360, lon) for lon in sides[::2])
        begin, end = _bin(west), _bin(east)
        np.minimum.at(self.first, begin, west)
        np.maximum.at(self.last, end, east)
        np.add.at(self.covered, begin, 1)
        np.add.at(self.covered, end + 1, -1)
        self.covered[0] += (begin > end).sum()
        self.covered[-1] -= (begin > end).sum()

    def box(self) -> tuple[float, float, float, float]:
        """West, south, east, north of everything added; DataError when nothing was."""
        if not np.isfinite(self.south):
            raise DataError("No places were given: there is no box around them.")
        begin, length = _widest_gap(np.cumsum(self.covered[:-1]) == 0)
        if not length:
            return -180.0, float(self.south), 180.0, float(self.north)
        west, east = self.first[(begin + length) % BINS], self.last[(begin - 1) % BINS]
        return float(west), float(self.south), float(east), float(self.north)


def _bin(lon: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((lon + 180) * (BINS / 360), BINS - 1).astype(np.int64)


def _widest_gap(empty: NDArray[np.bool_]) -> tuple[int, int]:
    """(n,) bins around a circle, not all empty -> the first bin and the length of the longest run of empty ones."""
    if not empty.any():
        return 0, 0
    start = int(np.flatnonzero(~empty)[-1]) + 1  # of the run over the end, which comes first: it wins when equal
    turned = np.roll(empty, -start)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], turned.astype(np.int8), [0]])))
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    return (start + int(begins[longest])) % len(empty), int(ends[longest] - begins[longest])
