"""A trained model for other programs: as ONNX, as a program of torch, and described as a STAC item."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from graticule.errors import SettingError, need

if TYPE_CHECKING:
    from graticule.embed import Model


def export_model(
    model: Model, folder: Path, *, onnx: bool = False, pt2: bool = False, stac: bool = False
) -> dict[Path, float | None]:
    """Write `model.onnx`, `model.pt2` and the STAC item `item.json` of a model into a folder.

    -> the files, and of graphs by how much of a vector's length they differ from the model at most.
    The files of a prefix of 64 numbers are called `model-64.onnx` and so on. With `stac` the run is copied there, too.
    Warns beyond 1e-5, which only rounding explains; CacheError for a graph that is wrong; MissingExtra without torch
    or, for ONNX, its packages.
    """
    if not (onnx or pt2 or stac):
        raise SettingError("Say what to write: onnx, pt2 or stac.")
    suffix = "" if model.length is None else f"-{model.length}"
    written: dict[Path, float | None] = {}
    if onnx or pt2:
        need("torch", "export")
        from graticule.export.graph import trace, write_pt2

        program = trace(model)
        if onnx:
            from graticule.export.onnx import write_onnx

            path = folder / f"model{suffix}.onnx"
            written[path] = write_onnx(model, program, path)
        if pt2:
            path = folder / f"model{suffix}.pt2"
            written[path] = write_pt2(model, program, path)
    if stac:
        from graticule.export.model_item import write_model_item

        written[write_model_item(model, list(written), folder / f"item{suffix}.json")] = None
    return written
