"""Places along a Hilbert curve: near keys are near places, so a run of them fits in a small box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graticule.geo.coords import Points

LEVELS = 24  # halvings of each axis: cells of at most 2.4 m
KEYS = 1 << (2 * LEVELS)  # keys lie in [0, KEYS)


def hilbert_keys(points: Points) -> NDArray[np.int64]:
    """(n, 2) lon/lat degrees -> (n,) places along the curve over longitude and latitude as a plane.

    The square of 360 by 180 degrees is halved `LEVELS` times a side; the curve (Hilbert 1891) starts at the South Pole
    at 180 W and ends there at 180 E, every step is to a cell that shares a side.
    """
    side = 1 << LEVELS
    x, y = (
        np.clip((points[:, axis] + half) * (side / (2 * half)), 0, side - 1).astype(np.uint32)
        for axis, half in ((0, 180.0), (1, 90.0))
    )
    keys = np.zeros(len(points), dtype=np.int64)
    for level in range(LEVELS - 1, -1, -1):
        right, up = (x >> np.uint32(level)) & np.uint32(1), (y >> np.uint32(level)) & np.uint32(1)
        keys <<= 2
        keys |= (right * np.uint32(3)) ^ up
        turned = np.uint32(0) - (right & ~up)  # all ones in the quarter at the right below: it is turned round
        x ^= turned
        y ^= turned
        swapped = (x ^ y) & (up - np.uint32(1))  # in both quarters below the axes change places
        x ^= swapped
        y ^= swapped
    return keys
