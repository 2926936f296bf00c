"""Which few rows are labelled: spread over the area, or all in a few neighbourhoods."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from graticule.geo.cells import fitting_cells
from graticule.geo.coords import Points, unit_sphere

Rows = NDArray[np.int64]
Draw = Callable[[Points, Rows, int, np.random.Generator], Rows]
"""draw(points, rows, shots, rng): `shots` different numbers out of `rows`, sorted; there are at least so many."""

SHOTS = (1, 3, 10, 30, 100, 300, 1000)
REPEATS = 5
CLUSTERS = 3
SPREAD_KM = (5000, 2000, 1000, 500, 250, 100, 50, 25, 10)


def spread(points: Points, rows: Rows, shots: int, rng: np.random.Generator) -> Rows:
    """Spatially stratified: one row from each of `shots` random equal-area cells.

    Cells are the largest of `SPREAD_KM` of which at least `shots` hold rows. Where even the smallest do not
    suffice, every cell gives one row, then every cell a second one, and so on.
    """
    rows = rng.permutation(rows)
    _, cells = fitting_cells(points[rows], SPREAD_KM, shots)
    names, cell = np.unique(cells, return_inverse=True)
    turn = np.empty(len(rows), dtype=np.int64)  # how many rows of the same cell come before
    order = np.argsort(cell, kind="stable")
    first = np.searchsorted(cell[order], np.arange(len(names)))
    turn[order] = np.arange(len(rows)) - first[cell[order]]
    return np.sort(rows[np.lexsort((rng.permutation(len(names))[cell], turn))[:shots]])


def clustered(points: Points, rows: Rows, shots: int, rng: np.random.Generator) -> Rows:
    """A few neighbourhoods: the rows nearest to `CLUSTERS` random ones, an equal share each (one more for the first).

    A row near two centres goes to the earlier one.
    """
    xyz, free = unit_sphere(points[rows]), np.ones(len(rows), dtype=bool)
    clusters = min(CLUSTERS, shots)
    centres = rng.choice(len(rows), clusters, replace=False)
    for k, centre in enumerate(centres):
        share = shots // clusters + (k < shots % clusters)
        distance = np.where(free, np.square(xyz - xyz[centre]).sum(1), np.inf)
        free[np.argsort(distance, kind="stable")[:share]] = False
    return np.sort(rows[~free])


DRAWS: dict[str, Draw] = {"few-shot": spread, "few-shot clustered": clustered}
