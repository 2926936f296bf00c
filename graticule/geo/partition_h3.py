"""H3 cells as regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import SettingError, need
from graticule.geo.antimeridian import moved, unwrapped
from graticule.geo.clip import turns
from graticule.geo.coords import EARTH_RADIUS_KM, Points, lonlat
from graticule.geo.partition_base import MOST_REGIONS, Keys, Pairs, Partition

LARGEST = 1.3  # times the mean area of cells: more than the largest has


class H3Cells(Partition):
    """Cells of Uber's H3 at one resolution; keys are the numbers of the cells.

    A point lies in the cell that H3 says; lines and polygons are cut along outlines whose edges between H3's corners
    are straight in lon and lat (off H3's own by less than a metre from resolution 8 on). The two cells that hold
    a pole run once round it, closed over latitude 90.
    """

    def __init__(self, resolution: int) -> None:
        if not 0 <= resolution <= 15:
            raise SettingError(f"H3 cells need a resolution of 0 to 15, got {resolution}.")
        self.resolution = resolution
        self.h3: Any = need("h3.api.basic_int", "osm")
        self.about = {"cells": f"h3:{resolution}"}
        self.side_deg = float(np.degrees(self.largest_km2(np.zeros(1))[0] ** 0.5 / EARTH_RADIUS_KM))

    def outlines(self, keys: Keys) -> NDArray[np.object_]:
        """(n,) keys -> (n,) hexagons, some with more corners, and pentagons."""
        shapely = need("shapely", "osm")
        unique, of = np.unique(np.asarray(keys, dtype=np.int64), return_inverse=True)
        corners = [np.array(self.h3.cell_to_boundary(key))[:, ::-1] for key in unique.tolist()]
        if not corners:
            return np.empty(0, object)
        index = np.repeat(np.arange(len(corners)), [len(ring) for ring in corners])
        rings = shapely.linearrings(np.concatenate(corners), indices=index)
        return unwrapped(shapely.polygons(rings))[of]

    def ids(self, keys: Keys) -> list[str]:
        """(n,) keys -> hexadecimal names."""
        return [self.h3.int_to_str(key) for key in np.asarray(keys).tolist()]

    def centre(self, keys: Keys) -> Points:
        """(n,) keys -> (n, 2) lon/lat of H3's centres."""
        places = np.array([self.h3.cell_to_latlng(key) for key in np.asarray(keys).tolist()]).reshape(-1, 2)
        return lonlat(lon=places[:, 1], lat=places[:, 0])

    def size_km(self, keys: Keys) -> NDArray[np.float64]:
        """(n,) keys -> square roots of H3's areas on the sphere."""
        cells = np.asarray(keys).tolist()
        return np.sqrt(np.array([self.h3.cell_area(cell, unit="km^2") for cell in cells], dtype=np.float64))

    def largest_km2(self, lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) latitudes -> more than the largest cell, which has 1.21 times the mean area of hexagons."""
        return np.full(len(lat_deg), LARGEST * self.h3.average_hexagon_area(self.resolution, unit="km^2"))

    def _cells(self, points: Points) -> Keys:
        lon = np.where(points[:, 0] > 180, points[:, 0] - 360, points[:, 0])
        of, resolution = self.h3.latlng_to_cell, self.resolution
        cells = [of(y, x, resolution) for y, x in zip(points[:, 1].tolist(), lon.tolist(), strict=True)]
        return np.array(cells, dtype=np.int64)

    def _pairs(self, shapes: NDArray[np.object_], among: Keys | None) -> tuple[Pairs, NDArray[np.int64]]:
        shapely = need("shapely", "osm")
        xy, index = shapely.get_coordinates(shapes, return_index=True)
        rows, first = np.unique(index, return_index=True)
        keys = self._cells(xy[first])
        point = shapely.get_type_id(shapes[rows]) == 0
        whole = point.copy()
        whole[~point] = self._covered(shapes[rows[~point]], keys[~point])
        rest = np.isin(index, rows[~whole])
        if among is None:
            found, cells, too_wide = self._spread(shapes, index[rest], self._cells(xy[rest]))
        else:
            whole &= np.isin(keys, among)
            found, cells, too_wide = *self._met(shapes, np.unique(index[rest]), np.unique(among)), rows[:0]
        one = rows[whole]
        of = np.concatenate([one, found])
        return Pairs(of, np.concatenate([keys[whole], cells]), shapes[of], np.arange(len(of)) < len(one)), too_wide

    def _covered(self, shapes: NDArray[np.object_], keys: Keys) -> NDArray[np.bool_]:
        """Whether each shape lies in the cell of its first corner."""
        shapely = need("shapely", "osm")
        cells, of = np.unique(keys, return_inverse=True)
        outlines = self.outlines(cells)
        shapely.prepare(outlines)
        covered = np.zeros(len(shapes), bool)
        for lon_deg, rows in turns(shapes, outlines[of]):
            covered[rows] |= shapely.covers(outlines[of[rows]], moved(shapes[rows], lon_deg))
        return covered

    def _spread(
        self, shapes: NDArray[np.object_], rows: NDArray[np.int64], keys: Keys
    ) -> tuple[NDArray[np.int64], Keys, NDArray[np.int64]]:
        """From the cells of a shape's corners on to neighbours, as long as cells meet the shape."""
        shapely = need("shapely", "osm")
        shapely.prepare(shapes[np.unique(rows)])
        seen = np.empty((2, 0), np.int64)
        fresh = _unseen(np.stack([rows, keys]), seen)
        found, counts = [fresh[:, :0]], np.zeros(len(shapes), np.int64)
        while fresh.size:
            meet = self._meet(shapes[fresh[0]], fresh[1])
            found.append(fresh[:, meet])
            counts += np.bincount(fresh[0, meet], minlength=len(shapes))
            grow = fresh[:, (meet | (seen.size == 0)) & (counts[fresh[0]] <= MOST_REGIONS)]
            seen = np.concatenate([seen, fresh], axis=1)
            fresh = _unseen(self._around(grow), seen)
        pairs = np.concatenate(found, axis=1)
        pairs = pairs[:, counts[pairs[0]] <= MOST_REGIONS]
        return pairs[0], pairs[1], np.flatnonzero(counts > MOST_REGIONS)

    def _met(self, shapes: NDArray[np.object_], rows: NDArray[np.int64], keys: Keys) -> tuple[NDArray[np.int64], Keys]:
        """Which of these cells meet which of these rows of shapes."""
        need("shapely", "osm").prepare(shapes[rows])
        of, cells = np.repeat(rows, len(keys)), np.tile(keys, len(rows))
        meet = self._meet(shapes[of], cells)
        return of[meet], cells[meet]

    def _around(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """(2, n) rows and cells -> (2, m) the same rows with the neighbours of their cells."""
        cells, of = np.unique(pairs[1], return_inverse=True)
        around = [self.h3.grid_ring(cell, 1) for cell in cells.tolist()]
        number = np.array([len(ring) for ring in around], dtype=np.int64)
        near = np.array([cell for i in of.tolist() for cell in around[i]], dtype=np.int64)
        return np.stack([np.repeat(pairs[0], number[of]), near])

    def _meet(self, shapes: NDArray[np.object_], keys: Keys) -> NDArray[np.bool_]:
        shapely = need("shapely", "osm")
        outlines, meet = self.outlines(keys), np.zeros(len(keys), bool)
        for lon_deg, rows in turns(shapes, outlines):
            meet[rows] |= shapely.intersects(moved(shapes[rows], lon_deg), outlines[rows])
        return meet


def _unseen(pairs: NDArray[np.int64], seen: NDArray[np.int64]) -> NDArray[np.int64]:
    """(2, n) pairs that are not among (2, m) `seen`, each once, sorted."""
    both = np.concatenate([seen, pairs], axis=1)
    order = np.lexsort([both[1], both[0]])  # stable: seen ones come first among equals
    ranked = both[:, order]
    first = np.concatenate([np.ones(min(1, ranked.shape[1]), bool), (ranked[:, 1:] != ranked[:, :-1]).any(axis=0)])
    return ranked[:, first & (order >= seen.shape[1])]
