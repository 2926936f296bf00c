"""A run ready to be trained, whatever its recipe."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graticule.errors import SettingError
from graticule.geo.placed import Batch
from graticule.learners.base import Learner
from graticule.settings import Settings
from graticule.training.trainer import Phase


@dataclass(frozen=True)
class Assembled:
    """What is trained on what, and what the finished run keeps of it."""

    learner: Learner
    sources: Batch
    phases: list[Phase]
    about: dict[str, Any]  # for run.json: how to rebuild what is kept
    kept: tuple[str, ...]  # beginnings of the names of parameters that the finished run keeps
    finish: Callable[[], None] = lambda: None  # the last touch, when training is over
    keep_beside: Callable[[Path], object] = lambda folder: None  # writes what else it needs into its folder


def device(settings: Settings) -> torch.device:
    """Where a run trains; "auto" is CUDA where there is one, of several the one that torchrun gave this process."""
    name = settings.device
    if name not in ("auto", "cpu", "cuda"):
        raise SettingError(f"device must be auto, cpu or cuda, got {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingError("device=cuda was asked for, but torch sees no CUDA device here. Use device=auto or cpu.")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if "LOCAL_RANK" in os.environ else torch.device("cuda")
