"""Image trunks: multi-scale statistics of any raster patch, and networks for Sentinel-2 patches of 12 or 13 bands."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from graticule.encoders.resnet import network
from graticule.errors import DataError, SettingError

SCALES = {"uint8": 255.0, "uint16": 10_000.0, "int16": 10_000.0, "float16": 1.0, "float32": 1.0, "float64": 1.0}
CIRRUS = 10  # place of B10 among the 13 bands of level 1C; level 2A has the other 12
BATCH = 64

# Mean and standard deviation of reflectance over SSL4EO-S12 (Wang et al. 2023): 12 bands level 2A, 13 bands level 1C.
BAND_STATISTICS: dict[int, tuple[list[float], list[float]]] = {
    12: (
        [0.0752, 0.0884, 0.1144, 0.1297, 0.1625, 0.2195, 0.2422, 0.2518, 0.2582, 0.2646, 0.2369, 0.1805],
        [0.1108, 0.1155, 0.1184, 0.1368, 0.1370, 0.1356, 0.1417, 0.1475, 0.1439, 0.1582, 0.1456, 0.1343],
    ),
    13: (
        [0.1606, 0.1391, 0.1315, 0.1364, 0.1549, 0.2092, 0.2372, 0.2300, 0.2560, 0.0830, 0.0022, 0.2177, 0.1524],
        [0.0787, 0.0850, 0.0875, 0.1139, 0.1122, 0.1162, 0.1274, 0.1248, 0.1346, 0.0577, 0.0051, 0.1336, 0.1137],
    ),
}


class StatisticsTrunk:
    """Patch -> per band the central pixel, then mean and standard deviation in centred boxes; needs no weights.

    `boxes` are side lengths in pixels, also as "5+17", cut to the patch; 1 means the pixel alone. Values are
    reflectances: uint16 divided by 10,000, uint8 by 255. Order: by box; in a box all means, then all deviations.
    """

    kind = "image"

    def __init__(self, boxes: Sequence[int] | str = (1, 5, 17)) -> None:
        if isinstance(boxes, str):
            boxes = [int(side) if side.isdecimal() else 0 for side in boxes.split("+")]
        if not boxes or any(box < 1 for box in boxes):
            raise SettingError(f"Expected box sizes of at least one pixel, got {tuple(boxes)}.")
        self.boxes = tuple(boxes)
        self.config: dict[str, Any] = {"name": "statistics", "boxes": list(boxes)}

    def identity(self) -> dict[str, Any]:
        """The settings: there are no weights."""
        return {"name": "statistics", "boxes": list(self.boxes), "version": 1}

    def __call__(self, contents: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """`n` patches (bands, h, w) of one shape -> (n, bands * numbers) float32; an empty list -> (0, 0)."""
        if not len(contents):
            bands = (*np.shape(contents), 0)[1]
            numbers = sum(1 if box == 1 else 2 for box in self.boxes)
            return np.zeros((0, bands * numbers), dtype=np.float32)
        pixels = stacked(contents)
        columns = []
        for box in self.boxes:
            inside = reflectance(centred(pixels, box))
            columns.append(inside.mean(axis=(2, 3)))
            if box > 1:
                columns.append(inside.std(axis=(2, 3)))
        features: NDArray[np.float32] = np.concatenate(columns, axis=1).astype(np.float32)
        if not np.isfinite(features).all():
            row = int(np.argmin(np.isfinite(features).all(axis=1)))
            raise DataError(f"Expected finite pixels, got NaN or infinity in row {row}. Fill or drop such patches.")
        return features


class MultispectralTrunk:
    """Sentinel-2 patch -> vector by a frozen "small" (256-d), "resnet18" (512), "resnet50" (2048) or "vit-small" (384).

    Without `weights` the network is random from `seed`. `weights` names a local checkpoint of the authors of
    SSL4EO-S12 (MoCo; Wang et al. 2023), .pth or .safetensors, or one in plain torchvision or timm naming. These
    networks read 13 bands / 10,000: with `bands=12` (level 2A) B10 is filled with zeros. The small network
    standardises each band instead. Patches are not resized, but for "vit-small" to 224 pixels.
    """

    kind = "image"

    def __init__(
        self, architecture: str = "small", weights: str | Path | None = None, seed: int = 0, bands: int = 12
    ) -> None:
        if bands not in BAND_STATISTICS:
            raise SettingError(f"Expected 12 or 13 Sentinel-2 bands, got bands={bands}.")
        self.architecture, self.bands = architecture, bands
        self.config: dict[str, Any] = {
            "name": "multispectral",
            "architecture": architecture,
            "weights": None if weights is None else str(weights),
            "seed": seed,
            "bands": bands,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = multispectral_network(architecture, bands)
        if weights is not None:
            self.network.body.load_state_dict(fitting(read_weights(Path(weights)), self.network.body, Path(weights)))
        self.network.eval().requires_grad_(False)
        self.dim = self.network.dim

    def identity(self) -> dict[str, Any]:
        """Architecture, bands and a digest of the weights, wherever they came from."""
        state = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(self.network.state_dict().items()):
            state.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        settings = {"architecture": self.architecture, "bands": self.bands, "weights": state.hexdigest()}
        return {"name": "multispectral", **settings, "version": 1}

    @torch.inference_mode()
    def __call__(self, contents: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """`n` patches (bands, h, w) of one shape -> (n, dim) float32."""
        if not len(contents):
            return np.zeros((0, self.dim), dtype=np.float32)
        pixels = stacked(contents)
        parts = [self.network(torch.from_numpy(pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)]
        features: NDArray[np.float32] = torch.cat(parts).numpy()
        return features


class Multispectral(nn.Module):
    """Raw pixels (n, bands, h, w) -> (n, dim): reflectance, standardised or with B10 filled in, then the body."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, body: nn.Module, bands: int, standardised: bool) -> None:
        super().__init__()
        self.body, self.bands, self.dim = body, bands, int(body.dim)  # type: ignore[arg-type]
        mean, deviation = BAND_STATISTICS[bands] if standardised else ([0.0] * bands, [1.0] * bands)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None], persistent=False)
        self.fills_cirrus = bands == 12 and not standardised

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.ndim != 4 or pixels.shape[1] != self.bands:
            raise DataError(
                f"Expected patches of {self.bands} Sentinel-2 bands, (n, {self.bands}, height, width), "
                f"got shape {tuple(pixels.shape)}. Choose bands=12 (level 2A) or 13 (level 1C) to fit the data."
            )
        x: Tensor = (reflectance(pixels) - self.mean) / self.deviation
        if self.fills_cirrus:
            x = torch.cat([x[:, :CIRRUS], torch.zeros_like(x[:, :1]), x[:, CIRRUS:]], dim=1)
        vectors: Tensor = self.body(x)
        return vectors


def multispectral_network(architecture: str = "small", bands: int = 12) -> Multispectral:
    """A network with random weights that reads raw pixels; published architectures always have 13 bands inside."""
    if bands not in BAND_STATISTICS:
        raise SettingError(f"Expected 12 or 13 Sentinel-2 bands, got bands={bands}.")
    small = architecture == "small"
    return Multispectral(network(architecture, bands if small else 13), bands, standardised=small)


def reflectance(pixels: Any) -> Any:
    """Integer pixels of an array or tensor as float32 reflectance: uint16 / 10,000, uint8 / 255; floats as they are."""
    name = str(pixels.dtype).removeprefix("torch.")
    if name not in SCALES:
        raise DataError(f"Expected pixels as {', '.join(SCALES)}, got {name}.")
    values = pixels.astype(np.float32) if isinstance(pixels, np.ndarray) else pixels.to(torch.float32)
    return values / SCALES[name] if SCALES[name] != 1 else values


def stacked(contents: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Patches of one shape and dtype as one (n, bands, h, w) array; DataError names the row that differs."""
    first = np.asarray(contents[0])
    for row, patch in enumerate(contents):
        array = np.asarray(patch)
        if array.ndim != 3 or array.shape != first.shape or array.dtype != first.dtype:
            expected = f"(bands, height, width), all like the first {first.shape} {first.dtype}"
            raise DataError(f"Expected patches {expected}, got {array.shape} {array.dtype} in row {row}.")
    return np.stack([np.asarray(patch) for patch in contents])


def centred(pixels: NDArray[Any], box: int) -> NDArray[Any]:
    """The centred box of this side length, cut to the patch; an even patch has its centre at index size / 2."""
    slices = [slice(max(0, size // 2 - box // 2), min(size, size // 2 - box // 2 + box)) for size in pixels.shape[-2:]]
    return pixels[..., slices[0], slices[1]]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The encoder's tensors of a checkpoint, by names without the prefixes of MoCo, DINO and data-parallel training."""
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DataError(
            f"{path}: expected a checkpoint (.pth or .safetensors): {str(error).splitlines()[0]}."
        ) from error
    for key in ("state_dict", "teacher", "model"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not any(isinstance(value, Tensor) for value in found.values()):
        raise DataError(f"{path}: expected a dictionary of tensors, or one under 'state_dict'.")
    tensors = {re.sub(r"^(module\.)+", "", key): value for key, value in found.items() if isinstance(value, Tensor)}
    for prefix in ("encoder_q.", "base_encoder.", "backbone.", "model."):
        inside = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        tensors = inside or tensors
    return {key: value for key, value in tensors.items() if not key.startswith(("fc.", "head."))}


def fitting(tensors: dict[str, Tensor], body: nn.Module, path: Path) -> dict[str, Tensor]:
    """The tensors as float32, or a DataError that names the first missing, unexpected or ill-shaped ones."""
    expected = body.state_dict()
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = [name for name in expected if name not in tensors and name not in optional]
    unexpected = [name for name in tensors if name not in expected]
    shapes = [name for name in expected if name in tensors and tensors[name].shape != expected[name].shape]
    for what, names in (("lacks", missing), ("has unexpected", unexpected), ("has another shape for", shapes)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise DataError(f"{path}: does not fit {type(body).__name__}: {what} {', '.join(names[:3])}{more}.")
    return {name: tensors.get(name, value).to(value.dtype) for name, value in expected.items()}
