"""Where regions are and which of them touch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need
from graticule.geo.coords import Points, great_circle_km, unit_sphere
from graticule.geo.measure import middles
from graticule.geo.region import Region

TOUCH_DEG = 1e-6  # outlines closer than this (11 cm) touch: corners of the same cell may differ by rounding


def outlines(regions: Sequence[Region]) -> NDArray[np.object_]:
    """(n,) shapely polygons in degrees. DataError names the first region whose outline cannot be read."""
    shapely = need("shapely", "osm")
    try:
        return np.asarray(shapely.from_wkb(np.array([region.outline for region in regions], dtype=object)))
    except shapely.errors.ShapelyError as error:
        raise DataError(f"An outline of {len(regions)} regions is no WKB polygon: {error}.") from error


def centres(regions: Sequence[Region]) -> Points:
    """(n, 2) lon/lat degrees of the centres of the bounds of the outlines; longitudes beyond 180 are wrapped."""
    return middles(outlines(regions))


def touching(regions: Sequence[Region]) -> NDArray[np.int64]:
    """(p, 2) numbers of regions whose outlines share an edge, a corner or more; each pair in both orders.

    Outlines are compared in degrees as they are: neighbours across the antimeridian are not found.
    """
    shapely = need("shapely", "osm")
    shapes = outlines(regions)
    pairs = shapely.STRtree(shapes).query(shapes, predicate="dwithin", distance=TOUCH_DEG).T
    return np.asarray(pairs[pairs[:, 0] != pairs[:, 1]], dtype=np.int64).reshape(-1, 2)


def spacing_km(points: Points) -> float:
    """Median great-circle distance in km from a place to the nearest other one; DataError for fewer than two."""
    different = np.unique(points, axis=0)
    if len(different) < 2:
        raise DataError(f"A spacing needs at least two different places, got {len(different)}.")
    xyz = unit_sphere(different)
    _, nearest = need("scipy.spatial", "train").cKDTree(xyz).query(xyz, k=2)
    return float(np.median(great_circle_km(different, different[nearest[:, 1]])))
