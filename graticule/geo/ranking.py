"""The most similar rows that lie apart from one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from graticule.geo.coords import Points, great_circle_km


@dataclass(frozen=True)
class Found:
    """One answer: name, place in degrees, cosine similarity to the question, distance in km from a place asked for."""

    name: str
    lon: float
    lat: float
    similarity: float
    distance_km: float | None = None
    tags: dict[str, str] = field(default_factory=dict)  # of a map entity


def best_apart(
    scores: NDArray[np.floating], points: Points, k: int, *, place: Points | None = None, apart_km: float = 0.0
) -> Iterator[int]:
    """Numbers of the k rows with the largest finite scores, best first.

    With `apart_km` a row lies at least so far from every better one, and from `place` (1, 2) where given.
    """
    free = np.isfinite(scores)
    if place is not None and apart_km > 0:
        free &= great_circle_km(place, points) >= apart_km
    for i in np.argsort(-scores, kind="stable"):
        if k == 0:
            return
        if free[i]:
            k -= 1
            yield int(i)
            if apart_km > 0:
                free &= great_circle_km(points[i : i + 1], points) >= apart_km
