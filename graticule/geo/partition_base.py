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
BROAD = 8  # regions in the bounding box of a shape that counts as broad
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
    too_wide: NDArray[np.int64]  # rows of shapes left out because they meet more than MOST_REGIONS of the regions
    mended: NDArray[np.int64]  # rows of polygons that cross or touch themselves and were made valid to be cut


class Partition(ABC):
    """Regions of the Earth by int64 keys; they need not cover it, and may overlap.

    `about` names the partition in JSON types, `files` are those it was read from. Outlines that cross the antimeridian
    have longitudes that run on past 180; parts of shapes are moved by 360 degrees to lie in them.
    """

    about: dict[str, Any]
    files: tuple[Path, ...] = ()
    side_deg: float = np.inf  # of a region, about

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
    def _pairs(self, shapes: NDArray[np.object_], among: Keys | None) -> tuple[Pairs, NDArray[np.int64]]:
        """Every pair of a shape and a region that may meet, none twice, and the rows of shapes that are too wide.

        Only regions `among` these keys count, all without.
        """

    def all_keys(self) -> Keys | None:
        """Every region, where they are listed."""
        return None

    def empty(self, keys: Keys) -> int | None:
        """How many regions within the bounding box of these are not among them, where that is cheap to say."""
        return None

    def largest_km2(self, lat_deg: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) latitudes -> no region from there to the pole is larger; infinite where that is not known."""
        return np.full(len(lat_deg), np.inf)

    def broad(self, geometries: NDArray[np.object_]) -> NDArray[np.bool_]:
        """(n,) shapes in lon/lat degrees -> those whose bounding boxes have room for more than BROAD regions."""
        shapely = need("shapely", "osm")
        west, south, east, north = shapely.bounds(geometries).reshape(-1, 4).T
        room = ((east - west) / self.side_deg + 1) * ((north - south) / self.side_deg + 1)
        found: NDArray[np.bool_] = room > BROAD
        return found

    def thin(self, geometries: NDArray[np.object_], share: float) -> NDArray[np.bool_]:
        """(n,) shapes in lon/lat degrees -> valid polygons so large that no region holds as much as `share` of them."""
        shapely = need("shapely", "osm")
        found = np.zeros(len(geometries), bool)
        rows = np.flatnonzero(self.broad(geometries) & (shapely.get_dimensions(geometries) == 2))
        shapes = unwrapped(homogeneous(geometries[rows]))
        south, north = shapely.bounds(shapes).reshape(-1, 4)[:, [1, 3]].T
        region_km2 = self.largest_km2(np.clip(0, south, north))  # where the shape is nearest to the equator
        large = share * area_km2(shapes) > region_km2
        rows = rows[large]
        found[rows] = shapely.is_valid(shapes[large])
        return found

    def near(self, geometries: NDArray[np.object_]) -> tuple[NDArray[np.int64], Keys]:
        """(n,) shapes in lon/lat degrees -> rows of shapes and keys of all regions that they may have a part in.

        Without those that meet more than MOST_REGIONS.
        """
        pairs, _ = self._pairs(unwrapped(homogeneous(np.array(geometries, dtype=object))), None)
        return pairs.rows, pairs.keys

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

    def members(self, geometries: NDArray[np.object_], among: Keys | None = None) -> Members:
        """(n,) shapes in lon/lat degrees -> the part of each in every region, or in those `among` these keys.

        A shape that meets a region in less than its own dimension (a polygon that touches from outside, a line that
        ends on the edge) has no part in it. Collections count by their parts of the highest dimension.
        """
        shapely = need("shapely", "osm")
        shapes = unwrapped(homogeneous(np.array(geometries, dtype=object)))
        vast = np.flatnonzero(self.thin(shapes, 1 / MOST_REGIONS))
        shapes[vast] = None
        pairs, too_wide = self._pairs(shapes, among)
        mended = self._mended(shapes, pairs)
        if len(mended):
            shapes[mended] = homogeneous(shapely.make_valid(shapes[mended]))
            pairs, too_wide = self._pairs(shapes, among)
        too_wide = np.union1d(vast, too_wide)
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
    total, inside = measure(whole)[of], measure(parts)
    keep = inside > ROUNDING * total
    small = np.flatnonzero(~keep)
    region = area_km2(outlines[small])
    region = np.where(shapely.get_dimensions(parts[small]) == 1, np.sqrt(region), region)
    keep[small] = inside[small] > ROUNDING * region
    return np.minimum(inside / np.where(total > 0, total, 1), 1), keep
