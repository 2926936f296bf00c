"""Where rasters lie: files of a folder, tiles of a slippy map, and a box in degrees round each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray

from graticule.data.rasters import LONLAT, WEB_MERCATOR, Grid, Layer, layer, mask
from graticule.errors import DataError
from graticule.geo.coords import Points, offset_km

RASTERS = (".tif", ".tiff", ".vrt", ".jp2")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
SLIPPY = re.compile(r"(?:^|/)(\d{1,2})/(\d+)/(\d+)\.(?:png|jpe?g|webp)$", re.IGNORECASE)
MERCATOR_EDGE = 20037508.342789244  # metres from the middle of Web Mercator to its edge
SMALLEST_PIXEL_KM = 1e-6
WIDE_DEG = 5.0  # a raster over more degrees of latitude has pixels of many sizes

Box = tuple[float, float, float, float]  # west in [-180, 180), south, east, north in degrees
WORLD: Box = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True)
class Chip:
    """One raster, and its mask where it has one; a box that holds it; its rank among those that overlap."""

    layers: tuple[Layer, ...]
    box: Box
    pixel_km: float
    rank: int  # minus the zoom of a slippy tile: the finest come first

    def holds(self, points: Points) -> NDArray[np.bool_]:
        """(n, 2) -> (n,): whether they lie in the box."""
        west, south, east, north = self.box
        lat = points[:, 1]
        inside: NDArray[np.bool_] = ((points[:, 0] - west) % 360 <= east - west) & (lat >= south) & (lat <= north)
        return inside

    def pixels_in(self, km: float, centre: Points) -> float:
        """How many pixels of the raster `km` near (1, 2) `centre` are."""
        if self.box[3] - self.box[1] > WIDE_DEG:
            row, column = self.layers[0].grid.locate(offset_km(centre, [0, 0], [0, -km])[0])
            pixels = float(np.hypot(np.diff(row), np.diff(column)).item())
            if np.isfinite(pixels):
                return pixels
        return km / self.pixel_km


def chips(given: Sequence[Path], bounds: Box | None) -> list[Chip]:
    """Every raster of files and folders, in order, the finest slippy tiles first; `bounds` for those without reference.

    Raises DataError for a path without rasters, and for a raster that cannot be read, has no reference, a colour table,
    another dtype or other bands than the first, or lies where it cannot.
    """
    found = [_chip(path, bounds) for path in _files(given)]
    if not found:
        raise DataError(
            f"There is no raster in {', '.join(map(str, given)) or 'an empty list'}: expected GeoTIFF (.tif), .vrt, "
            ".jp2, or slippy tiles Z/X/Y.png or .jpg."
        )
    first = _kind(found[0])
    for chip in found:
        if (kind := _kind(chip)) != first:
            raise DataError(
                f"Rasters that are cut together need the same bands and dtype: {found[0].layers[0].path} has {first}, "
                f"{chip.layers[0].path} has {kind}."
            )
    return sorted(found, key=lambda chip: chip.rank)


def _kind(chip: Chip) -> str:
    of = chip.layers[0]
    bands = sum(name != "alpha" for name in of.bands)
    return f"{bands} band{'s' if bands != 1 else ''} of {of.dtype}"


def _files(given: Sequence[Path]) -> Iterator[Path]:
    for path in given:
        if not path.is_dir():
            yield path
            continue
        for file in sorted(path.rglob("*")):
            suffix = file.suffix.lower()
            picture = suffix in PICTURES and (SLIPPY.search(file.as_posix()) or sidecar(file).is_file())
            if (suffix in RASTERS or picture) and not file.name.startswith("."):
                yield file


def sidecar(path: Path) -> Path:
    """The file where GDAL looks for the reference of one that cannot hold it."""
    return path.with_name(path.name + ".aux.xml")


def _chip(path: Path, bounds: Box | None) -> Chip:
    tile = None if sidecar(path).is_file() else SLIPPY.search(path.as_posix())
    of, rank = layer(path, WORLD if tile else bounds), 0
    if tile:
        zoom, x, y = (int(number) for number in tile.groups())
        of, rank = replace(of, grid=_tile_grid(of.grid, zoom, x, y)), -zoom
    if "palette" in of.bands:
        raise DataError(f"{path} has a colour table: turn it into colours, e.g. by gdal_translate -expand rgb.")
    box = _box(of.grid)
    pixel_km = of.grid.pixel_km() if box else np.nan
    if box is None or not pixel_km > SMALLEST_PIXEL_KM:
        (west, south), (east, north) = (_place(of.grid, x, y) for x, y in ((0, of.grid.height), (of.grid.width, 0)))
        raise DataError(
            f"{path} lies where its coordinate system {of.grid.crs.name!r} has no place: from x {west:g}, y {south:g} "
            f"to x {east:g}, y {north:g}, {of.grid.width} pixels wide. Write it with the system that these belong to."
        )
    return Chip((of, mask(of)) if of.masked else (of,), box, pixel_km, rank)


def _tile_grid(grid: Grid, zoom: int, x: int, y: int) -> Grid:
    side = 2 * MERCATOR_EDGE / 2**zoom
    west, north = x * side - MERCATOR_EDGE, MERCATOR_EDGE - y * side
    transform = Affine(side / grid.width, 0.0, west, 0.0, -side / grid.height, north)
    return replace(grid, crs=WEB_MERCATOR, transform=transform)


def _place(grid: Grid, column: float, row: float) -> tuple[float, float]:
    a, b, c, d, e, f = grid.transform[:6]
    return a * column + b * row + c, d * column + e * row + f


def _box(grid: Grid) -> Box | None:
    """A box round a raster, somewhat too large; None where its coordinates are none of its coordinate system."""
    parts = np.linspace(0, 1, 9)
    column, row = np.meshgrid(parts * grid.width, parts * grid.height)
    a, b, c, d, e, f = grid.transform[:6]
    lon, lat = a * column + b * row + c, d * column + e * row + f
    if grid.crs.is_geographic and (np.abs(lon).max() > 540 or np.abs(lat).max() > 90 + abs(e) + abs(d)):
        return None
    if grid.crs != LONLAT:
        lon, lat = pyproj.Transformer.from_crs(grid.crs, LONLAT, always_xy=True).transform(lon, lat)
    middle = grid.locate(np.array([[lon[4, 4], lat[4, 4]]]))
    if not np.allclose(np.ravel(middle), [grid.height / 2, grid.width / 2], rtol=0, atol=1):
        return None
    if not (np.isfinite(lon) & np.isfinite(lat)).all():
        return WORLD
    lon = np.unwrap(np.unwrap(lon, axis=1, period=360), axis=0, period=360)
    west, east, south, north = lon.min(), lon.max(), lat.min(), lat.max()
    beyond = max(east - west, north - south) / 20  # edges may bend between the places that were looked at
    west, east, south, north = west - beyond, east + beyond, south - beyond, north + beyond
    poles = np.isfinite(grid.locate(np.array([[0.0, -90.0], [0.0, 90.0]]))[0])
    if east - west >= 360 or (poles & [south < -70, north > 70]).any():
        west, east = -180.0, 180.0
        south, north = -90.0 if poles[0] else south, 90.0 if poles[1] else north
    turn = 360 * np.floor((west + 180) / 360)
    return float(west - turn), float(max(south, -90)), float(east - turn), float(min(north, 90))
