"""The part of a shape inside an outline, of the shape's own dimension: polygons of polygons, lines of lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graticule.errors import need
from graticule.geo.antimeridian import moved


def own_dimension(shapes: NDArray[np.object_], dimension: NDArray[np.int64]) -> NDArray[np.object_]:
    """(n,) shapes -> only their parts of (n,) `dimension`: 0 points, 1 lines, 2 polygons; None where there are none."""
    shapely = need("shapely", "osm")
    out: NDArray[np.object_] = np.array(shapes, dtype=object)
    out[shapely.get_dimensions(shapes) != dimension] = None
    for i in np.flatnonzero(shapely.get_type_id(shapes) == 7):  # collections
        parts = shapely.get_parts(shapes[i])
        while (shapely.get_type_id(parts) == 7).any():
            parts = shapely.get_parts(parts)
        parts = shapely.get_parts(parts[shapely.get_dimensions(parts) == dimension[i]])
        join = (shapely.multipoints, shapely.multilinestrings, shapely.multipolygons)[max(dimension[i], 0)]
        out[i] = None if len(parts) == 0 else parts[0] if len(parts) == 1 else join(parts)
    out[shapely.is_empty(out)] = None
    return out


def homogeneous(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """(n,) shapes -> collections reduced to their parts of the highest dimension; None for empty ones."""
    shapely = need("shapely", "osm")
    odd = np.flatnonzero((shapely.get_type_id(shapes) == 7) | shapely.is_empty(shapes))
    if len(odd):
        shapes = shapes.copy()
        shapes[odd] = own_dimension(shapes[odd], shapely.get_dimensions(shapes[odd]))
    return shapes


def turns(shapes: NDArray[np.object_], outlines: NDArray[np.object_]) -> list[tuple[int, NDArray[np.int64]]]:
    """Degrees (-360, 0, 360) to move shapes by so that they can meet their outlines, and the rows that each serves."""
    shapely = need("shapely", "osm")
    a, b = shapely.bounds(shapes), shapely.bounds(outlines)
    level = (a[:, 1] <= b[:, 3]) & (b[:, 1] <= a[:, 3])
    rows = [
        (lon_deg, np.flatnonzero(level & (a[:, 0] + lon_deg <= b[:, 2]) & (b[:, 0] <= a[:, 2] + lon_deg)))
        for lon_deg in (0, -360, 360)
    ]
    return [(lon_deg, found) for lon_deg, found in rows if len(found)]


def clip(shapes: NDArray[np.object_], outlines: NDArray[np.object_]) -> NDArray[np.object_]:
    """(n,) shapes and (n,) polygons -> (n,) parts inside, moved to the longitudes of the outlines.

    A polygon gives its polygonal part, a line its lines; None where they do not meet, or only in less (a polygon that
    touches the edge from outside). Lines come out cut where they cross themselves, stretches that they go twice once.
    """
    shapely = need("shapely", "osm")
    dimension = shapely.get_dimensions(shapes)
    out = np.full(len(shapes), None, dtype=object)
    for lon_deg, rows in turns(shapes, outlines):
        cut = own_dimension(_intersection(moved(shapes[rows], lon_deg), outlines[rows]), dimension[rows])
        again = ~(shapely.is_missing(out[rows]) | shapely.is_missing(cut))
        cut[again] = shapely.union(out[rows][again], cut[again])
        out[rows] = np.where(shapely.is_missing(cut), out[rows], cut)
    return out


def _intersection(shapes: NDArray[np.object_], outlines: NDArray[np.object_]) -> NDArray[np.object_]:
    """`shapely.intersection`, without work for outlines that lie inside a polygon altogether."""
    shapely = need("shapely", "osm")
    a, b = shapely.bounds(shapes), shapely.bounds(outlines)
    may = (shapely.get_dimensions(shapes) == 2) & (a[:, :2] < b[:, :2]).all(axis=1) & (b[:, 2:] < a[:, 2:]).all(axis=1)
    inside = np.flatnonzero(may)
    shapely.prepare(shapes[inside])
    inside = inside[shapely.contains_properly(shapes[inside], outlines[inside])]
    out: NDArray[np.object_] = outlines.copy()
    rest = np.setdiff1d(np.arange(len(shapes)), inside)
    out[rest] = shapely.intersection(shapes[rest], outlines[rest])
    return out
