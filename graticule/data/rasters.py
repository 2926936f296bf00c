"""Patches at given places, sampled from any raster whose extent is known."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import ArrayLike, NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError
from rasterio.windows import Window

from graticule.data.source import Row, Skip, Source
from graticule.errors import DataError, SettingError
from graticule.geo.coords import Points, great_circle_km, lonlat, offset_km

HELD_IN_MEMORY = 600_000_000  # bytes of decoded pixels; above, square tiles are read when needed
TILE_PIXELS = 512
LARGEST_TILE = 8  # times TILE_PIXELS: what is read at once where area means are taken
COLOURS = ("red", "green", "blue", "gray", "palette")
POINTS_PER_CHUNK = 1_200_000
LONLAT, WEB_MERCATOR = pyproj.CRS("EPSG:4326"), pyproj.CRS("EPSG:3857")


@lru_cache(maxsize=64)
def from_lonlat(crs: pyproj.CRS) -> pyproj.Transformer:
    """What turns lon/lat degrees into x and y."""
    return pyproj.Transformer.from_crs(LONLAT, crs, always_xy=True)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie; rasters of one grid are sampled together."""

    crs: pyproj.CRS
    transform: Affine  # (column, row) -> (x, y)
    height: int
    width: int

    def pixel_km(self) -> float:
        """Height of a pixel in the middle of the raster."""
        a, b, c, d, e, f = self.transform[:6]
        column, row = self.width / 2, self.height / 2 + np.array([-0.5, 0.5])
        x, y = a * column + b * row + c, d * column + e * row + f
        lon, lat = pyproj.Transformer.from_crs(self.crs, LONLAT, always_xy=True).transform(x, y)
        return float(great_circle_km(*np.stack([lon, lat], axis=-1)))

    def locate(self, points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(..., 2) lon/lat degrees -> fractional rows and columns; NaN beyond the raster."""
        x, y = points[..., 0], points[..., 1]
        if self.crs != LONLAT:
            x, y = from_lonlat(self.crs).transform(x, y)
        a, b, c, d, e, f = (~self.transform)[:6]
        with np.errstate(invalid="ignore"):
            column, row = a * x + b * y + c, d * x + e * y + f
        if (period := self._period()) and b == d == 0:
            turn = period * abs(a)
            column = np.where(np.isfinite(column), column, np.nan) % turn
            if abs(turn - self.width) < 1:  # once round the Earth: the last column meets the first
                column = np.minimum(column, np.nextafter(self.width, 0))
        inside = (column >= 0) & (column < self.width) & (row >= 0) & (row <= self.height)
        row = np.minimum(row, np.nextafter(self.height, 0))
        return np.where(inside, row, np.nan), np.where(inside, column, np.nan)

    def _period(self) -> float | None:
        """Once round the Earth in units of x, where x wraps."""
        if self.crs.is_geographic:
            return 360.0
        return 2 * math.pi * 6378137.0 if self.crs == WEB_MERCATOR else None


@dataclass(frozen=True)
class Layer:
    """One raster file: its grid and what its pixels are."""

    path: Path
    grid: Grid
    bands: tuple[str, ...]
    dtype: np.dtype[Any]
    nodata: float | None
    masked: bool = False  # pixels may be missing: by nodata, an alpha band or a mask

    def read(self, window: Window, shape: tuple[int, int]) -> NDArray[Any]:
        """(bands, *shape) values of a window."""
        return read(self.path, window, shape, len(self.bands))


class Mask(Layer):
    """Where a raster file has pixels, by its mask or alpha band or nodata: one band, 0 where it has none."""

    def read(self, window: Window, shape: tuple[int, int]) -> NDArray[Any]:
        """(1, *shape) shares of the window that have pixels, in 255ths."""
        with open_raster(self.path) as dataset:
            share = dataset.dataset_mask(window=window, out_shape=shape, resampling=Resampling.average)
        return np.asarray(share)[None]


def mask(of: Layer) -> Mask:
    """The mask of a raster file, to be sampled together with it."""
    return Mask(of.path, of.grid, ("mask",), np.dtype(np.uint8), 0)


class Mosaic:
    """Layers of one grid, decoded in pixel-interleaved tiles; the tiles used last stay in memory."""

    def __init__(self, layers: Sequence[Layer], *, reduce: int, whole: bool, budget: int) -> None:
        self.layers, self.grid, self.reduce = layers, layers[0].grid, reduce
        self.tile = (self.grid.height, self.grid.width) if whole else (TILE_PIXELS * min(reduce, LARGEST_TILE),) * 2
        self.dtype = np.result_type(*(layer.dtype for layer in layers))
        self.count, self.budget, self.held = sum(len(layer.bands) for layer in layers), budget, 0
        self.tiles: OrderedDict[int, NDArray[Any]] = OrderedDict()

    def sample(self, points: Points) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        """(n, m, 2) lon/lat -> (n, m, bands) values, (n, m) beyond the raster, (n, m) missing in some layer."""
        row, column = (v.reshape(-1) for v in self.grid.locate(points))
        inside = np.flatnonzero(~np.isnan(row))
        row, column = row[inside], column[inside]
        per_row = -(-self.grid.width // self.tile[1])
        number = (row // self.tile[0]).astype(np.int64) * per_row + (column // self.tile[1]).astype(np.int64)
        values = np.empty((math.prod(points.shape[:-1]), self.count), self.dtype)
        beyond = np.ones(len(values), bool)
        beyond[inside] = False
        values[beyond] = self._fill()
        order = np.argsort(number, kind="stable")
        for here in np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []:
            tile, window = self._tile(int(number[here[0]]), per_row)
            r = ((row[here] - window.row_off) * (tile.shape[0] / window.height)).astype(np.int64)
            c = ((column[here] - window.col_off) * (tile.shape[1] / window.width)).astype(np.int64)
            flat = np.minimum(r, tile.shape[0] - 1) * tile.shape[1] + np.minimum(c, tile.shape[1] - 1)
            values[inside[here]] = tile.reshape(-1, self.count)[flat]
        shape = points.shape[:-1]
        missing = (beyond | self._missing(values)).reshape(shape)
        return values.reshape(*shape, self.count), beyond.reshape(shape), missing

    def _fill(self) -> NDArray[Any]:
        return np.concatenate([np.full(len(x.bands), x.nodata or 0) for x in self.layers]).astype(self.dtype)

    def _missing(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        missing = np.zeros(len(values), bool)
        first = 0
        for layer in self.layers:
            own = values[:, first : first + len(layer.bands)]
            first += len(layer.bands)
            if layer.nodata is not None:
                missing |= np.all(np.isnan(own) if math.isnan(layer.nodata) else own == layer.nodata, axis=1)
        return missing

    def _tile(self, number: int, per_row: int) -> tuple[NDArray[Any], Window]:
        row, column = (i * size for i, size in zip(divmod(number, per_row), self.tile, strict=True))
        height, width = min(self.tile[0], self.grid.height - row), min(self.tile[1], self.grid.width - column)
        window = Window(column, row, width, height)
        if number in self.tiles:
            self.tiles.move_to_end(number)
            return self.tiles[number], window
        shape = (-(-height // self.reduce), -(-width // self.reduce))
        tile = np.empty((*shape, self.count), self.dtype)
        first = 0
        for layer in self.layers:
            last = first + len(layer.bands)
            tile[..., first:last] = np.moveaxis(layer.read(window, shape), 0, -1)
            first = last
        self.tiles[number] = tile
        self.held += tile.nbytes
        while self.held > self.budget and len(self.tiles) > 1:
            self.held -= self.tiles.popitem(last=False)[1].nbytes
        return tile, window


def open_raster(path: Path) -> Any:
    """An open rasterio dataset, or a DataError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            return rasterio.open(path)
    except RasterioIOError as error:
        raise DataError(f"{path} cannot be read as a raster: {error}.") from error


def read(path: Path, window: Window, shape: tuple[int, int], bands: int) -> NDArray[Any]:
    """(bands, *shape) pixels of a window, area means where `shape` is smaller than the window."""
    with open_raster(path) as dataset:
        try:
            pixels = dataset.read(window=window, out_shape=(bands, *shape), resampling=Resampling.average)
        except RasterioIOError as error:
            raise DataError(f"{path} is damaged in rows from {window.row_off}: {error}.") from error
    return np.asarray(pixels)


def layer(path: Path, bounds: tuple[float, float, float, float] | None) -> Layer:
    """What a raster file says of itself; `bounds` (west, south, east, north) serve a file that has no reference."""
    with open_raster(path) as dataset:
        if dataset.crs is not None:
            crs, transform = pyproj.CRS.from_wkt(dataset.crs.to_wkt()), dataset.transform
            crs = LONLAT if crs.to_authority() == ("EPSG", "4326") else crs
        elif bounds is None:
            raise DataError(
                f"{path} has no georeference (coordinate system and transform): give its extent in degrees with "
                "bounds=(west, south, east, north), for a whole world map (-180, -90, 180, 90)."
            )
        else:
            west, south, east, north = bounds
            across, down = (east - west) / dataset.width, (south - north) / dataset.height
            crs, transform = LONLAT, Affine(across, 0.0, west, 0.0, down, north)
        colours = (c.name for c in dataset.colorinterp)
        names = tuple(
            "alpha" if colour == "alpha" else text or (colour if colour in COLOURS else f"band{i}")
            for i, (text, colour) in enumerate(zip(dataset.descriptions, colours, strict=True), start=1)
        )
        dtype = np.result_type(*(np.dtype(t) for t in dataset.dtypes))
        masked = any(flags != [MaskFlags.all_valid] for flags in dataset.mask_flag_enums)
        grid = Grid(crs, transform, dataset.height, dataset.width)
        return Layer(path, grid, names, dtype, dataset.nodata, masked)


def patch_grid(size_km: float, pixels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """East and north offsets in km of pixels * pixels cell centres, row by row from the north-west."""
    centres = (np.arange(pixels) - (pixels - 1) / 2) * (size_km / pixels)
    north, east = np.meshgrid(-centres, centres, indexing="ij")
    return east.reshape(-1), north.reshape(-1)


def asked(lon: ArrayLike, lat: ArrayLike, ids: Sequence[str] | None) -> tuple[Points, list[str], str]:
    """Checked (n, 2) lon/lat of the places asked for, an id for each (its number by default), and a hash of both."""
    points = lonlat(lon=lon, lat=lat)
    names = [str(i) for i in (range(len(points)) if ids is None else ids)]
    if len(names) != len(points):
        raise DataError(f"ids must have one entry a place, got {len(names)} for {len(points)} places.")
    return points, names, hashlib.sha256(points.tobytes() + "\n".join(names).encode()).hexdigest()


def raster(
    path_or_paths: str | Path | Sequence[str | Path],
    *,
    lon: ArrayLike,
    lat: ArrayLike,
    ids: Sequence[str] | None = None,
    size_km: float = 126.0,
    pixels: int = 17,
    bounds: tuple[float, float, float, float] | None = None,
    licence: str = "unknown",
) -> Source:
    """Patches of `size_km` with pixels x pixels samples around each place; several rasters are stacked as bands.

    The samples lie on a local azimuthal equidistant grid, so a patch is true in km at every latitude and seamless
    at the antimeridian and the poles of a world raster; each takes the nearest pixel, of area means where samples
    are more than two pixels apart. Contents: (bands, pixels, pixels), dtype of the raster, row 0 in the north.
    Places with most of the patch off a raster or without data are skipped.

    Raises DataError for an unreadable raster, or one without georeference when `bounds` (degrees) is missing.
    """
    paths = [path_or_paths] if isinstance(path_or_paths, str | Path) else list(path_or_paths)
    if not paths:
        raise DataError("raster needs at least one path, got none.")
    if pixels < 1 or not size_km > 0:
        raise SettingError(f"size_km must be positive and pixels at least 1, got {size_km} and {pixels}.")
    points, names, digest = asked(lon, lat, ids)
    layers = [layer(Path(path), bounds) for path in paths]
    prefix = len(layers) > 1

    def records(start: int) -> Iterator[Row | Skip]:
        mosaics = mosaic(layers, size_km / pixels)
        east, north = patch_grid(size_km, pixels)
        step = max(1, POINTS_PER_CHUNK // pixels**2)
        for first in range(start, len(points), step):
            here = points[first : first + step]
            contents, beyond, missing = patches(mosaics, offset_km(here, east, north), pixels)
            for i, (x, y) in enumerate(here.tolist()):
                if missing[i] > 0.5:
                    yield Skip("outside the raster" if beyond[i] > 0.5 else "no data", names[first + i])
                else:
                    yield Row(names[first + i], x, y, contents[i])

    return Source(
        kind="image",
        records=records,
        about={"size_km": size_km, "pixels": pixels, "bounds": list(bounds) if bounds else None, "places": digest},
        files=tuple(x.path for x in layers),
        licence=licence,
        total=len(points),
        bands=tuple(f"{x.path.stem}:{band}" if prefix else band for x in layers for band in x.bands),
    )


def patches(
    mosaics: Sequence[Mosaic], samples: Points, pixels: int
) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Samples (n, pixels^2, 2) -> (n, bands, pixels, pixels), row 0 in the north, shares (n,) beyond and missing."""
    found = [mosaic.sample(samples) for mosaic in mosaics]
    contents = np.concatenate([values for values, _, _ in found], axis=-1)
    contents = np.ascontiguousarray(np.moveaxis(contents, -1, 1)).reshape(len(samples), -1, pixels, pixels)
    beyond = np.max([b.mean(axis=1) for _, b, _ in found], axis=0)
    return contents, beyond, np.max([m.mean(axis=1) for _, _, m in found], axis=0)


def mosaic(layers: Sequence[Layer], spacing_km: float) -> list[Mosaic]:
    """Neighbouring layers of one grid joined, each reduced by a whole number where samples are sparse."""
    size = sum(x.grid.height * x.grid.width * len(x.bands) * x.dtype.itemsize for x in layers)
    runs: list[list[Layer]] = []
    for x in layers:
        if runs and runs[-1][0].grid == x.grid:
            runs[-1].append(x)
        else:
            runs.append([x])
    whole, budget = size <= HELD_IN_MEMORY, HELD_IN_MEMORY // len(runs)
    reduces = [spacing_km / run[0].grid.pixel_km() for run in runs]
    return [
        Mosaic(run, reduce=int(r) if r > 2 else 1, whole=whole, budget=budget if not whole else HELD_IN_MEMORY)
        for run, r in zip(runs, reduces, strict=True)
    ]
