"""Tensors on disk with a digest of their own: what is damaged is named and refused, never used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from graticule.errors import CacheError
from graticule.files import atomic_write
from graticule.weights import damaged, digest


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    return digest(((name, *_content(tensors[name])) for name in sorted(tensors)), metadata)


def _content(tensor: Tensor) -> tuple[tuple[int, ...], str, Any]:
    whole = tensor.detach().cpu().contiguous()
    return tuple(whole.shape), str(whole.dtype), whole.reshape(-1).view(torch.uint8).numpy().data


def save_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write tensors as safetensors, atomically, with a digest in the metadata."""
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    sealed = {**metadata, "blake2b": _digest(whole, metadata)}
    atomic_write(path, lambda temporary: save_file(whole, temporary, metadata=sealed))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of `save_tensors`; CacheError when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, error) from error
    if metadata.pop("blake2b", None) != _digest(tensors, metadata):
        raise CacheError(f"{path} is damaged: its digest does not match. Delete it and train again.")
    return tensors, metadata


def fill(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, folder: Path) -> None:
    """Load a run's weights whose names begin with `prefix` into a module and freeze it; halves become float32.

    CacheError when they do not fit what the run.json in `folder` says.
    """
    own = {
        name.removeprefix(prefix): tensor.float()
        if tensor.is_floating_point() and tensor.element_size() < 4
        else tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise CacheError(f"{folder}/model.safetensors does not fit {folder}/run.json: {error}") from error
    module.requires_grad_(False)


def flatten_optimiser(state: Mapping[int, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Optimiser state by parameter number -> flat names like "optimiser/3/exp_avg"."""
    return {
        f"optimiser/{i}/{key}": torch.as_tensor(value) for i, entry in state.items() for key, value in entry.items()
    }


def unflatten_optimiser(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The inverse of `flatten_optimiser`; other names are left alone."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser/"):
            _, index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
    return state
