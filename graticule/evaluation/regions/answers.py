"""What is asked about regions and map entities, and how the answer is taken out of the map first.

A map that is asked how many traffic signals it shows must not show them: every task comes with a rule that removes
from the tags whatever says the answer. Vectors are made from what is left (`RegionTask.hidden`,
`EntityTask.hidden`), labels from the map as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.geo.region import Region

Tags = dict[str, str]
Remove = Callable[[Tags], Tags | None]
"""The tags without the answer; None where the entity itself is the answer."""
Label = float | tuple[float, ...] | None


@dataclass(frozen=True)
class RegionTask:
    """One number, or some numbers, of a region.

    label(region) of the map as it was; None where the region cannot be labelled. Always a regression: counts are
    labelled log(1 + count). An entity without tags that tell anything is removed as well.
    """

    name: str
    label: Callable[[Region], Label]
    remove: Remove
    columns: tuple[str, ...] = ()  # names of the numbers, where there are several

    def hidden(self, region: Region) -> Region:
        """The region without the answer."""
        return self.hide(region)[0]

    def hide(self, region: Region) -> tuple[Region, NDArray[np.int64]]:
        """The region without the answer, and (k,) the numbers that the entities left had before."""
        return hide(region, self.remove)


@dataclass(frozen=True)
class EntityTask:
    """One class, or one number, of a map entity.

    label(tags) as they were: a class number, a number where `classes` is empty, None where the entity is no case.
    `remove` must not make None of an entity that has a label.
    """

    name: str
    label: Callable[[Tags], float | None]
    remove: Remove
    classes: tuple[str, ...] = ()

    def hidden(self, region: Region) -> Region:
        """The region without the answer, for all of its entities; those with a label are all there."""
        return self.hide(region)[0]

    def hide(self, region: Region) -> tuple[Region, NDArray[np.int64]]:
        """The region without the answer, and (k,) the numbers that the entities left had before."""
        return hide(region, self.remove, {i for i, tags in enumerate(region.tags) if self.label(tags) is not None})


@dataclass(frozen=True)
class EntityRows:
    """Labelled entities of the regions of one city, each once.

    region (k,) and entity (k,): numbers of the region and of the entity within `task.hidden(region)`.
    """

    region: NDArray[np.int64]
    entity: NDArray[np.int64]
    label: NDArray[Any]

    def __len__(self) -> int:
        return len(self.label)


def words(text: str) -> frozenset[str]:
    """The words of a text, for lists of keys and values."""
    return frozenset(text.split())


def hide(region: Region, remove: Remove, always: set[int] | None = None) -> tuple[Region, NDArray[np.int64]]:
    """The region with the rule applied, and (k,) which entities are left; without tags only those of `always`."""
    left = [remove(tags) for tags in region.tags]
    stays = always or set()
    kept = np.array([i for i, tags in enumerate(left) if tags or (tags is not None and i in stays)], dtype=np.int64)
    part = region.take(kept)
    tags = tuple(left[i] or {} for i in kept)
    return Region(part.outline, part.ids, tags, part.geometries, part.shares, part.image, part.covered), kept


def region_labels(task: RegionTask, regions: Sequence[Region]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """(k,) the numbers of the regions that have a label, and their labels: (k,) or (k, columns)."""
    labels = [task.label(region) for region in regions]
    rows = np.array([i for i, label in enumerate(labels) if label is not None], dtype=np.int64)
    values = np.array([labels[i] for i in rows], dtype=np.float64)
    return rows, values.reshape(-1, len(task.columns)) if task.columns else values


def entity_rows(task: EntityTask, regions: Sequence[Region], most: int = 2000, seed: int = 0) -> EntityRows:
    """The labelled entities of one city, at most `most` of them, drawn at random with a seed.

    An entity that lies in several regions is a row of the one with its largest share, the first of equals.
    """
    best: dict[str, tuple[float, int, int, float]] = {}
    for number, region in enumerate(regions):
        labels = [task.label(tags) for tags in region.tags]
        if all(label is None for label in labels):
            continue
        for place, i in enumerate(task.hide(region)[1]):
            label, share = labels[i], region.shares[i]
            if label is not None and share > best.get(region.ids[i], (-1.0,))[0]:
                best[region.ids[i]] = (share, number, place, label)
    found = [best[identity] for identity in sorted(best)]
    drawn = np.sort(np.random.default_rng(seed).permutation(len(found))[:most])
    chosen = [found[i] for i in drawn]
    return EntityRows(
        region=np.array([row[1] for row in chosen], dtype=np.int64),
        entity=np.array([row[2] for row in chosen], dtype=np.int64),
        label=np.array([row[3] for row in chosen], dtype=np.int64 if task.classes else np.float64),
    )
