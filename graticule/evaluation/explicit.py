"""The explicit baseline: what a frozen trunk says of pictures of a place, where rasters show it.

An embedding learned from pictures is of use where it gives more than these features themselves, which cost a raster
at hand but no training.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.trunk import Trunk
from graticule.errors import DataError, SettingError, need
from graticule.geo.coords import Points, fibonacci_lattice, offset_km
from graticule.progress import Progress

if TYPE_CHECKING:
    from graticule.data.rasters import Mosaic

logger = logging.getLogger(__name__)
CHUNK = 1024  # places read and encoded at a time
LATTICE = 256  # places all over the Earth whose mean features stand where a place shows no data

Features = NDArray[np.float32]


def explicit(
    pictures: str | Path | Sequence[str | Path],
    *,
    bounds: tuple[float, float, float, float] | None = None,
    size_km: float = 126.0,
    pixels: int = 17,
    trunk: str | Trunk = "statistics",
) -> Callable[[Points], Features]:
    """A function of places: (n, 2) lon/lat degrees -> (n, d) float32 features of the patches around them.

    pictures  one raster, or several whose bands are stacked, as for `read.raster`
    bounds    west, south, east, north in degrees of a picture without georeference; a whole map of the Earth:
              `data.bluemarble.WORLD`
    size_km, pixels   side of a patch and samples along it; the defaults are those of `data.bluemarble.blue_marble`
    trunk     name of an image trunk of `encoders.towers.TRUNKS`, or a trunk

    The function keeps the decoded pictures (up to 600 MB) for its next call. A place with more than half of its
    patch off a raster or without data gets the mean features of 256 places evenly spread over the Earth, whatever
    other places are asked for with it, and how many these are is logged.

    Raises DataError for rasters that cannot be read, lack a georeference, do not suit the trunk, or show none of the
    256 places when their mean is needed; SettingError for a trunk that reads no images.
    """
    need("rasterio", "data")
    from graticule.data.rasters import layer, mosaic
    from graticule.encoders.towers import trunk as named

    chosen = named(trunk) if isinstance(trunk, str) else trunk
    if chosen.kind != "image":
        raise SettingError(f"The explicit baseline needs a trunk that reads images, got one that reads {chosen.kind}.")
    paths = [pictures] if isinstance(pictures, str | Path) else list(pictures)
    if not paths:
        raise DataError("The explicit baseline needs at least one picture, got none.")
    if pixels < 1 or not size_km > 0:
        raise SettingError(f"size_km must be positive and pixels at least 1, got {size_km} and {pixels}.")
    layers = [layer(Path(path), bounds) for path in paths]
    return _Explicit(mosaic(layers, size_km / pixels), size_km, pixels, chosen)


class _Explicit:
    """Rasters, the grid of a patch, and a trunk."""

    def __init__(self, mosaics: Sequence[Mosaic], size_km: float, pixels: int, trunk: Trunk) -> None:
        from graticule.data.rasters import patch_grid

        self.mosaics, self.pixels, self.trunk = mosaics, pixels, trunk
        self.east_km, self.north_km = patch_grid(size_km, pixels)
        bands = sum(mosaic.count for mosaic in mosaics)
        dtype = np.result_type(*(mosaic.dtype for mosaic in mosaics))
        self.width = trunk([np.zeros((bands, pixels, pixels), dtype)]).shape[1]

    def __call__(self, points: Points) -> Features:
        """(n, 2) lon/lat degrees -> (n, width)."""
        features, missing = self._read(points)
        if missing.any():
            lon, lat = points[missing][0]
            count = f"{missing.sum():,} of {len(points):,} places, first lon={lon:g}, lat={lat:g}"
            logger.warning("%s: no data in the pictures, mean features instead.", count)
            features[missing] = self.anywhere
        return features

    @cached_property
    def anywhere(self) -> Features:
        """(width,) mean features of the places of a lattice over the Earth that show data."""
        features, missing = self._read(fibonacci_lattice(LATTICE))
        if missing.all():
            raise DataError(
                f"The pictures show some of the places asked for not at all, and none of {LATTICE} places spread over "
                "the Earth, so there are no mean features to put there: ask only for places that the pictures cover."
            )
        return np.asarray(features[~missing].mean(axis=0, dtype=np.float64), dtype=np.float32)

    def _read(self, points: Points) -> tuple[Features, NDArray[np.bool_]]:
        """(n, width) features and (n,) whether a place lacks data; features of such places mean nothing."""
        features, missing = np.zeros((len(points), self.width), np.float32), np.zeros(len(points), bool)
        with Progress("explicit features", len(points), unit="places") as progress:
            for start in range(0, len(points), CHUNK):
                rows = slice(start, start + CHUNK)
                patches, missing[rows] = self._patches(points[rows])
                seen = np.flatnonzero(~missing[rows])
                if len(seen):
                    features[start + seen] = self.trunk(list(patches[seen]))
                progress.advance(len(patches))
        return features, missing

    def _patches(self, points: Points) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """(n, bands, pixels, pixels), row 0 in the north, and whether more than half of a patch lacks data."""
        from graticule.data.rasters import patches

        values, _, missing = patches(self.mosaics, offset_km(points, self.east_km, self.north_km), self.pixels)
        return values, missing > 0.5
