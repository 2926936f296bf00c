"""Vectors of regions and of their entities by a trained GeoJEPA: what `MapModel` gives, and a trunk for towers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from graticule.encoders.region import RegionTrunk
from graticule.encoders.region_encoder import RegionEncoder, region_encoder
from graticule.encoders.tags import TagTable
from graticule.errors import SettingError
from graticule.files import digest_file
from graticule.finished import about_run
from graticule.geo.region import Region
from graticule.geo.tokens import Tokens
from graticule.tensors import fill, load_tensors

BATCH_TOKENS = 16_384  # of one pass through the encoder
INSIDE = Path(__file__).parent.parent / "geojepa"  # the released model
Vectors = NDArray[np.float32]


class RegionVectorsTrunk:
    """Regions -> (n, dim) vectors of a trained GeoJEPA: OpenStreetMap as one more modality that is tied to position.

    `folder` is that of a run, None the model inside the package.
    """

    kind = "region"

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = INSIDE if folder is None else Path(folder)
        self.config: dict[str, Any] = {"name": "regions", "folder": None if folder is None else str(folder)}
        self.trunk, self.encoder, _ = saved(self.folder)

    def identity(self) -> dict[str, Any]:
        """The weights, and the table of tags."""
        files = ("model.safetensors", "tags.safetensors", "run.json")
        return {"name": "regions", "files": {name: digest_file(self.folder / name) for name in files}}

    def __call__(self, contents: Sequence[Region]) -> Vectors:
        """`n` regions -> (n, dim) float32."""
        return encoded(self.trunk, self.encoder, contents)[0]


def saved(folder: Path) -> tuple[RegionTrunk, RegionEncoder, dict[str, Any]]:
    """The trunk and the encoder of a finished run and its run.json.

    DataError when the folder holds no finished run of a geojepa recipe, CacheError when it is damaged.
    """
    about = about_run(folder, "encoder", "it embeds places. Expected a run of geojepa over regions of maps.")
    tensors, _ = load_tensors(folder / "model.safetensors")
    encoder = region_encoder(**about["encoder"])
    fill(encoder, tensors, "encoder.", folder)
    return RegionTrunk(TagTable.load(folder / "tags.safetensors"), **about["trunk"]), encoder.eval(), about


def encoded(
    trunk: RegionTrunk, encoder: RegionEncoder, regions: Sequence[Region], batch_tokens: int = BATCH_TOKENS
) -> tuple[Vectors, list[Vectors]]:
    """Regions -> (n, dim) float32, and for each the (its entities, entity_dim) float32 in the order of its ids.

    At most `batch_tokens` tokens go through the encoder at once, a larger region alone. The vectors of a region
    do not depend on the others (beyond rounding). An encoder of images takes regions without one as not seen.
    """
    if not regions:
        return np.zeros((0, encoder.region_dim), dtype=np.float32), []
    return encoded_tokens(encoder, trunk(regions), batch_tokens)


def encoded_tokens(
    encoder: RegionEncoder, tokens: Tokens, batch_tokens: int = BATCH_TOKENS
) -> tuple[Vectors, list[Vectors]]:
    """The same for regions that are tokens (numpy) already."""
    if batch_tokens < 1:
        raise SettingError(f"batch_tokens must be at least 1, got {batch_tokens}.")
    whole = np.zeros((len(tokens), encoder.region_dim), dtype=np.float32)
    parts: list[Vectors] = [np.zeros((0, encoder.entity_dim), dtype=np.float32)] * len(tokens)
    tokens = _with_patches(tokens, encoder)
    for rows in batches(tokens.lengths, batch_tokens):
        entities, whole[rows] = _pass(encoder, tokens.take(rows))
        ends = np.cumsum(np.diff(tokens.offsets)[rows])
        parts[rows[0] : rows[-1] + 1] = np.split(entities, ends[:-1])
    return whole, parts


def _with_patches(tokens: Tokens, encoder: RegionEncoder) -> Tokens:
    if not encoder.has_patches or tokens.patches is not None:
        return tokens
    shape = (len(tokens), encoder.config["patches"], encoder.config["patch_dim"])
    return replace(tokens, patches=np.zeros(shape, np.float32), seen=np.zeros(shape[:2], bool))


def _pass(encoder: RegionEncoder, tokens: Tokens) -> tuple[Vectors, Vectors]:
    with torch.inference_mode():
        found = encoder(tokens.to(next(encoder.parameters()).device))
    return found.vectors.float().cpu().numpy(), found.regions.float().cpu().numpy()


def batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of neighbouring rows whose lengths add up to at most `batch_tokens`, or of one row."""
    start = total = 0
    for i, length in enumerate(lengths.tolist()):
        if i > start and total + length > batch_tokens:
            yield np.arange(start, i)
            start, total = i, 0
        total += length
    yield np.arange(start, len(lengths))
