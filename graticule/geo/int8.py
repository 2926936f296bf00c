"""Vectors as smaller numbers: of two bytes, or of one byte with a scale for each column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError

NUMBERS = ("float32", "float16", "int8")  # what a file of vectors may hold
LARGEST = 127  # symmetric: -128 is not used
FLOOR = 1e-30  # what is smaller counts as 0: a scale must not vanish


def column_scales(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """(n, d) vectors -> (d,) scales, largest absolute value / 127; 1 for columns of zeros. DataError without rows."""
    if not len(vectors):
        raise DataError("Scales of columns need at least one vector, got none.")
    largest = np.abs(vectors).max(axis=0)
    return np.where(largest > FLOOR, largest / LARGEST, 1).astype(np.float32)


def to_int8(vectors: NDArray[Any], scales: NDArray[np.float32]) -> NDArray[np.int8]:
    """(n, d) vectors over (d,) scales, rounded; what lies beyond 127 steps becomes 127, so the error there is larger.

    Elsewhere it is at most half a scale; `vectors = numbers * scales` is the way back.
    """
    return np.clip(np.rint(vectors / scales), -LARGEST, LARGEST).astype(np.int8)


def stored(vectors: NDArray[np.float32], quantization: Mapping[str, Any] | None) -> NDArray[Any]:
    """Vectors as a file keeps them: float32 of None, float16 of {"type": "float16"}, int8 of that with its "scale"."""
    if quantization is None:
        return vectors
    if quantization["type"] == "float16":
        return vectors.astype(np.float16)
    return to_int8(vectors, np.asarray(quantization["scale"], dtype=np.float32))
