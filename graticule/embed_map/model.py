"""The trained model: regions in, one vector a region and one an entity out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import CacheError, DataError, SettingError
from graticule.files import read_json
from graticule.geo.region import Region
from graticule.geo.tokens import Tokens

if TYPE_CHECKING:
    from graticule.data.source import Source
    from graticule.embed_map.frames import MapVectors

FORMAT = 1
INSIDE = Path(__file__).parent.parent / "geojepa"  # the released model
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
        return int(self.encoder.width)

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
        if batch_tokens < 1:
            raise SettingError(f"batch_tokens must be at least 1, got {batch_tokens}.")
        whole = np.zeros((len(regions), self.dim), dtype=np.float32)
        parts: list[Vectors] = [np.zeros((0, self.width), dtype=np.float32)] * len(regions)
        if not regions:
            return whole, parts
        tokens = self._with_patches(self.trunk(regions))
        for rows in _batches(tokens.lengths, batch_tokens):
            entities, whole[rows] = self._encode(tokens.take(rows))
            ends = np.cumsum(np.diff(tokens.offsets)[rows])
            parts[rows[0] : rows[-1] + 1] = np.split(entities, ends[:-1])
        return whole, parts

    def _with_patches(self, tokens: Tokens) -> Tokens:
        if not self.encoder.has_patches or tokens.patches is not None:
            return tokens
        shape = (len(tokens), self.encoder.config["patches"], self.encoder.config["patch_dim"])
        return replace(tokens, patches=np.zeros(shape, np.float32), seen=np.zeros(shape[:2], bool))

    def _encode(self, tokens: Tokens) -> tuple[Vectors, Vectors]:
        import torch

        with torch.inference_mode():
            encoded = self.encoder(tokens.to(next(self.encoder.parameters()).device))
        return encoded.entities.float().cpu().numpy(), encoded.regions.float().cpu().numpy()

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


def _batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of neighbouring rows whose lengths add up to at most `batch_tokens`, or of one row."""
    start = total = 0
    for i, length in enumerate(lengths.tolist()):
        if i > start and total + length > batch_tokens:
            yield np.arange(start, i)
            start, total = i, 0
        total += length
    yield np.arange(start, len(lengths))


def load_map(folder: str | Path | None = None) -> MapModel:
    """The trained JEPA in a run's folder, or without one the small model that ships inside the package.

    Raises DataError when the folder holds no finished run of a geojepa recipe, CacheError when it is damaged.
    """
    from graticule.encoders.region_encoder import region_encoder
    from graticule.training.checkpoint import load_tensors

    where = INSIDE if folder is None else Path(folder)
    about = _about(where, shipped=folder is None)
    tensors, _ = load_tensors(where / "model.safetensors")
    encoder = region_encoder(**about["encoder"])
    own = {name.removeprefix("encoder."): t.float() for name, t in tensors.items() if name.startswith("encoder.")}
    try:
        encoder.load_state_dict(own)
    except RuntimeError as error:
        raise CacheError(f"{where}/model.safetensors does not fit {where}/run.json: {error}") from error
    return MapModel(where, about, _trunk(where, about["trunk"]), encoder.requires_grad_(False).eval())


def _about(folder: Path, *, shipped: bool) -> dict[str, Any]:
    if not (folder / "run.json").exists():
        if shipped:
            raise DataError(
                "This package holds no trained GeoJEPA model yet: train one with `graticule train geojepa` "
                "and give its folder."
            )
        unfinished = (
            " It holds an unfinished one: run the same `train` again." if (folder / "log.jsonl").exists() else ""
        )
        raise DataError(f"{folder} holds no trained run (run.json is missing).{unfinished}")
    about: dict[str, Any] = read_json(folder / "run.json")
    if about.get("format") != FORMAT:
        raise CacheError(f"{folder}/run.json is of format {about.get('format')}, this version reads {FORMAT}.")
    if "encoder" not in about or "trunk" not in about:
        raise DataError(f"{folder} holds a run of {about.get('recipe')}, expected one of geojepa over regions of maps.")
    return about


def _trunk(folder: Path, config: dict[str, Any]) -> Any:
    from graticule.encoders.region import RegionTrunk
    from graticule.encoders.tags import TagTable

    return RegionTrunk(TagTable.load(folder / "tags.safetensors"), **config)
