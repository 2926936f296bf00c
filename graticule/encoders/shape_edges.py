"""Shapes as edges in metric frames: mass, centroid and second moments of many geometries at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need
from graticule.geo.coords import local_km

Array = NDArray[np.float64]
Index = NDArray[np.int64]

TINY_KM = 1e-9  # shapes below a micrometre are points
FLAT = 1e-6  # polygons of less compactness (100 m by 0.03 mm) are taken as the lines of their boundary


@dataclass(frozen=True)
class Edges:
    """All coordinates of t shapes in order, each the start of an edge; `mass` of a shape sums to 1.

    A point is an edge without length; the last coordinate of a line or ring is an edge without length and mass.
    Polygons have their shells counter-clockwise and their holes clockwise after multiplying by `sign`.
    """

    xy: Array  # (c, 2) km from the shape's centroid
    step: Array  # (c, 2) km to the end of the edge
    entity: Index  # (c,) the shape that each belongs to, ascending
    first: Index  # (t,) the first coordinate of each shape
    sign: Array  # (c,) 1 or -1: what makes the ring of a polygon run round its area
    mass: Array  # (c,) part of the length or of the number of points; unused where `solid`
    solid: NDArray[np.bool_]  # (t,) polygons that are not flat
    dimension: Index  # (t,) 0 points, 1 lines, 2 polygons
    parts: Index  # (t,)
    holes: Index  # (t,)
    area: Array  # (t,) km^2
    length: Array  # (t,) km along lines or around polygons, their holes too
    hull: Array  # (t,) km around the convex hulls of the parts
    centroid: Array  # (t, 2) km east and north of the region's centre
    moments: Array  # (t, 3) km^2: second moments xx, yy, xy about the centroid


def edges(geometries: NDArray[np.object_], centre: Array) -> Edges:
    """(t,) shapely geometries in degrees and (t, 2) centres of their regions -> their edges; t > 0.

    Of a collection only the parts of the highest dimension count. Moments are those of a polygon's area, a line's
    length, a number of points. DataError for a shape that is missing, empty or not finite.
    """
    shapely = need("shapely", "osm")
    parts, owner = _parts(geometries)
    of_part = shapely.get_dimensions(parts)
    dimension = of_part[np.flatnonzero(np.diff(owner, prepend=-1))]
    rings = 1 + shapely.get_num_interior_rings(parts)
    part = np.repeat(np.arange(len(parts)), rings)
    pieces, closed = parts[part], of_part[part] == 2
    holed = rings > 1
    pieces[holed[part]] = shapely.get_rings(parts[holed])

    lonlat, piece = shapely.get_coordinates(pieces, return_index=True)
    entity = owner[part[piece]]
    if not np.isfinite(lonlat).all():
        row = entity[np.argmin(np.isfinite(lonlat).all(axis=1))]
        raise DataError(f"Expected finite coordinates, got NaN or infinity in the geometry of row {row}.")
    xy = local_km(lonlat, centre[entity])
    last = np.diff(piece, append=-1) != 0
    starts, ends = np.flatnonzero(np.diff(piece, prepend=-1)), np.flatnonzero(last)
    xy[ends[closed]] = xy[starts[closed]]  # to the last digit, or it is no ring

    first = np.flatnonzero(np.diff(entity, prepend=-1))
    step = np.diff(xy, axis=0, append=xy[-1:])
    step[last] = 0
    real = ~last | (of_part[part] == 0)[piece]
    count = _sum(real, entity)
    middle = _sum((xy + step / 2) * real[:, None], entity) / count[:, None]
    xy = xy - middle[entity]
    twice = _cross(xy, step)
    ring = np.where(np.diff(part, prepend=-1) == 0, -1.0, 1.0) * np.sign(_sum(twice, piece))
    sign = ring[piece]

    edge_length = np.hypot(*step.T)
    length = _sum(edge_length, entity)
    hull = _sum(_hulls(parts, part[piece], xy, step, edge_length), owner)
    area = np.where(dimension == 2, np.maximum(_sum(twice * sign, entity) / 2, 0), 0)
    solid = (length > 10 * TINY_KM) & (4 * np.pi * area > FLAT * length**2)
    line = ~solid & (length > 10 * TINY_KM)
    mass = np.where(line[entity], edge_length / np.where(line, length, 1)[entity], real / count[entity])
    offset, moments = _moments(xy, step, np.where(solid[entity], twice * sign / 2, mass), entity, solid, area)
    return Edges(
        xy=xy - offset[entity],
        step=step,
        entity=entity,
        first=first,
        sign=sign,
        mass=mass,
        solid=solid,
        dimension=dimension,
        parts=np.bincount(owner, minlength=len(geometries)),
        holes=np.bincount(owner, rings - 1, len(geometries)).astype(np.int64),
        area=area,
        length=length,
        hull=hull,
        centroid=middle + offset,
        moments=moments,
    )


def _parts(geometries: NDArray[np.object_]) -> tuple[NDArray[np.object_], Index]:
    """Points, lines and polygons of the highest dimension of each geometry, and the geometry of each."""
    shapely = need("shapely", "osm")
    number = shapely.get_num_geometries(geometries)
    parts, owner = np.repeat(geometries, number), np.repeat(np.arange(len(geometries)), number)
    several = shapely.get_type_id(geometries) > 3
    parts[several[owner]] = shapely.get_parts(geometries[several])
    while (shapely.get_type_id(parts) > 3).any():
        parts, inner = shapely.get_parts(parts, return_index=True)
        owner = owner[inner]
    full = ~shapely.is_empty(parts)
    parts, owner = parts[full], owner[full]
    if len(missing := np.setdiff1d(np.arange(len(geometries)), owner)):
        raise DataError(f"Expected a geometry a row, got none or an empty one in row {missing[0]}: drop such entities.")
    dimensions = shapely.get_dimensions(parts)
    highest = np.zeros(len(geometries), dtype=np.int64)
    np.maximum.at(highest, owner, dimensions)
    keep = dimensions == highest[owner]
    return parts[keep], owner[keep]


def _hulls(parts: NDArray[np.object_], part: Index, xy: Array, step: Array, edge_length: Array) -> Array:
    """(p,) lengths around the convex hulls of parts, there and back for straight lines; `part` (c,) of coordinates.

    Known without a hull of lines with up to three corners, and of polygons with up to four that all turn one way.
    """
    shapely = need("shapely", "osm")
    dimension, corners = shapely.get_dimensions(parts), np.bincount(part)
    end = np.cumsum(corners) - 1
    start = end + 1 - corners
    after = np.roll(step, -1, axis=0)
    after[end - 1] = step[start]
    turn, around = _cross(step, after), _sum(edge_length, part)
    short = (dimension == 1) & (corners <= 3)
    same_way = np.maximum(_sum(turn > 0, part), _sum(turn < 0, part)) == corners - 1
    convex = (dimension == 2) & (corners <= 5) & same_way
    length = np.where(short, around + np.hypot(*(xy[end] - xy[start]).T), np.where(convex, around, 0))
    rest = (dimension > 0) & ~short & ~convex
    hull = shapely.convex_hull(shapely.set_coordinates(parts[rest], xy[rest[part]]))
    length[rest] = shapely.length(hull) * np.where(shapely.get_dimensions(hull) == 1, 2, 1)
    return length


def _moments(
    xy: Array, step: Array, weight: Array, entity: Index, solid: NDArray[np.bool_], area: Array
) -> tuple[Array, Array]:
    """First moments (t, 2) and central second moments (t, 3) of segments, or of the triangles of edges and origin.

    Along a segment the mean of x is (a + b) / 2, that of x x' is (a a' + b b' + (a + b)(a + b)') / 6; a triangle
    with one corner in the origin has 3 and 12 instead.
    """
    a, b = xy, xy + step
    c = a + b
    weight = weight / np.where(solid, area, 1)[entity]
    centroid = _sum(c * weight[:, None], entity) / np.where(solid, 3, 2)[:, None]
    squares = [a[:, i] * a[:, j] + b[:, i] * b[:, j] + c[:, i] * c[:, j] for i, j in ((0, 0), (1, 1), (0, 1))]
    moments = _sum(np.stack(squares, axis=-1) * weight[:, None], entity) / np.where(solid, 12, 6)[:, None]
    moments -= np.stack([centroid[:, 0] ** 2, centroid[:, 1] ** 2, centroid[:, 0] * centroid[:, 1]], axis=-1)
    return centroid, np.where((moments[:, :2].sum(axis=1) > TINY_KM**2)[:, None], moments, 0)


def _cross(a: Array, b: Array) -> Array:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _sum(values: Any, index: Index) -> Array:
    """Sums of rows of equal index; every index up to the highest occurs."""
    if values.ndim == 1:
        return np.bincount(index, values).astype(np.float64, copy=False)
    return np.stack([np.bincount(index, column) for column in values.T], axis=-1)
