"""What every way to cut the Earth into regions offers, and which shapes lie in which regions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import need
from graticule.geo.antimeridian import moved, unwrapped
from graticule.geo.clip import clip, homogeneous
from graticule.geo.coords import Points
from graticule.geo.measure import area_km2, measure

MOST_REGIONS = 100_000  # of one shape; a shape that meets more is left out
ROUNDING = 1e-9  # a part below this fraction of both the shape and the region is an error of rounding

Keys = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Shapes that may lie in regions: the row of the shape, the key of the region, the shape or enough of it."""

    rows: NDArray[np.int64]
    keys: Keys
    shapes: NDArray[np.object_]
    whole: NDArray[np.bool_]  # the shape is known to lie in the region altogether

    def where(self, keep: NDArray[Any]) -> Pairs:
        """Only these pairs."""
        return Pairs(self.rows[keep], self.keys[keep], self.shapes[keep], self.whole[keep])


@dataclass(frozen=True)
class Members:
    """Parts of shapes in regions, sorted by shape and region: each shape once a region, no part empty."""

    rows: NDArray[np.int64]  # number of the shape
    keys: Keys  # the region
    geometry: NDArray[np.object_]  # the part inside
    shares: NDArray[np.float64]  # part of the shape's length or area that lies inside; 1 for points
    too_wide: NDArray[np.int64]  # rows of shapes left out because they meet more than MOST_REGIONS regions
    mended: NDArray[np.int64]  # rows of polygons that cross or touch themselves and were made valid to be cut


class Partition(ABC):
    """Regions of the Earth by int64 keys; they need not cover it, and may overlap.

    `about` names the partition in JSON types, `files` are those it was read from. Outlines that cross the antimeridian
    have longitudes that run on past 180; parts of shapes are moved by 360 degrees to lie in them.
    """

    about: dict[str, Any]
    files: tuple[Path, ...] = ()

    @abstractmethod
    def outlines(self, keys: Keys) -> NDArray[np.object_]:
        """(n,) keys -> (n,) shapely polygons or multipolygons."""

    @abstractmethod
    def ids(self, keys: Keys) -> list[str]:
        """(n,) keys -> names."""

    @abstractmethod
    def centre(self, keys: Keys) -> Points:
        """(n,) keys -> (n, 2) lon/lat degrees."""

    @abstractmethod
    def _pairs(self, shapes: NDArray[np.object_]) -> tuple[Pairs, NDArray[np.int64]]:
        """Every pair of a shape and a region that may meet, none twice, and the rows of shapes that are too wide."""

    def all_keys(self) -> Keys | None:
        """Every region, where they are listed."""
        return None

    def empty(self, keys: Keys) -> int | None:
        """How many regions within the bounding box of these are not among them, where that is cheap to say."""
        return None

    def size_km(self, keys: Keys) -> NDArray[np.float64]:
        """(n,) keys -> square roots of the areas on the sphere."""
        return np.sqrt(area_km2(self.outlines(keys)))

    def clip(self, geometries: NDArray[np.object_], outlines: NDArray[np.object_]) -> NDArray[np.object_]:
        """(n,) shapes -> (n,) parts inside (n,) outlines of this partition, see `graticule.geo.clip.clip`."""
        return clip(geometries, outlines)

    def touched(self, geometries: NDArray[np.object_]) -> tuple[NDArray[np.int64], Keys]:
        """(n,) shapes in lon/lat degrees -> rows of shapes and keys of the regions that they have a part in."""
        members = self.members(geometries)
        return members.rows, members.keys

    def members(self, geometries: NDArray[np.object_]) -> Members:
        """(n,) shapes in lon/lat degrees -> the part of each in every region.

        A shape that meets a region in less than its own dimension (a polygon that touches from outside, a line that
        ends on the edge) has no part in it. Collections count by their parts of the highest dimension.
        """
        shapely = need("shapely", "osm")
        shapes = unwrapped(homogeneous(np.asarray(geometries, dtype=object)))
        pairs, too_wide = self._pairs(shapes)
        mended = self._mended(shapes, pairs)
        if len(mended):
            shapes = shapes.copy()
            shapes[mended] = homogeneous(shapely.make_valid(shapes[mended]))
            pairs, too_wide = self._pairs(shapes)
        outlines, parts = self.outlines(pairs.keys), pairs.shapes.copy()
        fit, cut = np.flatnonzero(pairs.whole), np.flatnonzero(~pairs.whole)
        parts[fit] = _fitted(parts[fit], outlines[fit])
        parts[cut] = self.clip(parts[cut], outlines[cut])
        shares, keep = np.ones(len(parts)), np.ones(len(parts), bool)
        shares[cut], keep[cut] = _shares(shapes, pairs.rows[cut], parts[cut], outlines[cut])
        order = np.flatnonzero(keep)
        order = order[np.lexsort([pairs.keys[order], pairs.rows[order]])]
        return Members(pairs.rows[order], pairs.keys[order], parts[order], shares[order], too_wide, mended)

    @staticmethod
    def _mended(shapes: NDArray[np.object_], pairs: Pairs) -> NDArray[np.int64]:
        shapely = need("shapely", "osm")
        rows = np.unique(pairs.rows[~pairs.whole])
        broken = (shapely.get_dimensions(shapes[rows]) == 2) & ~shapely.is_valid(shapes[rows])
        return rows[np.flatnonzero(broken)]


def _fitted(shapes: NDArray[np.object_], outlines: NDArray[np.object_]) -> NDArray[np.object_]:
    """Shapes that lie in their outlines, moved to the outlines' longitudes."""
    shapely = need("shapely", "osm")
    a, b = shapely.bounds(shapes), shapely.bounds(outlines)
    away = (b[:, 0] + b[:, 2] - a[:, 0] - a[:, 2]) / 2
    turned = 360 * np.round(away / 360)
    return moved(shapes, turned) if turned.any() else shapes


def _shares(
    shapes: NDArray[np.object_], rows: NDArray[np.int64], parts: NDArray[np.object_], outlines: NDArray[np.object_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Share of the shape `rows` names in each part, and whether the part is more than an error of rounding."""
    shapely = need("shapely", "osm")
    crossing, of = np.unique(rows, return_inverse=True)
    whole = shapes[crossing]
    lines = np.flatnonzero(shapely.get_dimensions(whole) == 1)
    whole[lines] = shapely.union_all(whole[lines][:, None], axis=1)  # a stretch gone twice counts once, as in a part
    total, inside, region = measure(whole)[of], measure(parts), area_km2(outlines)
    region = np.where(shapely.get_dimensions(parts) == 1, np.sqrt(region), region)
    shares = np.minimum(inside / np.where(total > 0, total, 1), 1)
    return shares, inside > ROUNDING * np.minimum(total, region)
