"""Images of regions, cut from any rasters: one large one, many chips, or the tiles of a slippy map."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.data.osm.chips import Box, Chip, chips, sidecar
from graticule.data.rasters import Mosaic
from graticule.errors import DataError, SettingError, need
from graticule.geo.coords import EARTH_RADIUS_KM, Points, local_km, lonlat, offset_km

HELD = 400_000_000  # bytes of decoded pixels kept of all rasters together
WHOLE = 64_000_000  # bytes of a raster that is decoded at once, not in tiles
SAMPLES = 2  # in a pixel, each way, of rasters that are finer
REDUCTIONS = np.array([1, *(r for power in range(1, 16) for r in (2**power, 3 * 2 ** (power - 1)))])


def window(outline: Any, window_km: float | None = None) -> tuple[Points, Box]:
    """Where the image of a region lies: a place (1, 2), and a box (west, south, east, north) in km round it.

    The place is the middle of the outline's box in lon and lat, km are those of `local_km` from there. The box is a
    square of `window_km`, or without it the outline's own box in km. Raises DataError for an empty outline.
    """
    shapely = need("shapely", "osm")
    west, south, east, north = shapely.bounds(outline).tolist()
    if not west <= east:
        raise DataError("An image needs a region with an area, got an empty outline.")
    middle = lonlat(lon=(west + east) / 2, lat=(south + north) / 2)
    if window_km is not None:
        return middle, (-window_km / 2, -window_km / 2, window_km / 2, window_km / 2)
    edge = shapely.segmentize(outline, max(east - west, north - south, 1e-9) / 16)
    around = local_km(shapely.get_coordinates(edge), middle)
    (left, bottom), (right, top) = around.min(axis=0), around.max(axis=0)
    return middle, (float(left), float(bottom), float(right), float(top))


class RegionImages:
    """Cuts the image of a region out of rasters: `images(outline) -> image, covered`; see `region_images`.

    bands: their names; dtype: of the images; files: what is read; about: what was asked for, in JSON types.
    """

    def __init__(
        self, rasters: Sequence[Chip], *, pixels: int, window_km: float | None, bands: Sequence[int] | None
    ) -> None:
        shapely = need("shapely", "osm")
        self.chips, self.pixels, self.window_km = rasters, pixels, window_km
        first = rasters[0].layers[0]
        self._channels = _channels(first.bands, bands, first.path)
        self.bands = tuple(first.bands[channel] for channel in self._channels)
        self.dtype = first.dtype
        paths = [chip.layers[0].path for chip in rasters]
        self.files = (*paths, *(side for side in map(sidecar, paths) if side.is_file()))
        self.about = {"rasters": len(paths), "pixels": pixels, "window_km": window_km, "bands": list(self.bands)}
        self._tree = shapely.STRtree(shapely.box(*np.array([chip.box for chip in rasters]).T))
        self._open: OrderedDict[tuple[int, int], Mosaic] = OrderedDict()
        self._held = 0

    def __call__(self, outline: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """A shapely polygon in lon/lat degrees -> (bands, pixels, pixels) image, (pixels, pixels) covered."""
        middle, (west, south, east, north) = window(outline, self.window_km)
        near = self._near(middle, float(np.hypot(max(-west, east), max(-south, north))))
        spacing_km = float(np.sqrt((east - west) * (north - south))) / self.pixels
        finer = [self.chips[number].pixels_in(spacing_km, middle) for number in near]
        samples = SAMPLES if max(finer, default=0) >= SAMPLES else 1
        parts = (np.arange(self.pixels * samples) + 0.5) / (self.pixels * samples)
        up, right = np.meshgrid(north + parts * (south - north), west + parts * (east - west), indexing="ij")
        points = offset_km(middle, right.reshape(-1), up.reshape(-1))[0]
        values = np.zeros((len(points), len(self._channels)), self.dtype)
        known = np.zeros(len(points), bool)
        for number, pixels in zip(near, finer, strict=True):
            todo = np.flatnonzero(~known)
            todo = todo[self.chips[number].holds(points[todo])]
            if len(todo):
                found, there = self._sample(number, pixels / samples, points[todo])
                values[todo[there]], known[todo[there]] = found[there], True
        return _means(values, known, self.pixels, samples)

    def _near(self, middle: Points, radius_km: float) -> list[int]:
        """Numbers of the rasters whose boxes meet a cap on the Earth, in order."""
        shapely = need("shapely", "osm")
        lon, lat = middle[0].tolist()
        reach, wide = np.degrees(radius_km / EARTH_RADIUS_KM), 180.0
        if abs(lat) + reach < 90:
            wide = np.degrees(np.arcsin(np.sin(np.radians(reach)) / np.cos(np.radians(lat))))
        turned = lon + np.array([-360.0, 0.0, 360.0])
        near = self._tree.query(shapely.box(turned - wide, lat - reach, turned + wide, lat + reach))[1]
        return [int(number) for number in np.unique(near)]

    def _sample(self, number: int, finer: float, points: Points) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(n, 2) points -> (n, bands) values of one raster, means of `finer` pixels each way; (n,) where it has."""
        mosaic = self._mosaic(number, int(REDUCTIONS[np.searchsorted(REDUCTIONS, max(finer, 1), side="right") - 1]))
        before = mosaic.held
        values, _, missing = (found[0] for found in mosaic.sample(points[None]))
        self._held += mosaic.held - before
        while self._held > HELD and len(self._open) > 1:
            self._held -= self._open.popitem(last=False)[1].held
        values = values[:, self._channels].astype(self.dtype, copy=False)
        if self.dtype.kind == "f":
            missing = missing | np.isnan(values).any(axis=1)
        return values, ~missing

    def _mosaic(self, number: int, reduce: int) -> Mosaic:
        if (number, reduce) not in self._open:
            layers = self.chips[number].layers
            grid = layers[0].grid
            size = grid.height * grid.width * sum(len(x.bands) * x.dtype.itemsize for x in layers)
            self._open[number, reduce] = Mosaic(layers, reduce=reduce, whole=size <= WHOLE, budget=HELD // 2)
        self._open.move_to_end((number, reduce))
        return self._open[number, reduce]


def region_images(
    paths: str | Path | Sequence[str | Path],
    *,
    pixels: int = 64,
    window_km: float | None = None,
    bands: Sequence[int] | None = None,
    bounds: Box | None = None,
) -> RegionImages:
    """What cuts images of regions out of georeferenced rasters: GeoTIFF, COG, JPEG 2000, VRT, or slippy tiles.

    paths: files, and folders searched with all below them. A picture Z/X/Y.png, .jpg or .webp is a tile of a slippy
    map, rows counted from the north. Where rasters overlap, the first that has a pixel wins, slippy tiles of the finest
    zoom before others. Their coordinate systems may differ, bands and dtype may not; an alpha band is a mask, no band.
    pixels: rows and columns of an image. window_km: side of a square round the middle of a region, for context;
    without it the image is the region's own box, see `window`. bands: which, counted from 1; all by default.
    bounds: (west, south, east, north) in degrees of rasters without a reference, such as pictures of the whole Earth.

    An image is 0 where nothing is known: beyond all rasters, where they have nodata, a mask or alpha 0, or NaN. A pixel
    takes the nearest one of a coarser raster, and the mean of four area means of a finer one. At most 400 MB of
    decoded pixels are kept, and no file stays open. Raises DataError as `graticule.data.osm.chips.chips` does, and
    SettingError for bands that are not there.
    """
    if pixels < 1 or (window_km is not None and not window_km > 0):
        raise SettingError(f"Images need at least 1 pixel and a window above 0 km, got {pixels} and {window_km}.")
    given = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    return RegionImages(chips(given, bounds), pixels=pixels, window_km=window_km, bands=bands)


def _means(
    values: NDArray[Any], known: NDArray[np.bool_], pixels: int, samples: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """((pixels * samples)^2, bands) values, row by row, and where they are known -> image, covered."""
    shape = (pixels, samples, pixels, samples)
    count = known.reshape(shape).sum(axis=(1, 3))
    image = values.T.reshape(-1, *shape)[:, :, 0, :, 0]
    if samples > 1:
        mean = values.T.reshape(-1, *shape).sum(axis=(2, 4), dtype=np.float64) / np.maximum(count, 1)
        image = (mean if values.dtype.kind == "f" else np.rint(mean)).astype(values.dtype)
    return np.ascontiguousarray(image), count > 0


def _channels(names: Sequence[str], bands: Sequence[int] | None, path: Path) -> list[int]:
    """Places of the bands asked for, of all but alpha by default."""
    if bands is None:
        return [i for i, name in enumerate(names) if name != "alpha"]
    if not bands or not all(1 <= band <= len(names) for band in bands):
        raise SettingError(f"bands must name some of 1 to {len(names)}, the bands of {path}, got {list(bands)}.")
    return [band - 1 for band in bands]
