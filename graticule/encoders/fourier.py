"""Sines and cosines of random or fixed projections of a place; numpy or torch."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.geo.arrays import namespace

EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)  # Savric 2018, eq. 6: A1 to A4
EQUAL_EARTH_SCALE = 66.50336 / 180  # GeoCLIP's factor: x then lies in [-1, 1]


def fourier(coordinates: Any, frequencies: Any, dtype: str = "float32") -> Any:
    """(n, k) coordinates, (scales, k, f) frequencies in turns a unit -> (n, scales * 2 * f).

    For every scale first the f cosines, then the f sines of 2 pi coordinates @ frequencies. The product is
    taken in the precision of the coordinates and reduced to half a turn before it is cast to `dtype`.
    """
    xp = namespace(coordinates)
    make = {"dtype": coordinates.dtype} | ({} if xp is np else {"device": coordinates.device})
    turns = (coordinates @ xp.asarray(frequencies, **make)).swapaxes(0, 1)
    angle = 2 * pi * xp.asarray(turns - xp.round(turns), dtype=getattr(xp, dtype))
    return xp.concatenate([xp.cos(angle), xp.sin(angle)], -1).reshape(len(coordinates), -1)


def gaussian_frequencies(axes: int, scales: Sequence[float], each: int, seed: int) -> NDArray[np.float32]:
    """(scales, axes, each) normal frequencies with the standard deviation of their scale (Rahimi and Recht 2007)."""
    normal = np.random.default_rng(seed).standard_normal((len(scales), axes, each))
    return np.asarray(normal * np.reshape(scales, (-1, 1, 1)), dtype=np.float32)


def radius_frequencies(radii: int, shortest_deg: float, longest_deg: float) -> NDArray[np.float64]:
    """(radii, 2, 2) frequencies of longitude and latitude on their own: 1 / (2 pi radius), radii in geometric steps.

    Space2Vec-grid (Mai 2020, eq. 6): the angle is degrees divided by the radius.
    """
    return np.eye(2) / (2 * pi * np.geomspace(shortest_deg, longest_deg, radii))[:, None, None]


def equal_earth(points: Any) -> Any:
    """(n, 2) lon/lat degrees -> (n, 2) x, y of the Equal Earth projection, scaled as GeoCLIP does (x in [-1, 1]).

    Savric 2018, eq. 7-9. Both ends of a parallel, and all longitudes of a pole, are different points.
    """
    xp = namespace(points)
    a1, a2, a3, a4 = EQUAL_EARTH
    lon, lat = xp.deg2rad(points[:, 0]), xp.deg2rad(points[:, 1])
    theta = xp.arcsin(3**0.5 / 2 * xp.sin(lat))
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * 3**0.5 / 3 * lon * xp.cos(theta) / slope
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return EQUAL_EARTH_SCALE * xp.stack([x, y], -1)
