"""Regions made by hand for the tests of `evaluation.regions`."""

import numpy as np
import shapely

from graticule.geo.cells import tile_bounds
from graticule.geo.region import Region

WEST, SOUTH, SIZE = 11.0, 48.0, 0.01


def box(x=0, y=0, west=WEST, south=SOUTH, size=SIZE):
    return shapely.box(west + x * size, south + y * size, west + (x + 1) * size, south + (y + 1) * size)


def region(*tags, outline=None, ids=None, geometries=None, shares=None, image=None, covered=None):
    """A region with entities of these tags; nodes in its middle if nothing else is said."""
    outline = box() if outline is None else outline
    middle = shapely.to_wkb(outline.centroid)
    return Region(
        shapely.to_wkb(outline),
        tuple(ids or (f"node/{i}" for i in range(len(tags)))),
        tags,
        tuple(geometries or [middle] * len(tags)),
        tuple(shares or [1.0] * len(tags)),
        image,
        covered,
    )


def tile(x, y, *tags, zoom=16, ids=None):
    """A slippy tile as a region."""
    return region(*tags, outline=shapely.box(*tile_bounds(np.array([[x, y]]), zoom)[0]), ids=ids)
