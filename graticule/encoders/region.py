"""The trunk of regions: map entities and an image of each region as tokens, without anything learned here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.shapes import shapes
from graticule.encoders.tags import TagTable
from graticule.errors import DataError, SettingError, need
from graticule.geo.coords import EARTH_RADIUS_KM, Points, from_unit_sphere, unit_sphere
from graticule.geo.measure import area_km2
from graticule.geo.region import Region
from graticule.geo.tokens import Tokens

Float32 = NDArray[np.float32]
LONGEST_EDGE_DEG = 1.0  # edges of outlines are straight in degrees: cut to this before they become chords


class RegionTrunk:
    """Regions -> Tokens: tags by a table of tag vectors, geometry in closed form, images as patches of raw pixels.

    Tokens are in the order of the entities; none depends on another, nor on other regions. `config` rebuilds the
    trunk beside its table: `RegionTrunk(table, **config)`. `frequent` of the most frequent tags are kept apart, so
    that they can be counted.
    """

    kind = "region"

    def __init__(self, tags: TagTable | str | Path, patch_pixels: int = 16, frequent: int = 0) -> None:
        if patch_pixels < 1 or frequent < 0:
            raise SettingError(f"Expected patch_pixels >= 1 and frequent >= 0, got {patch_pixels} and {frequent}.")
        self.tags = tags if isinstance(tags, TagTable) else TagTable.load(tags)
        self.patch_pixels, self.frequent = patch_pixels, frequent
        self.config: dict[str, Any] = {"patch_pixels": patch_pixels, "frequent": frequent}

    def identity(self) -> dict[str, Any]:
        """The table of tags and the settings: there are no weights."""
        return {"name": "region", **self.config, "tags": self.tags.identity(), "version": 2}

    def __call__(self, contents: Sequence[Region]) -> Tokens:
        """`n` regions -> their tokens; `patches` is None where no region has an image."""
        geometry, position = self.shape_rows(contents)
        every = list(chain.from_iterable(region.tags for region in contents))
        tags, tag_sets = self.tag_rows(every)
        seen_patches = patches(contents, self.patch_pixels)
        return Tokens(
            offsets=np.cumsum([0, *(len(region) for region in contents)], dtype=np.int64),
            tags=tags,
            geometry=geometry,
            position=position,
            tag_sets=tag_sets,
            frequent=self._held(every, tags) if self.frequent else None,
            patches=None if seen_patches is None else seen_patches[0],
            seen=None if seen_patches is None else seen_patches[1],
        )

    def tag_rows(self, tags: Sequence[Mapping[str, str]]) -> tuple[NDArray[np.int64], Float32]:
        """Tags of t entities -> Tokens.tags (t,) and Tokens.tag_sets (s, d)."""
        return self.tags.sums(tags)

    def _held(self, every: Sequence[Mapping[str, str]], rows: NDArray[np.int64]) -> Float32:
        """Tokens.frequent (s, frequent), from one entity of each set, in the order of the sets."""
        _, first = np.unique(rows, return_index=True)
        return self.tags.held([every[i] for i in first], self.frequent)

    def shape_rows(self, regions: Sequence[Region]) -> tuple[Float32, Float32]:
        """Tokens.geometry (t, SHAPE_DIM) and Tokens.position (t, POSITION_DIM) of all entities of n regions."""
        shapely = need("shapely", "osm")
        lengths = [len(region) for region in regions]
        geometries = shapely.from_wkb(np.array(list(chain(*(r.geometries for r in regions))), dtype=object))
        centres, sizes = centres_and_sizes([region.outline for region in regions])
        return shapes(geometries, np.repeat(centres, lengths, axis=0), np.repeat(sizes, lengths))


def centres_and_sizes(outlines: Sequence[bytes]) -> tuple[Points, NDArray[np.float64]]:
    """Outlines (n WKB polygons in degrees) -> (n, 2) lon/lat of centres, (n,) sides in km of squares as large.

    The centre is that of mass on the sphere: half the integral of r x dr around an outline is the integral of the
    normal over what it encloses (Stokes). DataError for an outline without area.
    """
    shapely = need("shapely", "osm")
    polygons = shapely.from_wkb(np.array(outlines, dtype=object))
    areas = area_km2(polygons)
    if len(bad := np.flatnonzero(~(areas > 0))):
        raise DataError(f"Expected outlines with an area, got {shapely.to_wkt(polygons[bad[0]])} for region {bad[0]}.")
    fine = shapely.segmentize(shapely.normalize(polygons), LONGEST_EDGE_DEG)  # shells clockwise, holes the other way
    lonlat, owner = shapely.get_coordinates(fine, return_index=True)
    rings = shapely.get_rings(shapely.get_parts(fine))
    of_ring = np.repeat(np.arange(len(rings)), shapely.get_num_coordinates(rings))
    xyz = unit_sphere(lonlat)
    origin = _sums(xyz, owner, len(outlines)) / np.bincount(owner, minlength=len(outlines))[:, None]
    near = xyz - origin[owner]  # about a point nearby, or small regions lose their digits
    normal = np.zeros_like(near)
    normal[:-1] = np.cross(near[1:], near[:-1]) * (of_ring[1:] == of_ring[:-1])[:, None]
    directions = _sums(normal, owner, len(outlines))
    balanced = np.linalg.norm(directions, axis=1) < 1e-6 * areas / EARTH_RADIUS_KM**2  # such as the whole Earth
    middle = shapely.get_coordinates(shapely.centroid(polygons))
    return from_unit_sphere(np.where(balanced[:, None], unit_sphere(middle), directions)), np.sqrt(areas)


def patches(regions: Sequence[Region], size: int) -> tuple[Float32, NDArray[np.bool_]] | None:
    """Images -> (n, m, bands * size * size) patches, row by row from the north-west, and (n, m) which are all covered.

    Integer pixels become reflectance (uint8 / 255, uint16 / 10,000) and then 2 x - 1, floats stay; in a patch the
    order is band, row, column. Patches that are not seen are zeros. None where no region has an image; DataError for
    images of several forms, or whose sides `size` does not divide.
    """
    first = next((region.image for region in regions if region.image is not None), None)
    if first is None:
        return None
    from graticule.encoders.image import reflectance

    bands, height, width = first.shape
    if height % size or width % size:
        raise DataError(f"Expected images whose sides are multiples of patch_pixels={size}, got {height} x {width}.")
    rows, columns = height // size, width // size
    values = np.zeros((len(regions), rows * columns, bands * size * size), dtype=np.float32)
    seen = np.zeros((len(regions), rows * columns), dtype=np.bool_)
    for i, region in enumerate(regions):
        if region.image is None:
            continue
        if region.image.shape != first.shape or region.image.dtype != first.dtype:
            expected, got = (f"{image.shape} {image.dtype}" for image in (first, region.image))
            raise DataError(f"Expected images all like the first, {expected}, got {got} in region {i}.")
        pixels = reflectance(region.image)
        there = np.isfinite(pixels).all(axis=0)
        if region.covered is not None:
            there &= region.covered
        pixels = pixels if region.image.dtype.kind == "f" else 2 * pixels - 1
        grid = pixels.reshape(bands, rows, size, columns, size).transpose(1, 3, 0, 2, 4)
        seen[i] = there.reshape(rows, size, columns, size).all(axis=(1, 3)).reshape(-1)
        values[i] = np.where(seen[i][:, None], grid.reshape(rows * columns, -1), 0)
    return values, seen


def _sums(rows: NDArray[np.float64], owner: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(owner, column, size) for column in rows.T], axis=-1)
