"""Vectors as a Zarr version 3 group: arrays `embedding`, `lat`, `lon`; killed at any moment, it goes on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graticule.bulk.grid import Grid, blocks
from graticule.bulk.job import FORMAT, MANIFEST, refuse_other
from graticule.embed import Model
from graticule.errors import DataError, need
from graticule.files import read_json, write_json
from graticule.progress import Progress

SIDE = 128  # pixels of the side of a chunk


def write_zarr(
    model: Model, area: Grid, numbers: str, about: Mapping[str, Any], asked: Mapping[str, Any], path: Path
) -> None:
    """Write `embedding` (lat, lon, dimension) in chunks of SIDE by SIDE pixels, and the coordinates.

    Attributes of the group: `emb`, where the vectors come from, and the CRS; int8 ones have an array `scale` of one
    number a dimension. A manifest tells how many rows are done: the next call goes on there.
    """
    zarr = need("zarr", "scale")
    state = read_json(path / MANIFEST) if (path / MANIFEST).exists() else None
    if state is None:
        if path.exists() and any(path.iterdir()):
            raise DataError(f"{path} is of no such job. Choose another folder.")
        _make(zarr, model, area, numbers, about, path)
        state = {"format": FORMAT, "complete": False, "asked": dict(asked), "about": dict(about), "rows": 0}
        write_json(path / MANIFEST, state)
    refuse_other(path, state["asked"], asked)
    array = zarr.open_group(path, mode="r+", zarr_format=3)["embedding"]
    with Progress(f"embed {path.name}", area.pixels, unit="pixels") as progress:
        progress.skip(state["rows"] * area.width)
        for block in blocks(model, area, SIDE, state["about"]["quantization"], state["rows"]):
            rows, columns, _ = block.vectors.shape
            array[block.row : block.row + rows, block.column : block.column + columns] = block.vectors
            if block.column + columns == area.width:
                state |= {"rows": block.row + rows, "complete": block.row + rows == area.height}
                write_json(path / MANIFEST, state)
            progress.advance(rows * columns)


def _make(zarr: Any, model: Model, area: Grid, numbers: str, about: Mapping[str, Any], path: Path) -> None:
    """The group without vectors, made beside its place and moved there, so that it is whole or absent."""
    made = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    group = zarr.create_group(made, zarr_format=3, attributes={"emb": dict(about), "proj:code": "EPSG:4326"})
    names = ("lat", "lon", "dimension")
    group.create_array(
        "embedding",
        shape=(area.height, area.width, model.dim),
        dtype=numbers,
        chunks=(min(SIDE, area.height), min(SIDE, area.width), model.dim),
        dimension_names=names,
    )
    axes: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "lat": (area.lat, "lat", {"units": "degrees_north", "standard_name": "latitude"}),
        "lon": (area.lon, "lon", {"units": "degrees_east", "standard_name": "longitude"}),
    }
    if "scale" in (about["quantization"] or {}):
        axes["scale"] = (np.array(about["quantization"]["scale"], dtype=np.float32), "dimension", {})
    for name, (values, dimension, attributes) in axes.items():
        group.create_array(name, data=values, dimension_names=(dimension,), attributes=attributes)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rmdir()
    made.rename(path)
