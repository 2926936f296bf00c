"""A picture from a file, as the model's photo or image modality reads it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from graticule.embed import Model
from graticule.errors import DataError, SettingError


def read_picture(model: Model, path: Path) -> Any:
    """The bytes of a photo for a model with photos, else the (bands, height, width) array of a raster file."""
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    kinds = {entry["kind"] for entry in model.about["data"].values()}
    if "photo" in kinds:
        return path.read_bytes()
    if "image" not in kinds:
        raise SettingError(f"This model knows {', '.join(model.modalities)}; none of them reads pictures.")
    import rasterio

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                return raster.read()
    except rasterio.errors.RasterioIOError as error:
        raise DataError(f"{path} cannot be read as a picture: {error}.") from error
