"""A region and what lies in it: the content of one row of a modality of kind "region"."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError


@dataclass(frozen=True, eq=False)
class Region:
    """Map entities that touch one region, each clipped to it, and an image of it where there is one.

    Coordinates are lon/lat degrees. Where a region crosses the antimeridian its longitudes run on past 180,
    those of its entities too.
    """

    outline: bytes  # WKB polygon or multipolygon
    ids: tuple[str, ...] = ()  # "node/1", "way/2", "relation/3", each once
    tags: tuple[dict[str, str], ...] = ()
    geometries: tuple[bytes, ...] = ()  # WKB, clipped to the outline, never empty
    shares: tuple[float, ...] = ()  # part of the entity's length or area that lies in the region; 1 for points
    image: NDArray[Any] | None = None  # (bands, height, width), north up
    covered: NDArray[np.bool_] | None = None  # (height, width): where the image has a pixel

    def __post_init__(self) -> None:
        lengths = {len(self.ids), len(self.tags), len(self.geometries), len(self.shares)}
        if len(lengths) > 1:
            raise DataError(
                f"A region needs one id, tags, geometry and share an entity, got {sorted(lengths)} of them."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> Region:
        """The region with only these entities, in this order."""
        return replace(
            self,
            ids=tuple(self.ids[i] for i in rows),
            tags=tuple(self.tags[i] for i in rows),
            geometries=tuple(self.geometries[i] for i in rows),
            shares=tuple(self.shares[i] for i in rows),
        )
