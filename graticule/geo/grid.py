"""Places that form a grid: rows of one latitude each, with the same longitudes in every row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graticule.geo.coords import Points

Degrees = NDArray[np.float64]


class Axes(NamedTuple):
    """Longitudes of the columns and latitudes of the rows, degrees."""

    lon: Degrees
    lat: Degrees


def grid_axes(points: Points) -> Axes | None:
    """The axes of (n, 2) places that are exactly a grid, row after row as in a raster; None for any others.

    The first row ends where the latitude first changes; all other rows are compared with it exactly. Scattered places
    are told apart by their first two.
    """
    lat = points[:, 1]
    if len(points) < 2 or lat[1] != lat[0]:
        return None
    width = int((lat != lat[0]).argmax()) or len(points)
    if len(points) % width:
        return None
    rows = points.reshape(-1, width, 2)
    if not ((rows[..., 1] == rows[:, :1, 1]).all() and (rows[..., 0] == rows[0, :, 0]).all()):
        return None
    return Axes(rows[0, :, 0].copy(), rows[:, 0, 1].copy())


def grid_points(axes: Axes) -> Points:
    """(rows * columns, 2) places of a grid, row after row."""
    lon, lat = np.meshgrid(*axes)
    return np.stack([lon.ravel(), lat.ravel()], axis=-1)
