"""The photo trunk: encoded pictures -> vectors, by a CLIP, SigLIP or ViT model in a local `transformers` folder."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graticule.encoders.bert import existing, read_json
from graticule.errors import DataError, SettingError, need
from graticule.files import digest_file

JOINT = ("clip", "siglip")  # image and text in one space
TOKEN = ("vit", "deit", "dinov2")  # the class token stands for the picture
DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": False,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


class PhotoTrunk:
    """Bytes of pictures -> (n, dim): the image vector of CLIP or SigLIP, the class token of ViT, DeiT or DINOv2.

    The folder's own preprocessing (size, crop, mean, deviation) is done here with Pillow and numpy, on the
    picture turned upright by its EXIF orientation. `text` puts words into the space of CLIP or SigLIP.
    """

    kind = "photo"

    def __init__(self, folder: str | Path, batch: int = 32) -> None:
        if batch < 1:
            raise SettingError(f"Expected batch >= 1, got {batch}.")
        self.folder, self.batch = Path(folder), batch
        self.config: dict[str, Any] = {"name": "photo", "folder": str(folder), "batch": batch}
        self.model_type = str(read_json(self.folder / "config.json").get("model_type"))
        if self.model_type not in JOINT + TOKEN:
            supported = ", ".join(JOINT + TOKEN)
            raise DataError(f"{self.folder}: model_type {self.model_type!r} is not supported, only {supported}.")
        self.preparation = read_preparation(self.folder)
        existing(self.folder / "model.safetensors")
        transformers = need("transformers", "photo")
        transformers.utils.logging.disable_progress_bar()
        model = transformers.AutoModel.from_pretrained(str(self.folder), local_files_only=True, use_safetensors=True)
        self.model = model.float().eval()

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Digests of the files that the vectors depend on."""
        return {name: digest_file(self.folder / name) for name in ("config.json", "model.safetensors")}

    def identity(self) -> dict[str, Any]:
        """Model type, preprocessing and file digests, not the place of the folder."""
        settings = {"model_type": self.model_type, "preparation": self.preparation, "version": 1}
        return {"name": "photo", **settings, "files": dict(self.hashes)}

    @cached_property
    def dim(self) -> int:
        """Width of the vectors."""
        config = self.model.config
        if self.model_type == "clip":
            return int(config.projection_dim)
        return int((config.vision_config if self.model_type in JOINT else config).hidden_size)

    @torch.inference_mode()
    def __call__(self, contents: Sequence[bytes]) -> NDArray[np.float32]:
        """`n` encoded pictures -> (n, dim) float32."""
        vectors = np.zeros((len(contents), self.dim), dtype=np.float32)
        for start in range(0, len(contents), self.batch):
            part = range(start, min(start + self.batch, len(contents)))
            pixels = torch.from_numpy(np.stack([prepared(contents[i], self.preparation, i) for i in part]))
            if self.model_type in JOINT:
                found = self.model.get_image_features(pixel_values=pixels)
            else:
                found = self.model(pixel_values=pixels).last_hidden_state[:, 0]
            vectors[part.start : part.stop] = _pooled(found)
        return vectors

    @torch.inference_mode()
    def text(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """`n` texts -> (n, dim) float32 in the space of the pictures; only for CLIP and SigLIP with a tokenizer."""
        if self.model_type not in JOINT:
            raise SettingError(f"A {self.model_type} model has no text side: expected one of {', '.join(JOINT)}.")
        existing(self.folder / "tokenizer.json")
        length = int(self.model.config.text_config.max_position_embeddings)
        vectors = np.zeros((len(contents), self.dim), dtype=np.float32)
        for start in range(0, len(contents), self.batch):
            part = list(contents[start : start + self.batch])
            # SigLIP was trained on texts filled to full length, without a mask.
            tokens = self.tokenizer(part, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
            mask = {"attention_mask": tokens["attention_mask"]} if self.model_type == "clip" else {}
            found = self.model.get_text_features(input_ids=tokens["input_ids"], **mask)
            vectors[start : start + len(part)] = _pooled(found)
        return vectors

    @cached_property
    def tokenizer(self) -> Any:
        """The folder's own tokenizer."""
        transformers = need("transformers", "photo")
        return transformers.AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)


def _pooled(found: Any) -> NDArray[np.float32]:
    """A tensor of vectors, or the pooled part of the output object that newer versions return."""
    vectors: NDArray[np.float32] = (found if isinstance(found, torch.Tensor) else found.pooler_output).float().numpy()
    return vectors


def read_preparation(folder: Path) -> dict[str, Any]:
    """What the folder says about preparing pictures, with sizes as {"shortest_edge"} or {"height", "width"}."""
    path = folder / "preprocessor_config.json"
    if path.exists():
        found = read_json(path)
    else:
        joint = folder / "processor_config.json"
        found = read_json(joint).get("image_processor", {}) if joint.exists() else {}
        if not found:
            raise DataError(f"{path}: no such file; expected the settings of the model's image processor.")
    settings = {key: found[key] if found.get(key) is not None else value for key, value in DEFAULTS.items()}
    if isinstance(settings["size"], int):
        square = found.get("do_center_crop") is None and "crop_size" not in found
        size = settings["size"]
        settings["size"] = {"height": size, "width": size} if square else {"shortest_edge": size}
    if isinstance(settings["crop_size"], int):
        settings["crop_size"] = dict.fromkeys(("height", "width"), settings["crop_size"])
    if settings["do_resize"] and not (
        {"shortest_edge"} <= set(settings["size"]) or {"height", "width"} <= set(settings["size"])
    ):
        raise DataError(f"{path}: expected size as shortest_edge or height and width, got {settings['size']}.")
    return settings


def prepared(content: bytes, settings: dict[str, Any], row: int) -> NDArray[np.float32]:
    """An encoded picture -> (3, h, w) float32, upright, resized, cropped, rescaled and standardised."""
    image_module, operations = need("PIL.Image", "photo"), need("PIL.ImageOps", "photo")
    try:
        with image_module.open(io.BytesIO(content)) as opened:
            picture = operations.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, TypeError, SyntaxError, image_module.DecompressionBombError) as error:
        raise DataError(f"Expected the bytes of a picture (JPEG, PNG, ...) in row {row}: {error}.") from error
    if settings["do_resize"]:
        picture = picture.resize(target_size(picture.size, settings["size"]), settings["resample"])
    values = np.asarray(picture, dtype=np.float32)
    if settings["do_center_crop"]:
        values = cropped(values, settings["crop_size"]["height"], settings["crop_size"]["width"])
    if settings["do_rescale"]:
        values = values * np.float32(settings["rescale_factor"])
    if settings["do_normalize"]:
        mean, deviation = (np.asarray(settings[key], dtype=np.float32) for key in ("image_mean", "image_std"))
        values = (values - mean) / deviation
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def target_size(size: tuple[int, int], wanted: dict[str, int]) -> tuple[int, int]:
    """(width, height) to resize to: the shorter side to `shortest_edge`, or exactly width and height."""
    if "shortest_edge" not in wanted:
        return wanted["width"], wanted["height"]
    width, height = size
    edge, short, long = wanted["shortest_edge"], min(size), max(size)
    other = int(edge * long / short)
    return (edge, other) if width <= height else (other, edge)


def cropped(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The centred (height, width) part of (h, w, 3), with zeros around where the picture is smaller."""
    for axis, wanted in ((0, height), (1, width)):
        missing = max(0, wanted - values.shape[axis])
        if missing:
            around = [(0, 0)] * 3
            around[axis] = (missing - missing // 2, missing // 2)
            values = np.pad(values, around)
        start = (values.shape[axis] - wanted) // 2
        values = values.take(range(start, start + wanted), axis=axis)
    return values
