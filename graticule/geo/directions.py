"""Directions of vectors as whole numbers: length says nothing to a cosine, so each vector gets a scale of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STEP = 256  # of the coarse numbers, in fine ones
LARGEST = 127 * STEP


def fine(vectors: NDArray[Any]) -> NDArray[np.int16]:
    """(n, d) vectors, each divided by its largest number and rounded to 1 / 32,512 of it; zeros stay zeros."""
    values = np.asarray(vectors, dtype=np.float32)
    largest = np.abs(values).max(axis=1, keepdims=True, initial=0)
    return np.rint(values * (LARGEST / np.where(largest > 0, largest, 1))).astype(np.int16)


def coarse(numbers: NDArray[np.int16]) -> NDArray[np.int8]:
    """The `fine` numbers in one byte, -127 to 127."""
    return np.rint(numbers / np.float32(STEP)).astype(np.int8)


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """(n, d) vectors at length 1 in float32; zeros stay zeros."""
    values = np.asarray(vectors, dtype=np.float32)
    length = np.sqrt(np.einsum("nd,nd->n", values, values))[:, None]
    length[length == 0] = 1
    found: NDArray[np.float32] = values / length
    return found
