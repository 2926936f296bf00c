"""Draws of rows that do not follow how densely they lie: by weight, or evenly over equal-area cells.

Draw number k is a function of seed, name and k alone, as in `data.loader`, but there are no epochs: a row may come
again in the next draw. No row is twice in one draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graticule.data.loader import EpochSampler, demand_rows, draws
from graticule.errors import SettingError, unknown
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import Points

SAMPLERS = ("rows", "area", "density", "stratified")


def sampler(
    kind: str, name: str, places: Points, size: int, seed: int, *, cell_km: float, debias: float
) -> EpochSampler | DensitySampler | StratifiedSampler:
    """The sampler of a modality's rows at (n, 2) lon/lat degrees by its name in the settings.

    rows         every row once an epoch (`EpochSampler`)
    density      a row with probability in proportion to density^-debias, density the rows in its cell of cell_km
    area         the same with debias 1: every cell that holds rows is drawn alike
    stratified   rows from as many different cells as there are, and from all of these alike
    """
    if kind not in SAMPLERS:
        raise unknown("sampler", kind, SAMPLERS)
    if kind == "rows":
        return EpochSampler(name, len(places), size, seed)
    if not cell_km >= 1:
        raise SettingError(f"cell_km, the side of a cell, must be at least 1 km, got {cell_km:g}.")
    cells = np.unique(equal_area_cells(places, cell_km), return_inverse=True)[1]
    if kind == "stratified":
        return StratifiedSampler(name, cells, size, seed)
    return DensitySampler(name, cells, size, seed, 1.0 if kind == "area" else debias)


@dataclass
class DensitySampler:
    """`size` different rows, one after another with probabilities in proportion to (rows in its cell)^-debias.

    `cells` are the cell numbers 0, 1, ... of all rows. As a row cannot come twice, those whose share of the weights is
    above 1 / size are drawn less often than it says; a modality smaller than `size` is drawn whole.
    """

    name: str
    cells: NDArray[np.int64]
    size: int
    seed: int
    debias: float

    def __post_init__(self) -> None:
        self.size = demand_rows(self.name, len(self.cells), self.size)
        if not 0 <= self.debias <= 2:
            raise SettingError(f"debias must be a power from 0 to 2, got {self.debias:g}.")
        weights = np.bincount(self.cells)[self.cells] ** -float(self.debias)
        self.shares = weights / weights.sum()

    def draw(self, number: int) -> NDArray[np.int64]:
        """(size,) row numbers of the draw with this number."""
        rng = draws(self.name, self.seed, number)
        return rng.choice(len(self.shares), self.size, replace=False, p=self.shares)


@dataclass
class StratifiedSampler:
    """`size` different rows, spread over cells as evenly as these hold rows: one of each, then a second, and so on.

    `cells` are the cell numbers 0, 1, ... of all rows. Which rows of a cell, and which cells where not all have their
    turn, is random. A modality smaller than `size` is drawn whole.
    """

    name: str
    cells: NDArray[np.int64]
    size: int
    seed: int

    def __post_init__(self) -> None:
        self.size = demand_rows(self.name, len(self.cells), self.size)
        self.ends = np.cumsum(np.bincount(self.cells))

    def draw(self, number: int) -> NDArray[np.int64]:
        """(size,) row numbers of the draw with this number."""
        order = draws(self.name, self.seed, number).permutation(len(self.cells))
        by_cell = order[np.argsort(self.cells[order], kind="stable")]
        turn = np.empty_like(order)  # 0 for the first row of a cell, 1 for its second
        turn[by_cell] = np.arange(len(order)) - np.concatenate([[0], self.ends])[self.cells[by_cell]]
        return order[np.argsort(turn[order], kind="stable")[: self.size]]
