"""Weights on disk as numpy arrays, with a digest of their own: what is damaged is named and refused, never used.

The reading half of a run that needs no torch; `graticule.tensors` writes such files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from graticule.errors import CacheError

Arrays = dict[str, NDArray[Any]]
Entry = tuple[str, tuple[int, ...], str, Any]  # name, shape, dtype as torch writes it, bytes


def digest(entries: Iterable[Entry], metadata: Mapping[str, str]) -> str:
    """BLAKE2b-128 of tensors in the order of their names, and of the metadata, as hex."""
    state = hashlib.blake2b(digest_size=16)
    for key in sorted(metadata):
        state.update(f"{key}={metadata[key]}\n".encode())
    for name, shape, dtype, data in entries:
        state.update(f"{name}{shape}{dtype}".encode())
        state.update(data)
    return state.hexdigest()


def damaged(path: Path, why: object) -> CacheError:
    """The error for a file of weights that is missing or cannot be read."""
    return CacheError(f"{path} is missing or damaged ({why}). Delete it and train again.")


def read_weights(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Arrays by name and metadata of a file of `graticule.tensors.save_tensors`; CacheError when it is damaged."""
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise damaged(path, error) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":  # bfloat16, which numpy knows only where other libraries taught it
            raise damaged(path, f"{name} is {array.dtype}, which numpy has no type for")
    entries = ((n, a.shape, f"torch.{a.dtype}", a.reshape(-1).view(np.uint8).data) for n, a in sorted(arrays.items()))
    if metadata.pop("blake2b", None) != digest(entries, metadata):
        raise CacheError(f"{path} is damaged: its digest does not match. Delete it and train again.")
    return arrays, metadata


@dataclass(frozen=True)
class Weights:
    """The arrays of a run in `folder` whose names begin with `prefix`, each taken once and in the shape expected."""

    folder: Path
    arrays: Mapping[str, NDArray[Any]]
    prefix: str = ""
    taken: set[str] = field(default_factory=set)

    def under(self, prefix: str) -> Weights:
        """Those whose names go on with `prefix`."""
        return Weights(self.folder, self.arrays, self.prefix + prefix, self.taken)

    def take(self, name: str, *shape: int) -> NDArray[np.float32]:
        """One array in float32; CacheError when it is missing or of another shape."""
        whole = self.prefix + name
        array = self.arrays.get(whole)
        if array is None or array.shape != shape:
            raise self._misfit(f"expected {whole!r} of shape {shape}, got {'none' if array is None else array.shape}")
        self.taken.add(whole)
        return np.asarray(array, dtype=np.float32)

    def finish(self) -> None:
        """CacheError when an array under the prefix was not taken."""
        left = sorted(n for n in self.arrays if n.startswith(self.prefix) and n not in self.taken)
        if left:
            raise self._misfit(f"unexpected {left[0]!r}")

    def _misfit(self, why: str) -> CacheError:
        return CacheError(f"{self.folder}/model.safetensors does not fit {self.folder}/run.json: {why}.")
