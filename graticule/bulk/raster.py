"""Vectors over a raster of longitude and latitude as a file: GeoTIFF or Zarr."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graticule.bulk.cog import write_cog
from graticule.bulk.grid import grid
from graticule.bulk.zarrs import write_zarr
from graticule.embed import Model, quantization
from graticule.errors import SettingError
from graticule.finished import origin

WRITERS = {".tif": write_cog, ".tiff": write_cog, ".zarr": write_zarr}


def embed_raster(
    model: Model, out: Path, *, bounds: Sequence[float], pixel: float, numbers: str = "float32"
) -> tuple[int, int]:
    """Embed the middle of every pixel and write a raster with a band a dimension; returns its height and width.

    out: "NAME.tif", a Cloud Optimized GeoTIFF of float32 or int8; or "NAME.zarr", Zarr version 3, also of
    float16, which goes on after it was killed. int8 has a scale a band, of the model.
    bounds: west, south, east, north. pixel: its side. All in degrees. A row of tiles is in memory, 512 MiB at most.
    """
    if out.suffix not in WRITERS:
        raise SettingError(f"A raster ends in {', '.join(WRITERS)}; got {out.name!r}.")
    area = grid(bounds, pixel)
    asked = {
        "model": model.about["name"],
        "model_hash": model.about["weights"],
        "dimensions": model.dim,
        "precision": model.precision,
        "numbers": numbers,
        "bounds": [*map(float, bounds)],
        "pixel": float(pixel),
    }
    about = origin(model.about) | {"quantization": quantization(model, numbers)}
    WRITERS[out.suffix](model, area, numbers, about, asked, out)
    return area.height, area.width
