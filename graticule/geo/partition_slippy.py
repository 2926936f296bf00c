"""Slippy map tiles as regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from graticule.errors import SettingError, need
from graticule.geo.antimeridian import moved
from graticule.geo.cells import MERCATOR_LAT, slippy_tiles, tile_bounds
from graticule.geo.clip import clip
from graticule.geo.coords import EARTH_RADIUS_KM, Points, lonlat
from graticule.geo.partition_base import MOST_REGIONS, Keys, Pairs, Partition

MANY_CORNERS = 100  # a shape with more is cut to each tile on the way down


class SlippyTiles(Partition):
    """Tiles of Web Mercator at one zoom; half-open: the west and north edges belong to a tile, the others do not.

    Keys are x * 2**zoom + y. Nothing lies beyond 85.05 degrees of latitude.
    """

    def __init__(self, zoom: int) -> None:
        if not 0 <= zoom <= 20:
            raise SettingError(f"Slippy tiles need a zoom of 0 to 20, got {zoom}.")
        self.zoom, self.n, self.side_deg = zoom, 2**zoom, 360 / 2**zoom
        self.about = {"cells": f"slippy:{zoom}"}

    def _tiles(self, keys: Keys) -> NDArray[np.int64]:
        return np.stack(np.divmod(np.asarray(keys, dtype=np.int64), self.n), axis=-1)

    def _key(self, tiles: NDArray[np.int64], level: int = 0) -> Keys:
        """Of tiles `level` zooms coarser; columns may run on past 180 degrees."""
        keys: Keys = (tiles[:, 0] % (self.n >> level) << self.zoom) + tiles[:, 1]
        return keys

    def outlines(self, keys: Keys) -> NDArray[np.object_]:
        """(n,) keys -> (n,) boxes."""
        return _boxes(self._tiles(keys), self.zoom)

    def ids(self, keys: Keys) -> list[str]:
        """(n,) keys -> "zoom/x/y"."""
        return [f"{self.zoom}/{x}/{y}" for x, y in self._tiles(keys).tolist()]

    def centre(self, keys: Keys) -> Points:
        """(n,) keys -> (n, 2) lon/lat of the middle of the tile as drawn: half the pixels lie to each side."""
        north_west = tile_bounds(2 * self._tiles(keys) + 1, self.zoom + 1)
        return lonlat(lon=north_west[:, 0], lat=north_west[:, 3])

    def empty(self, keys: Keys) -> int | None:
        """Tiles of the smallest box round these, the short way round the Earth, that are not among them."""
        if not len(keys):
            return 0
        x, y = self._tiles(np.unique(keys)).T
        columns = np.unique(x)
        gaps = np.diff(np.append(columns, columns[0] + self.n))
        return int((self.n - gaps.max() + 1) * (np.ptp(y) + 1) - len(x))

    def largest_km2(self, lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) latitudes -> a square as wide as the edge of a tile there that is nearest to the equator."""
        nearest = np.maximum(np.abs(lat_deg) - self.side_deg, 0)
        edge_km: NDArray[np.float64] = np.radians(self.side_deg) * EARTH_RADIUS_KM * np.cos(np.radians(nearest))
        return edge_km**2

    def clip(self, geometries: NDArray[np.object_], outlines: NDArray[np.object_]) -> NDArray[np.object_]:
        """As `graticule.geo.clip.clip`, without lines along the east and south edges: they are of the next tile."""
        shapely = need("shapely", "osm")
        parts = clip(geometries, outlines)
        west, south, east, north = shapely.bounds(outlines).T
        bounds = shapely.bounds(parts)
        on_edge = (bounds[:, 2] >= east) | (bounds[:, 1] <= south)
        rows = np.flatnonzero(on_edge & (shapely.get_dimensions(parts) == 1))
        rows = rows[_along(parts[rows], east[rows], south[rows])]
        edges = np.stack([[east, north], [east, south], [west, south]]).transpose(2, 0, 1)[rows]
        parts[rows] = shapely.difference(parts[rows], shapely.linestrings(edges))
        parts[shapely.is_empty(parts)] = None
        return parts

    def _pairs(self, shapes: NDArray[np.object_], among: Keys | None) -> tuple[Pairs, NDArray[np.int64]]:
        shapely = need("shapely", "osm")
        bounds = shapely.bounds(shapes)
        inside = (bounds[:, 1] <= MERCATOR_LAT) & (bounds[:, 3] >= -MERCATOR_LAT)  # false for None
        rows = np.flatnonzero(inside)
        first, last = self._corner(bounds[rows][:, [0, 3]]), self._corner(bounds[rows][:, [2, 1]])
        whole = (first == last).all(axis=1) & (np.abs(bounds[rows][:, [1, 3]]) <= MERCATOR_LAT).all(axis=1)
        one = rows[whole]
        keys = self._key(first[whole])
        small = Pairs(one, keys, shapes[one], np.ones(len(one), bool))
        if among is not None:
            small = small.where(np.isin(keys, among))
        large, too_wide = self._descend(shapes, rows[~whole], first[~whole], last[~whole], among)
        return _both(small, large), too_wide

    def _corner(self, points: Points) -> NDArray[np.int64]:
        """Tiles of points whose longitudes may run on past 180: so do the columns."""
        turn = np.floor((points[:, 0] + 180) / 360)
        tiles = slippy_tiles(points - np.stack([360 * turn, 0 * turn], axis=-1), self.zoom)
        tiles[:, 0] += self.n * turn.astype(np.int64)
        return tiles

    def _descend(
        self,
        shapes: NDArray[np.object_],
        rows: NDArray[np.int64],
        first: NDArray[np.int64],
        last: NDArray[np.int64],
        among: Keys | None,
    ) -> tuple[Pairs, NDArray[np.int64]]:
        """Pairs of shapes with the tiles of their boxes that they meet: from a few coarse tiles down to the zoom."""
        shapely = need("shapely", "osm")
        span = (last - first).max(axis=1, initial=0) + 1
        levels = np.maximum(np.ceil(np.log2(span)).astype(np.int64) - 1, 0)
        shapes = shapes.copy()
        shapely.prepare(shapes[rows])
        of, tiles, pieces = np.empty(0, np.int64), np.empty((0, 2), np.int64), np.empty(0, object)
        too_wide: NDArray[np.int64] = np.empty(0, np.int64)
        for level in range(int(levels.max(initial=0)), -1, -1):
            of, tiles, pieces = np.repeat(of, 4), _children(tiles), np.repeat(pieces, 4)
            fresh = np.flatnonzero(levels == level)
            owner, grid = _grid(first[fresh] >> level, last[fresh] >> level)
            of, tiles = np.concatenate([of, fresh[owner]]), np.concatenate([tiles, grid])
            pieces = np.concatenate([pieces, shapes[rows[fresh[owner]]]])
            keep = ((first[of] >> level <= tiles) & (tiles <= last[of] >> level)).all(axis=1)
            if among is not None:
                keep &= np.isin(self._key(tiles, level), self._key(self._tiles(among) >> level, level))
            of, tiles, pieces = of[keep], tiles[keep], pieces[keep]
            boxes = _boxes(tiles, self.zoom - level)
            meet = shapely.intersects(pieces, boxes)
            crowded = np.bincount(of[meet], minlength=len(rows)) > MOST_REGIONS
            too_wide = np.union1d(too_wide, rows[crowded])
            meet &= ~crowded[of]
            of, tiles, pieces, boxes = of[meet], tiles[meet], pieces[meet], boxes[meet]
            if level:
                pieces = _lightened(pieces, boxes)
        keys = self._key(tiles)
        pieces = moved(pieces, -360.0 * (tiles[:, 0] // self.n))
        _, unique, counts = np.unique(np.stack([of, keys]), axis=1, return_index=True, return_counts=True)
        twice = unique[counts > 1]  # once round the Earth and again in the first tile
        pieces[twice] = shapes[rows[of[twice]]]
        unique = np.sort(unique)
        return Pairs(rows[of[unique]], keys[unique], pieces[unique], np.zeros(len(unique), bool)), too_wide


def _along(lines: NDArray[np.object_], east: NDArray[np.float64], south: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a line has an edge that lies at longitude `east` or latitude `south`."""
    shapely = need("shapely", "osm")
    xy, line = shapely.get_coordinates(lines, return_index=True)
    at = np.stack([xy[:, 0] >= east[line], xy[:, 1] <= south[line]], axis=-1)
    along = (at[1:] & at[:-1]).any(axis=1) & (line[1:] == line[:-1])
    return np.bincount(line[1:][along], minlength=len(lines)) > 0


def _boxes(tiles: NDArray[np.int64], zoom: int) -> NDArray[np.object_]:
    shapely = need("shapely", "osm")
    boxes: NDArray[np.object_] = shapely.box(*tile_bounds(tiles, zoom).T)
    return boxes


def _children(tiles: NDArray[np.int64]) -> NDArray[np.int64]:
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    children: NDArray[np.int64] = (2 * tiles[:, None] + corners).reshape(-1, 2)
    return children


def _grid(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All tiles from (n, 2) `first` to (n, 2) `last`, and the row that each belongs to."""
    width, height = (last - first + 1).T
    owner = np.repeat(np.arange(len(first)), width * height)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(width * height) - width * height, width * height)
    return owner, first[owner] + np.stack(np.divmod(place, height[owner]), axis=-1)


def _lightened(pieces: NDArray[np.object_], boxes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Pieces with many corners cut to their boxes."""
    shapely = need("shapely", "osm")
    rows = np.flatnonzero((shapely.get_num_coordinates(pieces) > MANY_CORNERS) & shapely.is_valid(pieces))
    cut = clip(pieces[rows], boxes[rows])
    pieces[rows] = np.where(shapely.is_missing(cut), pieces[rows], cut)
    return pieces


def _both(a: Pairs, b: Pairs) -> Pairs:
    return Pairs(*(np.concatenate([getattr(a, name), getattr(b, name)]) for name in Pairs.__dataclass_fields__))
