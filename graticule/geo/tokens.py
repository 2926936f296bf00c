"""Regions as numbers: a ragged row of entity tokens and a fixed grid of image patches a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError
from graticule.geo.arrays import namespace


@dataclass(frozen=True)
class Tokens:
    """Tokens of n regions; region i has the entities `offsets[i]:offsets[i + 1]`. numpy at rest, tensors in training.

    Entities with the same tags share a row of `tag_sets`; row 0 is all zeros and stands for no tags.
    """

    offsets: Any  # (n + 1,) int64
    tags: Any  # (t,) int64 rows of tag_sets
    geometry: Any  # (t, g) float32, see encoders.shapes
    position: Any  # (t, p) float32, see encoders.shapes
    tag_sets: Any  # (s, d) float32 sums of tag vectors
    frequent: Any = None  # (s, k) float32: which of the most frequent tags are in the set, 0 or 1; None for k = 0
    patches: Any = None  # (n, m, q) float32: m image patches of q numbers each, or None for a modality without images
    seen: Any = None  # (n, m) bool: patches whose pixels are all there

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) tokens of each region: its entities and the patches that were seen."""
        entities = np.diff(np.asarray(self.offsets))
        return entities if self.seen is None else entities + np.asarray(self.seen).sum(axis=1)

    def arrays(self) -> dict[str, Any]:
        """The parts that are there, by name."""
        return {name: value for name in self.__dataclass_fields__ if (value := getattr(self, name)) is not None}

    def take(self, rows: NDArray[np.int64]) -> Tokens:
        """The regions with these numbers, in this order; only the tag sets that they use."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        index = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        used, tags = np.unique(np.concatenate([[0], self.tags[index]]), return_inverse=True)
        return self.chosen(rows, index, offsets, used, tags[1:])

    def chosen(self, regions: Any, entities: Any, offsets: Any, used: Any, tags: Any) -> Tokens:
        """Some regions with `offsets` into some entities, whose `tags` count the `used` tag sets; arrays or tensors."""
        return replace(
            self,
            offsets=offsets,
            tags=tags,
            geometry=self.geometry[entities],
            position=self.position[entities],
            tag_sets=self.tag_sets[used],
            frequent=None if self.frequent is None else self.frequent[used],
            patches=None if self.patches is None else self.patches[regions],
            seen=None if self.seen is None else self.seen[regions],
        )

    def where(self, keep: NDArray[np.bool_]) -> Tokens:
        """The same regions with only the entities where `keep`, (t,) bool, is true."""
        kept = np.concatenate([[0], np.cumsum(keep)])[self.offsets]
        return replace(
            self, offsets=kept, tags=self.tags[keep], geometry=self.geometry[keep], position=self.position[keep]
        )

    def to(self, device: Any) -> Tokens:
        """The same as torch tensors on a device."""
        import torch

        return Tokens(**{n: torch.as_tensor(np.ascontiguousarray(a)).to(device) for n, a in self.arrays().items()})


def join(parts: Sequence[Tokens]) -> Tokens:
    """The regions of all parts, in order; their tables of tag sets are put one below the other."""
    if not parts:
        raise DataError("There are no tokens to join: expected at least one part.")
    starts = np.cumsum([0, *(len(part.tag_sets) for part in parts)])
    ends = np.cumsum([0, *(part.offsets[-1] for part in parts)])
    tags = [np.where(part.tags == 0, 0, part.tags + start) for part, start in zip(parts, starts, strict=False)]
    images = [part.patches for part in parts]
    if len({None if image is None else image.shape[1:] for image in images}) > 1:
        raise DataError("Regions with images and regions without, or with other patches, cannot be joined.")
    counted = {0 if part.frequent is None else part.frequent.shape[1] for part in parts}
    if len(counted) > 1:
        raise DataError(f"Regions with {' and '.join(map(str, sorted(counted)))} frequent tags cannot be joined.")
    return Tokens(
        offsets=np.concatenate([[0], *(part.offsets[1:] + end for part, end in zip(parts, ends, strict=False))]),
        tags=np.concatenate(tags),
        geometry=np.concatenate([part.geometry for part in parts]),
        position=np.concatenate([part.position for part in parts]),
        tag_sets=np.concatenate([part.tag_sets for part in parts]),
        frequent=None if parts[0].frequent is None else np.concatenate([part.frequent for part in parts]),
        patches=None if images[0] is None else np.concatenate(images),
        seen=None if images[0] is None else np.concatenate([part.seen for part in parts]),
    )


def padded(values: Any, offsets: Any) -> tuple[Any, Any]:
    """Ragged (t, ...) rows -> (n, longest, ...) filled up with zeros, and (n, longest) bool: where there is a row."""
    xp = namespace(values)
    lengths = offsets[1:] - offsets[:-1]
    longest = int(lengths.max()) if len(lengths) else 0
    present = xp.arange(longest, **({} if xp is np else {"device": values.device}))[None, :] < lengths[:, None]
    out = xp.zeros(
        (len(lengths), longest, *values.shape[1:]),
        dtype=values.dtype,
        **({} if xp is np else {"device": values.device}),
    )
    out[present] = values
    return out, present
