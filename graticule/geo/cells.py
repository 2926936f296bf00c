"""Cells of the Earth: exactly equal-area cells for blocks and balanced draws, slippy tiles for maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from graticule.errors import SettingError
from graticule.geo.coords import EARTH_RADIUS_KM, Points, lonlat

MERCATOR_LAT = 85.05112877980659  # latitude where the square of Web Mercator ends


@lru_cache(maxsize=32)
def _bands(size_km: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Edges of the latitude bands as sines (south to north), and how many cells each band has."""
    if not size_km > 0:
        raise SettingError(f"A cell needs a positive size in km, got {size_km:g}.")
    n_bands = max(2, round(np.pi * EARTH_RADIUS_KM / size_km))
    edges = np.linspace(-np.pi / 2, np.pi / 2, n_bands + 1)
    area = 2 * np.pi * EARTH_RADIUS_KM**2 * np.diff(np.sin(edges))
    counts = np.maximum(1, np.round(area / size_km**2)).astype(np.int64)
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    return 2 * cumulative / cumulative[-1] - 1, counts


def equal_area_cells(points: Points, size_km: float) -> NDArray[np.int64]:
    """(n, 2) lon/lat degrees -> (n,) cell numbers; every cell has exactly the same area, about size_km squared.

    Latitude bands are cut into whole numbers of cells; the band edges are then moved so that all
    cells are equal (an equal-area partition in the manner of Leopardi 2006, without his polar caps).
    """
    edges, counts = _bands(float(size_km))
    sin_lat = np.sin(np.radians(points[:, 1]))
    band = np.clip(np.searchsorted(edges, sin_lat, side="right") - 1, 0, len(counts) - 1)
    column = np.minimum(((points[:, 0] + 180) / 360 * counts[band]).astype(np.int64), counts[band] - 1)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return first[band] + column


def fitting_cells(points: Points, sizes_km: Sequence[float], least: int) -> tuple[float, NDArray[np.int64]]:
    """The first of `sizes_km` of whose `equal_area_cells` `least` or more hold points, else the last; and cells."""
    for size_km in sizes_km:
        cells = equal_area_cells(points, size_km)
        if len(np.unique(cells)) >= least:
            break
    return size_km, cells


def cell_centres(size_km: float) -> Points:
    """Centres of all cells of `equal_area_cells`, in order of their numbers: (cells, 2) lon/lat degrees."""
    edges, counts = _bands(float(size_km))
    middle = np.degrees(np.arcsin((edges[:-1] + edges[1:]) / 2))
    lat = np.repeat(middle, counts)
    lon = np.concatenate([(np.arange(c) + 0.5) / c * 360 - 180 for c in counts])
    return lonlat(lon=lon, lat=lat)


def slippy_tiles(points: Points, zoom: int) -> NDArray[np.int64]:
    """(n, 2) lon/lat degrees -> (n, 2) tile column x and row y at `zoom`; latitudes beyond 85.05 go to the edge row."""
    n = 2**zoom
    lat = np.radians(np.clip(points[:, 1], -MERCATOR_LAT, MERCATOR_LAT))
    x = (points[:, 0] + 180) / 360 * n
    y = (1 - np.arcsinh(np.tan(lat)) / np.pi) / 2 * n
    return np.clip(np.stack([x, y], axis=-1).astype(np.int64), 0, n - 1)


def tile_bounds(tiles: NDArray[np.int64], zoom: int) -> NDArray[np.float64]:
    """(n, 2) tile x, y -> (n, 4) west, south, east, north in degrees."""
    n = 2**zoom
    x, y = tiles[:, 0], tiles[:, 1]

    def latitude(row: NDArray[np.int64]) -> NDArray[np.float64]:
        degrees: NDArray[np.float64] = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * row / n))))
        return degrees

    return np.stack([x / n * 360 - 180, latitude(y + 1), (x + 1) / n * 360 - 180, latitude(y)], axis=-1)
