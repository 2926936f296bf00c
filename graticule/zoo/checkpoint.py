"""Checkpoints of others: tensors and plain values only, and one clear sentence where something does not fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from graticule.errors import DataError

STATES = ("state_dict", "model_state_dict")
SETTINGS = ("hyper_parameters", "params")  # Lightning's name, and that of CSP and SINR


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: tensors by the authors' names, and their settings where they are stored beside them."""

    path: Path
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]

    def part(self, root: str, anchor: str) -> Part:
        """The tensors under `root`, wherever the module that has `root + anchor` was kept in a larger one."""
        whole = root + anchor
        outer = [name.removesuffix(whole) for name in self.tensors if f".{name}".endswith(f".{whole}")]
        if not outer:
            raise DataError(f"{self.path}: expected a tensor {whole!r}, got {_some(self.tensors)}.")
        prefix = min(outer, key=len) + root
        inside = {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}
        return Part(self.path, prefix, inside)

    def setting(self, name: str, valid: Mapping[Any, Any], default: str | None = None) -> Any:
        """`valid[value]` of a setting; without a default it must be stored in the file."""
        value = self.settings.get(name, default)
        if value not in valid:
            stored = f"{name}={value!r}" if name in self.settings else f"no {name!r} beside its tensors"
            raise DataError(f"{self.path}: expected {name} to be one of {', '.join(map(str, valid))}, got {stored}.")
        return valid[value]


@dataclass(frozen=True)
class Part:
    """The tensors of one module of a checkpoint by the authors' names below `prefix`."""

    path: Path
    prefix: str
    tensors: dict[str, Tensor]

    def shape(self, name: str, axes: int = 2) -> tuple[int, ...]:
        """The shape of a tensor with so many axes."""
        if name not in self.tensors:
            raise DataError(f"{self.path}: lacks {self.prefix + name!r}; it has {_some(self.tensors)}.")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != axes:
            raise DataError(f"{self.path}: expected {self.prefix + name!r} with {axes} axes, got shape {shape}.")
        return shape

    def tensor(self, name: str, expected: Sequence[int]) -> Tensor:
        """A tensor of just this shape."""
        if (shape := self.shape(name, len(expected))) != tuple(expected):
            wanted = f"expected {self.prefix + name!r} of shape {tuple(expected)}"
            raise DataError(f"{self.path}: {wanted}, got {shape}.")
        return self.tensors[name]

    def count(self, name: str) -> int:
        """How many of name.format(0), name.format(1), ... there are."""
        number = 0
        while name.format(number) in self.tensors:
            number += 1
        return number

    def fill(self, module: nn.Module, names: Mapping[str, str] | None = None, unused: tuple[str, ...] = ()) -> None:
        """Copy the tensors into `module`; `names`: our name of a tensor -> theirs where it differs.

        `unused` are names of theirs, or beginnings of them, that have no part in the forward pass.
        """
        theirs = {name: (names or {}).get(name, name) for name in module.state_dict()}
        state = {name: self.tensor(theirs[name], own.shape) for name, own in module.state_dict().items()}
        for name in self.tensors:
            if name not in theirs.values() and not name.startswith(unused):
                raise DataError(f"{self.path}: unexpected {self.prefix + name!r}; expected {_some(theirs.values())}.")
        module.load_state_dict(state)


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a .safetensors file, or of a file of `torch.save` read with weights_only=True.

    Raises DataError for a file that is missing, damaged, or holds Python objects beside tensors and plain values.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file: give the path of a downloaded checkpoint.")
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} is damaged or holds Python objects, which are never run here ({_first_line(error)}). "
            "If you trust it, load it yourself and save its tensors with safetensors.torch.save_file."
        ) from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a checkpoint: {_first_line(error)}.") from error
    outer = found if isinstance(found, dict) else {}
    state = next((outer[key] for key in STATES if isinstance(outer.get(key), dict)), outer)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise DataError(f"{path}: expected a dictionary of tensors, or one under {' or '.join(map(repr, STATES))}.")
    settings: dict[str, Any] = next((outer[key] for key in SETTINGS if isinstance(outer.get(key), dict)), {})
    return Checkpoint(path, tensors, settings)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(map(repr, listed[:3])) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
