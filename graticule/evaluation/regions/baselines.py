"""Vectors of regions and entities that take no training, or little: what a learned representation has to beat.

All see regions from which the answer has been removed, and no labels. What is fitted is fitted on training cities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.harmonics import harmonics
from graticule.errors import DataError
from graticule.evaluation.predictors import Array
from graticule.evaluation.regions.answers import EntityRows, Tags
from graticule.geo.coords import Points
from graticule.geo.region import Region

MOST_TAGS = 500
DEGREE = 20  # of spherical harmonics: 441 columns
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Floats = NDArray[np.float32]
Vectors = Callable[[Sequence[Region]], Floats]


class TagSums(Protocol):
    """A table of frozen text vectors, such as `encoders.tags.TagTable`."""

    def sums(self, tags: Sequence[Tags]) -> tuple[NDArray[np.int64], Floats]:
        """(t,) rows of (s, d) sums of the vectors of each entity's tags; row 0 is all zeros."""
        ...


def nothing(regions: Sequence[Region]) -> Floats:
    """(n, 0): the probe says the training mean, or the most frequent class."""
    return np.zeros((len(regions), 0), np.float32)


def tag_counts(train: Sequence[Region], most: int = MOST_TAGS) -> Vectors:
    """log(1 + count) of the `most` tags that are most frequent in training regions, and of all entities of a region.

    Tags are key=value; equally frequent ones in order of the alphabet.
    """
    column = _frequent_tags(train, most)

    def vectors(regions: Sequence[Region]) -> Floats:
        counts = np.zeros((len(regions), len(column) + 1))
        for row, region in enumerate(regions):
            counts[row, -1] = len(region)
            for tags in region.tags:
                for tag in tags.items():
                    if tag in column:
                        counts[row, column[tag]] += 1
        return np.log1p(counts).astype(np.float32)

    return vectors


def entity_tag_counts(train: Sequence[Region], most: int = MOST_TAGS) -> Callable[[Sequence[Region]], list[Floats]]:
    """For every region (its entities, at most `most`): 1 where an entity has a tag that is frequent in training."""
    column = _frequent_tags(train, most)

    def parts(regions: Sequence[Region]) -> list[Floats]:
        found = []
        for region in regions:
            own = np.zeros((len(region), len(column)), np.float32)
            for row, tags in enumerate(region.tags):
                own[row, [column[tag] for tag in tags.items() if tag in column]] = 1
            found.append(own)
        return found

    return parts


def tag_parts(regions: Sequence[Region], table: TagSums) -> list[Floats]:
    """For every region (its entities, d): sums of tag vectors after layer norm; zeros for an entity without tags."""
    rows, sets = table.sums([tags for region in regions for tags in region.tags])
    sets = _layer_norm(sets)
    ends = np.cumsum([len(region) for region in regions], dtype=np.int64)
    return [sets[own] for own in np.split(rows, ends[:-1])] if len(regions) else []


def pooled(parts: Sequence[Array], count: bool = False) -> Floats:
    """Ragged (k, d) rows of n regions -> (n, 2 d) maximum and mean; zeros without rows; with `count` log(1 + k) also.

    The TagPool of GeoJEPA (Lundqvist 2025) for `tag_parts`, its geometry-only sibling for shape features.
    DataError when the parts have different widths.
    """
    widths = {part.shape[1] for part in parts}
    if len(widths) > 1:
        raise DataError(f"Parts to pool must have the same number of columns, got {sorted(widths)}.")
    width = widths.pop() if widths else 0
    out = np.zeros((len(parts), 2 * width + count), np.float32)
    for row, part in enumerate(parts):
        if len(part):
            out[row, :width], out[row, width : 2 * width] = part.max(0), part.mean(0)
        if count:
            out[row, -1] = np.log1p(len(part))
    return out


def tag_pool(regions: Sequence[Region], table: TagSums) -> Floats:
    """(n, 2 d) maximum and mean of the layer-normed sums of tag vectors of the entities of each region."""
    return pooled(tag_parts(regions, table))


def entity_vectors(own: Sequence[Array], pool: Array, rows: EntityRows) -> Floats:
    """(k, d + p): own rows of labelled entities beside the vector of their region.

    own: (entities, d) for every region of a city, with the answer hidden, so that `rows` count right; pool (n, p).
    """
    if len(own) != len(pool):
        raise DataError(f"Entities and pools must be of the same regions, got {len(own)} and {len(pool)}.")
    width = own[0].shape[1] if len(own) else 0
    found = [own[region][entity] for region, entity in zip(rows.region, rows.entity, strict=True)]
    return np.hstack([np.array(found, np.float32).reshape(-1, width), pool[rows.region]]).astype(np.float32)


def patch_statistics(patches: Array, seen: NDArray[np.bool_] | None = None) -> Floats:
    """(n, m, q) patches -> (n, 2 q): mean and standard deviation over the patches with all pixels; zeros without."""
    weight = (np.ones(patches.shape[:2]) if seen is None else seen)[:, :, None].astype(np.float64)
    count = np.maximum(weight.sum(1), 1)
    mean = (patches * weight).sum(1) / count
    variance = (np.square(patches - mean[:, None]) * weight).sum(1) / count
    return np.hstack([mean, np.sqrt(variance)]).astype(np.float32)


def image_statistics(regions: Sequence[Region]) -> Floats:
    """(n, 8 bands): mean, deviation, five quantiles and mean step between neighbours of each band of the images.

    Over pixels that are covered. Zeros for a region without an image. DataError for images of different bands, and
    when no region has one.
    """
    images = [region.image for region in regions if region.image is not None]
    if len({image.shape[0] for image in images}) != 1:
        raise DataError(
            f"Expected images of one number of bands, got {sorted({i.shape[0] for i in images}) or 'none'}."
        )
    width = images[0].shape[0] * (3 + len(QUANTILES))
    return np.array([np.zeros(width) if r.image is None else _statistics(r) for r in regions], dtype=np.float32)


def location_harmonics(points: Points, degree: int = DEGREE) -> Floats:
    """(n, (degree + 1)^2) spherical harmonics at the centres of the regions: where they are, and nothing else."""
    return np.asarray(harmonics(points, degree), dtype=np.float32)


def side_by_side(*vectors: Array) -> Floats:
    """Several vectors of the same rows as one."""
    return np.hstack(vectors).astype(np.float32)


def _statistics(region: Region) -> Array:
    """(8 bands,) for `image_statistics`."""
    image = np.asarray(region.image, np.float64)
    covered = np.ones(image.shape[1:], bool) if region.covered is None else region.covered
    if not covered.any():
        return np.zeros(len(image) * (3 + len(QUANTILES)))
    seen = image[:, covered]
    pairs = [(image[:, 1:], image[:, :-1], covered[1:] & covered[:-1]),
             (image[:, :, 1:], image[:, :, :-1], covered[:, 1:] & covered[:, :-1])]  # fmt: skip
    steps = np.concatenate([np.abs(a - b)[:, both] for a, b, both in pairs], axis=1)
    step = steps.mean(1) if steps.shape[1] else np.zeros(len(image))
    return np.concatenate([seen.mean(1), seen.std(1), np.quantile(seen, QUANTILES, axis=1).ravel(), step])


def _layer_norm(sums: Array) -> Floats:
    """Rows of mean 0 and deviation 1, as torch's layer norm without weights; rows of zeros stay."""
    centred = sums - sums.mean(1, keepdims=True)
    return np.asarray(centred / np.sqrt(np.square(centred).mean(1, keepdims=True) + 1e-5), dtype=np.float32)


def _frequent_tags(train: Sequence[Region], most: int) -> dict[tuple[str, str], int]:
    """Columns of the most frequent (key, value) pairs."""
    counts = Counter(tag for region in train for tags in region.tags for tag in tags.items())
    return {tag: i for i, (tag, _) in enumerate(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most])}
