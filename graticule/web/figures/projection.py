"""The Equal Earth projection, and which part of the Earth a map shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graticule.geo.coords import Points
from graticule.web.figures.frame import Floats

Sides = tuple[float, float, float, float]  # left, right, bottom and top in the plane
EQUAL_EARTH = (1.340264, -0.081106, 0.000893, 0.003796)


@dataclass(frozen=True)
class Extent:
    """The part of the Earth that is drawn: a central meridian and the sides, all in degrees."""

    meridian_deg: float
    west_deg: float  # relative to the meridian
    east_deg: float
    south_deg: float
    north_deg: float

    @property
    def whole(self) -> bool:
        """Whether this is the whole world."""
        return self.east_deg - self.west_deg >= 360


WORLD = Extent(0.0, -180.0, 180.0, -90.0, 90.0)


def equal_earth(places: Points) -> tuple[Floats, Floats]:
    """(n, 2) lon/lat degrees -> x, y on the unit sphere's equal-area plane (Savric et al. 2018, eqs 1-4)."""
    a1, a2, a3, a4 = EQUAL_EARTH
    lon, lat = np.radians(places[:, 0]), np.radians(places[:, 1])
    t = np.arcsin(np.sqrt(3) / 2 * np.sin(lat))
    stretch = a1 + 3 * a2 * t**2 + t**6 * (7 * a3 + 9 * a4 * t**2)
    return 2 * np.sqrt(3) / 3 * lon * np.cos(t) / stretch, t * (a1 + a2 * t**2 + t**6 * (a3 + a4 * t**2))


def inverse_equal_earth(x: Floats, y: Floats) -> Points:
    """The lon/lat degrees of points of the plane, by Newton's method; NaN outside the world.

    `x` and `y` are broadcast together, such as a row and a column of a picture: (..., 2).
    """
    a1, a2, a3, a4 = EQUAL_EARTH
    t = np.asarray(y) / a1
    for _ in range(8):
        error = t * (a1 + a2 * t**2 + t**6 * (a3 + a4 * t**2)) - y
        t = t - error / (a1 + 3 * a2 * t**2 + t**6 * (7 * a3 + 9 * a4 * t**2))
    sine = 2 / np.sqrt(3) * np.sin(t)
    lat = np.where(np.abs(sine) < 1 + 1e-9, np.arcsin(np.clip(sine, -1, 1)), np.nan)
    stretch = a1 + 3 * a2 * t**2 + t**6 * (7 * a3 + 9 * a4 * t**2)
    lon = np.sqrt(3) / 2 * x * (stretch / np.cos(t))
    places = np.degrees(np.stack(np.broadcast_arrays(lon, lat), axis=-1))
    inside = np.isfinite(places[..., 1:]) & (np.abs(places[..., :1]) < 180 + 1e-9)
    return np.asarray(np.where(inside, places, np.nan))


def extent_of(places: Points) -> Extent:
    """The world, or the surroundings of places (n, 2) that lie within 120 by 90 degrees; at least 4 degrees."""
    lon = np.unique(places[:, 0])
    gaps = np.diff(np.concatenate([lon, lon[:1] + 360]))
    widest = int(gaps.argmax())
    span, south, north = 360 - gaps[widest], places[:, 1].min(), places[:, 1].max()
    if span > 120 or north - south > 90:
        return WORLD
    middle = lon[(widest + 1) % len(lon)] + span / 2
    margin = max(0.06 * max(span, north - south), 0.5)
    half = max(span / 2 + margin, 2.0)
    rise = max((north - south) / 2 + margin, 2.0)
    level = (north + south) / 2
    return Extent(
        float((middle + 180) % 360 - 180), -half, half, float(max(level - rise, -90)), float(min(level + rise, 90))
    )


def around(places: Points, meridian_deg: float) -> Points:
    """Longitudes relative to the meridian, in [-180, 180)."""
    return np.stack([(places[:, 0] - meridian_deg + 180) % 360 - 180, places[:, 1]], axis=1)


def sides(extent: Extent) -> Sides:
    """Left, right, bottom and top of the extent in the plane."""
    lat = np.linspace(extent.south_deg, extent.north_deg, 91)
    right, y = equal_earth(np.stack([np.full_like(lat, extent.east_deg), lat], axis=1))
    return -float(right.max()), float(right.max()), float(y[0]), float(y[-1])
