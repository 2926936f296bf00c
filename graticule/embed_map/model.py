"""The trained model: regions in, one vector a region and one an entity out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graticule.geo.region import Region

if TYPE_CHECKING:
    from graticule.data.source import Source
    from graticule.embed_map.frames import MapVectors

BATCH_TOKENS = 16_384  # of one pass through the encoder
Vectors = NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class MapModel:
    """A frozen trunk that turns regions into tokens, and the trained encoder of tokens."""

    folder: Path
    about: dict[str, Any]
    trunk: Any  # encoders.region.RegionTrunk
    encoder: Any  # encoders.region_encoder.RegionEncoder

    def __repr__(self) -> str:
        return (
            f"MapModel({self.about['name']!r}, {self.about['recipe']}, regions {self.dim}-d, entities {self.width}-d)"
        )

    @property
    def dim(self) -> int:
        """Length of a region's vector."""
        return int(self.encoder.region_dim)

    @property
    def width(self) -> int:
        """Length of an entity's vector."""
        return int(self.encoder.entity_dim)

    @property
    def image_pixels(self) -> int | None:
        """Side of the images that the model was trained with, None without."""
        if not self.encoder.has_patches:
            return None
        return math.isqrt(self.encoder.config["patches"]) * int(self.about["trunk"]["patch_pixels"])

    def embed_regions(
        self, regions: Sequence[Region], batch_tokens: int = BATCH_TOKENS
    ) -> tuple[Vectors, list[Vectors]]:
        """Regions -> (n, dim) float32, and for each the (its entities, width) float32 in the order of its ids.

        At most `batch_tokens` tokens go through the encoder at once, a larger region alone. The vectors of a region
        do not depend on the others (beyond rounding). A model of images takes regions without one as not seen.
        """
        from graticule.encoders.region_vectors import encoded

        return encoded(self.trunk, self.encoder, regions, batch_tokens)

    def embed_map(
        self,
        source: Source | str | Path | Sequence[str | Path],
        *,
        cells: str | Path = "slippy:16",
        images: str | Path | None = None,
        image_km: float | None = None,
    ) -> MapVectors:
        """Frames `regions`, `features`, `joint` of a map: an extract's path, several, or a source of regions.

        `cells`, `images` and `image_km` say how paths are cut into regions, see `graticule.data.osm.source.osm`.
        All is held in memory; `graticule.embed_map.write_map` streams a large map to files instead.
        """
        from graticule.data.source import Source
        from graticule.embed_map.frames import frames

        if not isinstance(source, Source):
            from graticule.data.osm.source import osm

            pixels: dict[str, Any] = {} if self.image_pixels is None else {"image_pixels": self.image_pixels}
            source = osm(source, cells=cells, images=images, image_km=image_km, **pixels)
        return frames(self, source)


def load_map(folder: str | Path | None = None) -> MapModel:
    """The trained JEPA in a run's folder, or without one the small model that ships inside the package.

    Raises DataError when the folder holds no finished run of a geojepa recipe, CacheError when it is damaged.
    """
    from graticule.encoders.region_vectors import INSIDE, saved

    where = INSIDE if folder is None else Path(folder)
    trunk, encoder, about = saved(where)
    return MapModel(where, about, trunk, encoder)
