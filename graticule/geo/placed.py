"""Placed data: rows of one modality, each with its own coordinate. Modalities need not share places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError
from graticule.geo.tokens import Tokens


@dataclass(frozen=True)
class Placed:
    """Rows of ONE modality, each with its own coordinate.

    lonlat     (n, 2) float64 degrees: numpy at rest, a tensor in training
    features   (n, ...) array or tensor, or Tokens
    ids        (n,) names, or None
    basis      (n, c) columns of the location basis that training leaves as they are, or None: they are computed
    whole      (N, 2) places of all rows of a batch, where these are the share that one process has of it; else None
    """

    lonlat: Any
    features: Any
    ids: NDArray[np.str_] | None = None
    basis: Any = None
    whole: Any = None

    def __post_init__(self) -> None:
        for what, rows in (("features", self.features), ("ids", self.ids), ("basis", self.basis)):
            if rows is not None and len(rows) != len(self.lonlat):
                raise DataError(
                    f"Placed needs one row of {what} a place: {len(self.lonlat)} places, {len(rows)} {what}."
                )

    def __len__(self) -> int:
        return len(self.lonlat)

    @property
    def everywhere(self) -> Any:
        """Places of all rows of the batch, those of other processes too."""
        return self.lonlat if self.whole is None else self.whole

    def take(self, rows: NDArray[np.int64]) -> Placed:
        """The rows with these numbers, in this order."""
        features = self.features.take(rows) if isinstance(self.features, Tokens) else self.features[rows]
        ids, basis = (None if part is None else part[rows] for part in (self.ids, self.basis))
        return Placed(self.lonlat[rows], features, ids, basis)


Batch = dict[str, Placed]
