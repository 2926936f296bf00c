"""GeoCLIP's released location encoder, from the package `geoclip` (pip install --no-deps geoclip)."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray


def _location_encoder() -> torch.nn.Module:
    """The class without the package's own `__init__`, which imports its image side and more."""
    spec = find_spec("geoclip")
    if spec is None or spec.origin is None:
        raise ImportError("the package geoclip is not installed")
    for name, folder in (("geoclip", Path(spec.origin).parent), ("geoclip.model", Path(spec.origin).parent / "model")):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    encoder: torch.nn.Module = importlib.import_module("geoclip.model.location_encoder").LocationEncoder()
    return encoder.eval()


_encoder = _location_encoder()


def embed(points: NDArray[np.float64], batch: int = 4096) -> NDArray[np.float32]:
    """(n, 2) lon/lat degrees -> (n, 512); GeoCLIP itself takes latitude first."""
    with torch.inference_mode():
        parts = torch.from_numpy(points[:, ::-1].astype(np.float32).copy()).split(batch)
        return np.concatenate([_encoder(part).numpy() for part in parts])
