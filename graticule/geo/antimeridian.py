"""Shapes across the antimeridian: longitudes that run on past 180 instead of jumping to -180."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import need


def moved(geometries: NDArray[np.object_], lon_deg: Any) -> NDArray[np.object_]:
    """(n,) geometries with (n,) or one number of degrees added to their longitudes."""
    shapely = need("shapely", "osm")
    turns = np.broadcast_to(np.asarray(lon_deg, dtype=np.float64), (len(geometries),))
    out = np.array(geometries, dtype=object)
    rows = np.flatnonzero(turns)
    if len(rows):
        xy, index = shapely.get_coordinates(out[rows], return_index=True)
        xy[:, 0] += turns[rows][index]
        out[rows] = shapely.set_coordinates(out[rows].copy(), xy)
    return out


def unwrapped(geometries: NDArray[np.object_], *, short_way: bool = True) -> NDArray[np.object_]:
    """(n,) shapes in lon/lat degrees -> the same places with west bounds in [-180, 180), running on past 180.

    A shape cut in parts on both sides of the antimeridian becomes one on the eastern side when that is
    narrower. With `short_way` an edge over more than 180 (and less than 360) degrees of longitude goes the short way
    round, and a ring that then goes round a pole is closed over it; else edges are as written (RFC 7946).
    """
    shapely = need("shapely", "osm")
    bounds = shapely.bounds(geometries)
    wide = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180)
    if len(wide):
        geometries = geometries.copy()
        geometries[wide] = [_joined(shape, short_way) for shape in geometries[wide]]
        bounds[wide] = shapely.bounds(geometries[wide])
    west = np.where(np.isnan(bounds[:, 0]), 0, bounds[:, 0])
    turns = -360 * np.floor((west + 180) / 360)
    return moved(geometries, turns) if turns.any() else geometries


def _joined(shape: Any, short_way: bool) -> Any:
    shapely = need("shapely", "osm")
    parts = shapely.get_parts(shape)
    if short_way:
        parts = np.array([_short_way(part) for part in parts], dtype=object)
    bounds = shapely.bounds(parts)
    if len(parts) > 1:
        east = moved(parts, np.where(bounds[:, 0] + bounds[:, 2] < 0, 360.0, 0.0))
        if np.ptp(shapely.bounds(east)[:, [0, 2]]) < np.ptp(bounds[:, [0, 2]]):
            parts = east
    if len(parts) == 1:
        return parts[0]
    if shapely.get_dimensions(shape) == 2:
        return shapely.union_all(parts)
    return shapely.geometrycollections(parts) if shape.geom_type == "GeometryCollection" else _multi(parts)


def _multi(parts: NDArray[np.object_]) -> Any:
    shapely = need("shapely", "osm")
    return (shapely.multipoints, shapely.multilinestrings)[shapely.get_dimensions(parts[0])](parts)


def _short_way(part: Any) -> Any:
    shapely = need("shapely", "osm")
    if part.geom_type == "LineString":
        return shapely.linestrings(_run_on(shapely.get_coordinates(part)))
    if part.geom_type != "Polygon":
        return part
    shell, *holes = (_closed(_run_on(shapely.get_coordinates(ring))) for ring in shapely.get_rings(part))
    west = shell[:, 0].min()
    for hole in holes:
        hole[:, 0] -= 360 * np.floor((hole[:, 0].min() - west) / 360)
    return shapely.polygons(shell, holes or None)


def _run_on(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    step = np.diff(xy[:, 0])
    turn = np.where((np.abs(step) > 180) & (np.abs(step) < 360), -360 * np.sign(step), 0)
    on: NDArray[np.float64] = xy + np.stack([np.concatenate([[0], np.cumsum(turn)]), np.zeros(len(xy))], axis=-1)
    return on


def _closed(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ring; when it ends 360 degrees from its start, closed over the nearer pole."""
    if abs(ring[-1, 0] - ring[0, 0]) < 180:
        return ring
    pole = np.copysign(90, ring[:, 1].mean())
    closed: NDArray[np.float64] = np.concatenate([ring, [[ring[-1, 0], pole], [ring[0, 0], pole]], ring[:1]])
    return closed
