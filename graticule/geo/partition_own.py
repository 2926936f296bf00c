"""The user's own polygons as regions, from GeoJSON or GeoParquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need
from graticule.geo.antimeridian import moved, unwrapped
from graticule.geo.clip import own_dimension
from graticule.geo.coords import Points, lonlat
from graticule.geo.partition_base import MOST_REGIONS, Keys, Pairs, Partition

ID = ("region_id", "id")


class OwnPolygons(Partition):
    """Polygons of a file, in its order; keys are the numbers of their rows.

    They may overlap, have holes and leave gaps; their edges belong to them. The name of a polygon is its column
    `region_id` or `id`, else the index of the table. Another coordinate reference system is turned to lon/lat.
    Polygons across the antimeridian are cut there (RFC 7946) or have longitudes that run on past 180. Invalid ones
    are mended; `about["mended"]` counts them.

    Raises DataError for a file that cannot be read, rows that are no polygons, missing or double ids, a missing
    reference system and coordinates that are no degrees.
    """

    def __init__(self, path: str | Path) -> None:
        shapely = need("shapely", "osm")
        self.path = Path(path)
        self.files = (self.path,)
        table = _read(self.path)
        self.names = _names(table, self.path)
        self._outlines, mended = _polygons(_degrees(table, self.path), self.names, self.path)
        self._tree = shapely.STRtree(self._outlines)
        shapely.prepare(self._outlines)
        self.about = {"cells": self.path.name, "regions": len(self.names), "mended": mended}

    def all_keys(self) -> Keys:
        """Every polygon, in order of the file."""
        return np.arange(len(self.names))

    def outlines(self, keys: Keys) -> NDArray[np.object_]:
        """(n,) keys -> (n,) polygons and multipolygons."""
        return self._outlines[np.asarray(keys, dtype=np.int64)]

    def ids(self, keys: Keys) -> list[str]:
        """(n,) keys -> names in the file."""
        return [self.names[key] for key in np.asarray(keys).tolist()]

    def centre(self, keys: Keys) -> Points:
        """(n,) keys -> (n, 2) lon/lat of the centroids; of a point inside where the centroid lies outside."""
        shapely = need("shapely", "osm")
        outlines = self.outlines(keys)
        centres = shapely.centroid(outlines)
        outside = ~shapely.intersects(outlines, centres)
        centres[outside] = shapely.point_on_surface(outlines[outside])
        return lonlat(lon=shapely.get_x(centres), lat=shapely.get_y(centres))

    def _pairs(self, shapes: NDArray[np.object_], among: Keys | None) -> tuple[Pairs, NDArray[np.int64]]:
        shapely = need("shapely", "osm")
        rows, keys, whole = [], [], []
        for lon_deg in self._turns(shapes):
            there = moved(shapes, lon_deg)
            row, key = self._tree.query(there, predicate="intersects")
            rows.append(row)
            keys.append(key)
            whole.append(shapely.covers(self._outlines[key], there[row]))
        of, to, fit = (np.concatenate(parts) for parts in (rows, keys, whole))
        _, unique = np.unique(np.stack([of, to]), axis=1, return_index=True)
        pairs = Pairs(of[unique], to[unique], shapes[of[unique]], fit[unique])
        if among is not None:
            pairs = pairs.where(np.isin(pairs.keys, among))
        crowded = np.bincount(pairs.rows, minlength=len(shapes)) > MOST_REGIONS
        return pairs.where(~crowded[pairs.rows]), np.flatnonzero(crowded)

    def _turns(self, shapes: NDArray[np.object_]) -> tuple[float, ...]:
        shapely = need("shapely", "osm")
        east = np.concatenate([shapely.bounds(shapes)[:, 2], shapely.bounds(self._outlines)[:, 2]])
        return (0.0, -360.0, 360.0) if (east >= 180).any() else (0.0,)


def _read(path: Path) -> Any:
    geopandas = need("geopandas", "osm")
    try:
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            return geopandas.read_parquet(path)
        return geopandas.read_file(path)
    except Exception as error:  # geopandas raises what its engines raise
        raise DataError(f"{path} is no readable GeoJSON or GeoParquet of polygons: {error}.") from error


def _names(table: Any, path: Path) -> list[str]:
    column = next((name for name in ID if name in table.columns), None)
    values = table.index if column is None else table[column]
    names: dict[str, int] = {}
    for row, value in enumerate(values.tolist()):
        if value is None or value != value:
            raise DataError(f"{path}: every region needs an id, row {row} has none in column {column!r}.")
        if (name := str(value)) in names:
            raise DataError(f"{path}: region ids must be unique, {name!r} names rows {names[name]} and {row}.")
        names[name] = row
    return list(names)


def _degrees(table: Any, path: Path) -> NDArray[np.object_]:
    shapely = need("shapely", "osm")
    if not hasattr(table, "crs") or table._geometry_column_name not in table.columns:
        raise DataError(f"{path} has no geometries: expected polygons of regions.")
    if not len(table):
        raise DataError(f"{path} has 0 rows: expected polygons of regions.")
    if table.crs is None:
        raise DataError(
            f"{path} does not name its coordinate reference system. Write it with one, e.g. set_crs('OGC:CRS84')."
        )
    shapes: NDArray[np.object_] = table.geometry.to_crs("OGC:CRS84").to_numpy()
    bounds = shapely.bounds(shapes)
    bad = np.flatnonzero((np.abs(bounds) > [360, 90, 360, 90]).any(axis=1) | np.isinf(bounds).any(axis=1))
    if len(bad):
        raise DataError(
            f"{path}, row {bad[0]} lies beyond longitude 360 or latitude 90: {bounds[bad[0]].tolist()} are no degrees. "
            "Write the file in lon/lat or with its coordinate reference system."
        )
    return shapes


def _polygons(shapes: NDArray[np.object_], names: list[str], path: Path) -> tuple[NDArray[np.object_], int]:
    """The shapes as valid polygons without heights, and how many had to be mended."""
    shapely = need("shapely", "osm")
    shapes = shapely.force_2d(shapes)
    broken = np.flatnonzero(~shapely.is_valid(shapes) & ~shapely.is_missing(shapes))
    dimension = np.full(len(shapes), 2)
    shapes[broken] = shapely.make_valid(shapes[broken])
    polygons = unwrapped(own_dimension(shapes, dimension), short_way=False)
    if len(bad := np.flatnonzero(shapely.is_missing(polygons))):
        raise DataError(
            f"{path}: regions must be polygons, row {bad[0]} ({names[bad[0]]!r}) has no area. "
            f"{len(bad)} of {len(shapes)} rows are like this: drop them."
        )
    return polygons, len(broken)
