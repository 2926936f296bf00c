"""One implementation for numpy arrays and torch tensors: ask an array for its library."""

from __future__ import annotations

from typing import Any

import numpy as np


def namespace(array: Any) -> Any:
    """`numpy` for an ndarray, `torch` for a tensor; torch is imported only when a tensor arrives."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch
