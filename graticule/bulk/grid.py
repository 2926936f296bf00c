"""Rasters of longitude and latitude: their pixels, and the vectors of these, a row of tiles at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.embed import Model
from graticule.errors import SettingError
from graticule.geo.coords import lonlat
from graticule.geo.int8 import stored

SIDES = (512, 256, 128)  # of a square tile, in pixels; GDAL makes none smaller
TILE_BYTES = 16 << 20  # it is the largest that fits
BLOCK_BYTES = 512 << 20  # a row of tiles that is held in memory; wider ones are cut into several
CALL_PIXELS = 1 << 17  # embedded at once, as whole rows of the block


@dataclass(frozen=True)
class Grid:
    """Pixels of equal degrees, the first at the north-western corner."""

    west: float
    north: float
    pixel: float
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    @property
    def lon(self) -> NDArray[np.float64]:
        """(width,) longitudes of the middle of pixels, ascending: they run on beyond 180."""
        return np.asarray(self.west + (np.arange(self.width) + 0.5) * self.pixel)

    @property
    def lat(self) -> NDArray[np.float64]:
        """(height,) latitudes of the middle of pixels, descending."""
        return np.asarray(self.north - (np.arange(self.height) + 0.5) * self.pixel)


@dataclass(frozen=True)
class Block:
    """Vectors of some tiles: (rows, columns, dim) from a row and a column of the raster on."""

    row: int
    column: int
    vectors: NDArray[Any]


def grid(bounds: Sequence[float], pixel: float) -> Grid:
    """The raster of west, south, east, north in degrees; over the antimeridian where west is not below east.

    SettingError for impossible bounds, and where they are not a whole number of pixels apart.
    """
    west, south, east, north = map(float, bounds)
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90):
        raise SettingError(
            "Bounds are WEST SOUTH EAST NORTH in degrees, within 180 and 90, south below north; "
            f"got {west:g} {south:g} {east:g} {north:g}."
        )
    if not (np.isfinite(pixel) and pixel > 0):
        raise SettingError(f"A pixel must have more than 0 degrees, got {pixel:g}.")
    sizes = []
    for what, degrees in (("wide", (east - west) % 360 or 360.0), ("high", north - south)):
        pixels = degrees / pixel
        if round(pixels) < 1 or abs(pixels - round(pixels)) > 1e-6 * max(1.0, pixels):
            raise SettingError(f"{degrees:g} degrees are {pixels:g} pixels {what}; expected a whole number of them.")
        sizes.append(round(pixels))
    return Grid(west, north, float(pixel), *sizes)


def tile_side(dim: int, numbers: str) -> int:
    """Pixels of the side of a tile."""
    pixel_bytes = dim * np.dtype(numbers).itemsize
    return next((side for side in SIDES if side * side * pixel_bytes <= TILE_BYTES), SIDES[-1])


def blocks(model: Model, area: Grid, side: int, kept: Mapping[str, Any] | None, first_row: int = 0) -> Iterator[Block]:
    """Vectors as they are `kept`, in blocks of `side` rows from the top, or from `first_row` on.

    Blocks are as wide as the raster where that fits in memory, else multiples of `side`.
    """
    pixel_bytes = model.dim * _dtype(kept).itemsize
    columns = max(side, BLOCK_BYTES // (side * pixel_bytes * side) * side)
    for row in range(first_row, area.height, side):
        for column in range(0, area.width, columns):
            yield Block(
                row, column, _embedded(model, area.lon[column : column + columns], area.lat[row : row + side], kept)
            )


def _embedded(
    model: Model, lon: NDArray[np.float64], lat: NDArray[np.float64], kept: Mapping[str, Any] | None
) -> NDArray[Any]:
    """(rows, columns, dim) vectors, embedded by whole rows."""
    vectors = np.empty((len(lat), len(lon), model.dim), dtype=_dtype(kept))
    step = max(1, CALL_PIXELS // len(lon))
    for row in range(0, len(lat), step):
        here = lat[row : row + step]
        points = lonlat(lon=np.tile(lon - 360 * (lon > 180), len(here)), lat=np.repeat(here, len(lon)))
        vectors[row : row + step] = stored(model.embed_points(points), kept).reshape(len(here), len(lon), -1)
    return vectors


def _dtype(kept: Mapping[str, Any] | None) -> np.dtype[Any]:
    return np.dtype("float32" if kept is None else kept["type"])
