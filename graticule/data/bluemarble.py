"""NASA's Blue Marble at places: a whole-Earth picture in plate carrée, or several as bands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graticule.data.rasters import raster
from graticule.data.source import Source
from graticule.geo.coords import Points

WORLD = (-180.0, -90.0, 180.0, 90.0)  # west, south, east, north in degrees


def blue_marble(pictures: Path | Sequence[Path], places: Points) -> Source:
    """17 x 17 samples over 126 km around each of (n, 2) lon/lat degrees, the bands of all pictures stacked."""
    return raster(
        pictures,
        lon=places[:, 0],
        lat=places[:, 1],
        bounds=WORLD,
        size_km=126.0,
        pixels=17,
        licence="public domain, NASA",
    )
