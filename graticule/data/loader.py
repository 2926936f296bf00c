"""Which rows make the next batch: shuffled epochs per modality, a pure function of seed and draw number."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from graticule.errors import DataError, SettingError
from graticule.geo.coords import chord, unit_sphere
from graticule.geo.placed import Batch, Placed


@dataclass
class EpochSampler:
    """Draw number k of a modality of `rows` rows: every row once an epoch, shuffled anew each epoch.

    Stateless but for a cache, so that a resumed run draws what the uninterrupted one would have drawn.
    The last rows % size rows of a shuffle wait for the next epoch; a modality smaller than `size` is
    drawn whole.
    """

    name: str
    rows: int
    size: int
    seed: int

    def __post_init__(self) -> None:
        self.size = demand_rows(self.name, self.rows, self.size)
        self.draws_per_epoch = self.rows // self.size
        self._shuffle: tuple[int, NDArray[np.int64]] | None = None

    def draw(self, number: int) -> NDArray[np.int64]:
        """(size,) row numbers of the draw with this number."""
        epoch, place = divmod(number, self.draws_per_epoch)
        if self._shuffle is None or self._shuffle[0] != epoch:
            rng = draws(self.name, self.seed, epoch)
            self._shuffle = (epoch, rng.permutation(self.rows))
        return self._shuffle[1][place * self.size : (place + 1) * self.size]


@dataclass
class TokenSampler:
    """Draw number k of a ragged modality: every row once an epoch, in batches of about `budget` tokens.

    `lengths` are the tokens of each row. The shuffle of an epoch is cut where its sum of tokens passes whole
    shares of the total, so that all epochs have equally many draws and a draw holds at most `budget` tokens and
    one row more. Stateless but for a cache, as `EpochSampler` is.
    """

    name: str
    lengths: NDArray[np.int64]
    budget: int
    seed: int

    def __post_init__(self) -> None:
        if len(self.lengths) == 0:
            raise DataError(f"Modality {self.name!r} has 0 rows: nothing can be drawn from it.")
        if self.budget < 1:
            raise SettingError(f"A batch needs at least one token, got batch_tokens={self.budget}.")
        fewest = max(self.budget, 2 * int(self.lengths.max()))  # so that every draw gets a row
        self.draws_per_epoch = max(1, -(-int(self.lengths.sum()) // fewest))
        self._shuffle: tuple[int, list[NDArray[np.int64]]] | None = None

    def draw(self, number: int) -> NDArray[np.int64]:
        """Row numbers of the draw with this number."""
        epoch, place = divmod(number, self.draws_per_epoch)
        if self._shuffle is None or self._shuffle[0] != epoch:
            rng = draws(self.name, self.seed, epoch)
            order = rng.permutation(len(self.lengths))
            ends = np.cumsum(self.lengths[order])
            middles = (ends - self.lengths[order] / 2) / max(1, ends[-1])
            cuts = np.searchsorted(middles, np.arange(1, self.draws_per_epoch) / self.draws_per_epoch)
            self._shuffle = (epoch, np.split(order, cuts))
        return self._shuffle[1][place]


def draws(name: str, seed: int, number: int) -> np.random.Generator:
    """The random numbers of an epoch or a draw of a modality: a function of name, seed and number alone."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), number])


def demand_rows(name: str, rows: int, size: int) -> int:
    """How many of a modality's rows a draw of `size` holds; none is an error."""
    if rows == 0:
        raise DataError(f"Modality {name!r} has 0 rows: nothing can be drawn from it.")
    if size < 1:
        raise SettingError(f"A batch needs at least one row, got batch_size={size}.")
    return min(size, rows)


def colocate(sources: Batch, *, within_km: float) -> Batch:
    """Only rows that share their place: row i of every modality lies within `within_km` of row i of the first.

    Each row of the first modality takes the nearest row of every other one; rows without a partner in
    all modalities are left out. For the all-to-all objective.
    """
    first, *others = sources.items()
    anchor = unit_sphere(first[1].lonlat)
    keep = np.ones(len(anchor), dtype=bool)
    partners = {first[0]: np.arange(len(anchor))}
    for name, rows in others:
        distance, nearest = cKDTree(unit_sphere(rows.lonlat)).query(
            anchor, distance_upper_bound=chord(within_km) + 1e-12
        )
        keep &= np.isfinite(distance)
        partners[name] = nearest
    if not keep.any():
        raise DataError(f"No place within {within_km:g} km is shared by {', '.join(sources)}.")
    return {name: rows.take(partners[name][keep]) for name, rows in sources.items()}


def without_neighbours(rows: Placed, places: NDArray[np.float64], *, within_km: float) -> NDArray[np.int64]:
    """Numbers of the rows farther than `within_km` from all of `places`, which are held out."""
    if len(places) == 0 or len(rows) == 0:
        return np.arange(len(rows))
    distance, _ = cKDTree(unit_sphere(places)).query(unit_sphere(rows.lonlat))
    return np.flatnonzero(distance > chord(within_km))
