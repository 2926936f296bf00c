"""Areas and lengths on the sphere of shapely geometries in lon/lat degrees, whose edges are straight in lon and lat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import need
from graticule.geo.coords import EARTH_RADIUS_KM, Points, lonlat

GAUSS = ((0.5 - 0.15**0.5, 5 / 18), (0.5, 8 / 18), (0.5 + 0.15**0.5, 5 / 18))  # Gauss-Legendre nodes and weights


def area_km2(geometries: NDArray[np.object_]) -> NDArray[np.float64]:
    """(n,) polygons and multipolygons -> (n,) km^2; 0 for anything else.

    Green's theorem: the area is the integral of sin(lat) d lon round a ring. Along a straight edge it is closed:
    d lon times sin(mean lat) times sin(h) / h, where h is half the difference of the latitudes. So areas add up
    exactly when a polygon is cut.
    """
    shapely = need("shapely", "osm")
    parts, owner = shapely.get_parts(geometries, return_index=True)
    rings, part = shapely.get_rings(parts, return_index=True)
    d_lon, start_lat, d_lat, ring = _edges(rings)
    mean_sine = np.sin(start_lat + d_lat / 2) * np.sinc(d_lat / 2 / np.pi)
    areas = np.abs(np.bincount(ring, d_lon * mean_sine, len(rings)))
    shell = np.diff(part, prepend=-1) != 0
    total = np.bincount(owner[part], np.where(shell, areas, -areas), len(geometries))
    return np.float64(EARTH_RADIUS_KM**2) * total


def length_km(geometries: NDArray[np.object_]) -> NDArray[np.float64]:
    """(n,) lines and multilines -> (n,) km along their straight edges; 0 for points and polygons.

    The integral of sqrt(d lat^2 + cos(lat)^2 d lon^2) along each edge by three Gauss-Legendre nodes.
    """
    shapely = need("shapely", "osm")
    parts, owner = shapely.get_parts(geometries, return_index=True)
    d_lon, start_lat, d_lat, part = _edges(parts)
    speed = sum(w * np.hypot(d_lat, np.cos(start_lat + t * d_lat) * d_lon) for t, w in GAUSS)
    line = shapely.get_dimensions(parts) == 1
    lengths = np.where(line, np.bincount(part, speed, len(parts)), 0)
    total = np.bincount(owner, lengths, len(geometries))
    return np.float64(EARTH_RADIUS_KM) * total


def measure(geometries: NDArray[np.object_]) -> NDArray[np.float64]:
    """(n,) geometries -> km^2 of polygons, km of lines, number of points; 0 for empty ones."""
    shapely = need("shapely", "osm")
    dimension = shapely.get_dimensions(geometries)
    values = np.where(dimension == 0, shapely.get_num_geometries(geometries), 0).astype(np.float64)
    for number, of in ((1, length_km), (2, area_km2)):
        rows = np.flatnonzero(dimension == number)
        values[rows] = of(geometries[rows])
    return np.where(shapely.is_empty(geometries) | shapely.is_missing(geometries), 0, values)


def middles(geometries: NDArray[np.object_]) -> Points:
    """(n,) geometries, none empty -> (n, 2) lon/lat degrees of the middles of their boxes; wrapped beyond 180."""
    west, south, east, north = need("shapely", "osm").bounds(geometries).reshape(-1, 4).T
    return lonlat(lon=(west + east) / 2, lat=(south + north) / 2, where="geometry")


def _edges(pieces: Any) -> tuple[NDArray[np.float64], ...]:
    """For every edge, in radians: d lon, latitude of its start, d lat; and the piece that it belongs to."""
    shapely = need("shapely", "osm")
    xy, piece = shapely.get_coordinates(pieces, return_index=True)
    within = np.flatnonzero(piece[1:] == piece[:-1])
    d_lon, d_lat = np.radians(xy[within + 1] - xy[within]).T  # near numbers subtract exactly
    return d_lon, np.radians(xy[within, 1]), d_lat, piece[within]
