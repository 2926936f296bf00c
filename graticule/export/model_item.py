"""A trained model as a STAC item with the Machine Learning Model extension 1.5."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open

from graticule.embed import Model
from graticule.errors import SettingError
from graticule.export.stac import FILE_INFO, asset, moment, plain_name, shape, write_document
from graticule.files import atomic_write, read_json

MODELS = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
WORLD = (-180.0, -90.0, 180.0, 90.0)
TASK = "similarity-search"  # the one of the extension's tasks that a vector serves by itself
BATCH = 16_384  # rows a call of `Model.embed`
BINARY = "application/octet-stream"
FORMS = {  # a written file by its ending: title, media type, framework, how it was saved
    ".onnx": ("ONNX graph, places to vectors", f"{BINARY}; framework=onnx", "ONNX", "torch.onnx.export"),
    ".pt2": ("Program of torch, places to vectors", f"{BINARY}; framework=pytorch", "PyTorch", "torch.export.save"),
}


def write_model_item(model: Model, written: list[Path], path: Path) -> Path:
    """Describe a model and the files of it that were written beside `path`; the run itself is copied there, too.

    SettingError when the folder holds another run.
    """
    folder = path.parent
    _copy_run(model, folder)
    assets = {file.suffix[1:]: _graph(file, folder) for file in written}
    assets["weights"] = asset(
        folder / "model.safetensors", folder, "Weights of the run", BINARY, ["mlm:model", "mlm:weights"],
        **{"mlm:artifact_type": "safetensors.torch.save_file"},
    )  # fmt: skip
    assets["run"] = asset(
        folder / "run.json", folder, "Settings of the run and its data", "application/json", ["metadata"]
    )
    return write_document(path, model_item(model, assets))


def model_item(model: Model, assets: dict[str, Any]) -> dict[str, Any]:
    """The item: an inventory of what goes in, what comes out, what it was made of, and `assets`."""
    about, config, name = model.about, model.about["location"], plain_name(model.about["name"])
    parameters = count_parameters(model.folder)
    sources = "; ".join(f"{part}: {entry['licence']}" for part, entry in about["data"].items())
    outputs = [_output("embedding", model.dim, "vectors of places, to train models on")]
    if model.shared is not None and model.length is None:
        outputs.append(_output("shared", about["shared"], "in the space in which cosines compare places with contents"))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MODELS, FILE_INFO],
        "id": name,
        "geometry": shape(*WORLD),
        "bbox": list(WORLD),
        "properties": {
            "title": name,
            "description": f"A location encoder: longitude and latitude in, {model.dim} numbers out. Made by Graticule "
            f"{about['graticule']}, recipe {about['recipe']}. Learned from {sources or 'no data of its own'}.",
            "license": "other",
            "created": moment(),
            "datetime": None,
            "start_datetime": "1900-01-01T00:00:00Z",  # places have no date: as in the examples of MLM
            "end_datetime": "9999-12-31T23:59:59Z",
            "graticule:weights": about["weights"],
            "mlm:name": name,
            "mlm:architecture": f"{config['name']} basis, {config['body']} body",
            "mlm:tasks": [TASK],
            "mlm:framework": "PyTorch",
            "mlm:framework_version": about["torch"],
            "mlm:total_parameters": parameters,
            "mlm:memory_size": 4 * parameters,
            "mlm:pretrained": True,
            "mlm:pretrained_source": sources or None,
            "mlm:batch_size_suggestion": BATCH,
            "mlm:accelerator": None,
            "mlm:accelerator_constrained": False,
            "mlm:hyperparameters": {"recipe": about["recipe"], **config},
            "mlm:input": [
                {
                    "name": "lonlat",
                    "description": "Longitude, then latitude in degrees, WGS84; longitudes to 360 are wrapped.",
                    "bands": [],
                    "variables": [],
                    "input": {"shape": [-1, 2], "dim_order": ["batch", "coordinate"], "data_type": "float64"},
                    "value_scaling": None,
                    "resize_type": None,
                    "pre_processing_function": None,
                }
            ],
            "mlm:output": outputs,
        },
        "links": [],
        "assets": assets,
    }


def _output(name: str, dim: int, says: str) -> dict[str, Any]:
    result = {"shape": [-1, dim], "dim_order": ["batch", "embedding"], "data_type": "float32"}
    return {"name": name, "description": f"{dim} numbers: {says}.", "tasks": [TASK], "bands": [], "result": result}


def _graph(file: Path, folder: Path) -> dict[str, Any]:
    title, kind, framework, saved = FORMS[file.suffix]
    return asset(
        file, folder, title, kind, ["mlm:model", "mlm:weights"],
        **{"mlm:framework": framework, "mlm:artifact_type": saved},
    )  # fmt: skip


def count_parameters(folder: Path) -> int:
    """Numbers of the location encoder, and of the way to the shared space, in the weights of a run."""
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        names = [name for name in file.keys() if name.startswith(("location.", "shared."))]  # noqa: SIM118
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


def _copy_run(model: Model, folder: Path) -> None:
    if folder.resolve() == model.folder.resolve():
        return
    if (folder / "run.json").exists() and read_json(folder / "run.json").get("weights") != model.about["weights"]:
        raise SettingError(f"{folder} holds another run than {model.about['name']!r}: choose another folder with -o.")
    for name in ("model.safetensors", "run.json"):
        source = model.folder / name
        atomic_write(folder / name, lambda temporary, source=source: shutil.copyfile(source, temporary))  # type: ignore[misc]
