"""Vectors as a Cloud Optimized GeoTIFF: one band a dimension, all bands of a tile together, overviews."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graticule.bulk.grid import Block, Grid, blocks, tile_side
from graticule.embed import Model
from graticule.errors import SettingError, need
from graticule.files import atomic_write
from graticule.progress import Progress

CACHE_MB = 256  # of GDAL
HELD = ("float32", "int8")


def write_cog(
    model: Model, area: Grid, numbers: str, about: Mapping[str, Any], asked: Mapping[str, Any], path: Path
) -> None:
    """Write the file whole or not at all: tiles first, then overviews (means of pixels) and the order of a COG.

    The tag `emb` says as JSON where the vectors come from; int8 ones have a scale a band. SettingError for float16,
    which GDAL before 3.11 does not know.
    """
    if numbers not in HELD:
        raise SettingError(f"A GeoTIFF holds {' or '.join(HELD)}, got {numbers}. Write {path.stem}.zarr instead.")
    rasterio = need("rasterio", "data")
    shutil, side = need("rasterio.shutil", "data"), tile_side(model.dim, numbers)
    profile = {
        "driver": "GTiff",
        "dtype": numbers,
        "count": model.dim,
        "width": area.width,
        "height": area.height,
        "crs": "EPSG:4326",
        "transform": rasterio.Affine(area.pixel, 0, area.west, 0, -area.pixel, area.north),
        "tiled": True,
        "blockxsize": side,
        "blockysize": side,
        "interleave": "pixel",
        "photometric": "minisblack",
        "compress": "zstd",
        "bigtiff": "yes",
    }
    cog = {"blocksize": side, "compress": "zstd", "overview_resampling": "average", "bigtiff": "if_safer"}

    def write(temporary: Path) -> None:
        tiles = temporary.with_name(f"{temporary.name}.tiles")
        try:
            with (
                rasterio.open(tiles, "w", **profile) as dataset,
                Progress(f"embed {path.name}", area.pixels, unit="pixels") as progress,
            ):
                dataset.update_tags(emb=json.dumps(about))
                dataset.descriptions = tuple(f"embedding {i}" for i in range(model.dim))
                if quantization := about["quantization"]:
                    dataset.scales = tuple(quantization["scale"])
                for block in blocks(model, area, side, about["quantization"]):
                    _write_block(rasterio, dataset, block, side)
                    progress.advance(block.vectors.shape[0] * block.vectors.shape[1])
            shutil.copy(tiles, temporary, driver="COG", **cog)
        finally:
            tiles.unlink(missing_ok=True)

    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
        atomic_write(path, write)


def _write_block(rasterio: Any, dataset: Any, block: Block, side: int) -> None:
    """Tile by tile: GDAL wants whole bands, and a copy of a whole block would be another block in memory."""
    rows, columns, _ = block.vectors.shape
    for column in range(0, columns, side):
        tile = block.vectors[:, column : column + side]
        window = rasterio.windows.Window(block.column + column, block.row, tile.shape[1], rows)
        dataset.write(tile.transpose(2, 0, 1), window=window)
