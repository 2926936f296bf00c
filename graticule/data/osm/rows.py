"""Regions and the parts of entities in them as rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.data.osm.entities import EXAMPLES
from graticule.data.osm.spill import Group
from graticule.data.source import Row, Skip
from graticule.errors import need
from graticule.geo.partition import Partition
from graticule.geo.region import Region

ImageOf = Callable[[Any], tuple[NDArray[Any], NDArray[np.bool_]]]
Part = tuple[Any, ...]  # id, tags as JSON, WKB, share
OWN_SHARE = 0.02  # of an entity that is a region's own
BATCH_REGIONS, BATCH_PARTS = 256, 20_000  # regions named and drawn at a time, and parts after which a batch ends


@dataclass
class Counts:
    """What became of regions, and of entities between the reader and the regions."""

    kept: int = 0
    covered: int | None = None  # regions whose image has a pixel
    skipped: dict[str, int] = field(default_factory=dict)  # reason -> regions
    empty: int | None = None  # regions of the bounding box that have nothing, or only broad entities and too few
    noted: dict[str, int] = field(default_factory=dict)  # what -> how many entities, parts of them or regions
    examples: dict[str, list[str]] = field(default_factory=dict)  # what -> some ids

    def skip(self, reason: str) -> None:
        """Add one region without a row."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def count(self, what: str, ids: Sequence[str]) -> None:
        """Add these."""
        if ids:
            self.noted[what] = self.noted.get(what, 0) + len(ids)
            examples = self.examples.setdefault(what, [])
            examples.extend(ids[: EXAMPLES - len(examples)])

    def as_json(self) -> dict[str, Any]:
        """The counts in JSON types."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if getattr(self, name) is not None}


@dataclass(frozen=True)
class Choice:
    """Which regions give rows, and which entities of an overfull one are taken.

    `least` counts the entities of a region's own: those of which at least a fiftieth lies in it. A national boundary
    that touches thousands of regions makes none of them worth a row.
    """

    least: int = 1
    most: int = 0  # 0: all
    seed: int = 0

    def rows(self, n: int, region: str) -> NDArray[np.int64]:
        """Numbers of the entities taken of `n`, ascending; depends on the seed and the region's id only."""
        if not self.most or n <= self.most:
            return np.arange(n)
        digest = int.from_bytes(hashlib.blake2b(region.encode(), digest_size=8).digest(), "little")
        return np.sort(np.random.default_rng([self.seed, digest]).choice(n, self.most, replace=False))


def records(
    groups: Iterable[Group],
    name: str,
    regions: Partition,
    choice: Choice,
    counts: Counts,
    image_of: ImageOf | None,
) -> Iterator[Row | Skip]:
    """One record a region and its parts: a row whose id begins with `name`, or why there is none; all are counted."""
    shapely = need("shapely", "osm")
    for batch in _batches(groups):
        keys = np.array([key for key, _ in batch], dtype=np.int64)
        outlines = regions.outlines(keys)
        about = zip(regions.ids(keys), regions.centre(keys).tolist(), outlines, shapely.to_wkb(outlines), strict=True)
        for (_, parts), (region, (lon, lat), outline, wkb) in zip(batch, about, strict=True):
            chosen = _chosen(parts, region, name + region, choice, counts)
            if isinstance(chosen, Skip):
                yield chosen
                continue
            image, covered = (None, None) if image_of is None else image_of(outline)
            if covered is not None:
                counts.covered = (counts.covered or 0) + bool(covered.any())
            ids, tags, geometries, shares = zip(*chosen, strict=True)
            content = Region(wkb, ids, tuple(json.loads(f"[{','.join(tags)}]")), geometries, shares, image, covered)
            yield Row(name + region, lon, lat, content)


def _batches(groups: Iterable[Group]) -> Iterator[list[Group]]:
    held: list[Group] = []
    size = 0
    for group in groups:
        held.append(group)
        size += len(group[1])
        if len(held) == BATCH_REGIONS or size >= BATCH_PARTS:
            yield held
            held, size = [], 0
    if held:
        yield held


def _chosen(parts: list[Part], region: str, name: str, choice: Choice, counts: Counts) -> list[Part] | Skip:
    """The parts that the region's row holds: each id once, and no more than asked for."""
    first: dict[str, Part] = {}
    for part in parts:
        first.setdefault(part[0], part)
    once = list(first.values())
    if len(once) < len(parts):
        counts.count(
            "parts of ids that came again, left out", [part[0] for part in parts if part is not first[part[0]]]
        )
    own = sum(part[3] >= OWN_SHARE for part in once)
    if not once or own < choice.least:
        reason = f"fewer than {choice.least} entities of its own" if once else "no entities"
        counts.skip(reason)
        return Skip(reason, name)
    counts.kept += 1
    rows = choice.rows(len(once), region)
    if len(rows) < len(once):
        counts.count("overfull regions", [name])
        counts.count(
            "parts sampled out of overfull regions", [once[i][0] for i in np.delete(np.arange(len(once)), rows)]
        )
    return [once[i] for i in rows]
