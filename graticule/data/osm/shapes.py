"""From osmium's well-known binary to valid shapely geometries, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graticule.data.osm.entities import Entities, Ledger
from graticule.data.osm.extract import Extract
from graticule.errors import need

CHUNK_BYTES = 1 << 24  # of well-known binary; a chunk of long coast lines ends earlier than at its count
RING_POINTS = 4  # three places, and the first again

MISSING_NODES = "nodes missing from the file"


class Shape(NamedTuple):
    """An entity before its geometry is built."""

    identity: str
    tags: dict[str, str]
    wkb: bytes
    area: bool  # a closed line that is to become a Polygon


class Line(NamedTuple):
    """The located nodes of a way."""

    wkb: bytes
    closed: bool
    missing: bool  # nodes without a place were left out
    points: int  # 1: all at one place, the geometry is a Point; otherwise 2 or more


def way_line(extract: Extract, way: Any) -> Line | None:
    """The line of a way; None when fewer than two of its nodes are located."""
    try:
        return Line(bytes.fromhex(extract.line_wkb(way)), way.is_closed(), False, 2)
    except (extract.osmium.InvalidLocationError, RuntimeError):  # missing nodes; fewer than two places
        pass
    nodes = [(node.ref, node.location) for node in way.nodes]
    for ref, _ in nodes:
        if ref < 0:
            raise extract.negative(f"node/{ref}")
    places = [(location.lon, location.lat) for _, location in nodes if location.valid()]
    if len(places) < 2:
        return None
    shapely = need("shapely", "osm")
    apart = [place for i, place in enumerate(places) if i == 0 or place != places[i - 1]]
    geometry = shapely.linestrings(apart) if len(apart) > 1 else shapely.points(apart[0])
    closed = len(apart) > 1 and apart[0] == apart[-1]
    return Line(shapely.to_wkb(geometry), closed, len(places) < len(nodes), len(apart))


def chunks(shapes: Iterator[Shape], ledger: Ledger, chunk: int) -> Iterator[Entities]:
    """Entities of at most `chunk` shapes each, their geometries valid."""
    held: list[Shape] = []
    size = 0
    for shape in shapes:
        held.append(shape)
        size += len(shape.wkb)
        if len(held) >= chunk or size >= CHUNK_BYTES:
            yield _entities(held, ledger)
            held, size = [], 0
    if held:
        yield _entities(held, ledger)


def _entities(shapes: list[Shape], ledger: Ledger) -> Entities:
    shapely = need("shapely", "osm")
    ids, tags, wkb, areas = zip(*shapes, strict=True)
    geometry = shapely.from_wkb(np.array(wkb, dtype=object))
    rings = np.array(areas) & (shapely.get_num_coordinates(geometry) >= RING_POINTS)
    if rings.any():
        corners, row = shapely.get_coordinates(geometry[rings], return_index=True)
        geometry[rings] = shapely.polygons(shapely.linearrings(corners, indices=row))
    single = (shapely.get_type_id(geometry) == shapely.GeometryType.MULTIPOLYGON) & (
        shapely.get_num_geometries(geometry) == 1
    )
    geometry[single] = shapely.get_geometry(geometry[single], 0)
    for row in np.flatnonzero(areas & ~rings):
        ledger.note(ids[row], "area of two places, kept as a line")
    _mend(ids, geometry, ledger)
    for identity in ids:
        ledger.kept[identity.partition("/")[0]] += 1
    return Entities(ids, tags, geometry)


def _mend(ids: tuple[str, ...], geometry: NDArray[np.object_], ledger: Ledger) -> None:
    """Replace the polygons that are not valid, in place."""
    shapely = need("shapely", "osm")
    areal = shapely.get_dimensions(geometry) == 2
    for row in np.flatnonzero(areal)[~shapely.is_valid(geometry[areal])]:
        parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(geometry[row])))
        polygons = parts[shapely.get_dimensions(parts) == 2]
        if len(polygons):
            geometry[row] = polygons[0] if len(polygons) == 1 else shapely.multipolygons(polygons)
            ledger.note(ids[row], "polygon not valid, mended")
        else:
            geometry[row] = shapely.line_merge(shapely.boundary(geometry[row]))
            ledger.note(ids[row], "polygon without an area, kept as a line")
