"""Longitude and latitude: the one place where coordinates enter the library."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.errors import CoordinateError
from graticule.geo.arrays import namespace

EARTH_RADIUS_KM = 6371.0088  # mean radius of WGS84 (IUGG)

Points = NDArray[np.float64]


def lonlat(*, lon: ArrayLike, lat: ArrayLike, where: str = "row") -> Points:
    """Stack degrees (WGS84) into an (n, 2) float64 array, longitude first; refuse impossible values.

    Longitudes in [-360, 360] are wrapped into [-180, 180); latitudes must lie in [-90, 90].
    `where` names the origin of the rows in errors, e.g. "points.csv:row".

    Raises CoordinateError for different lengths, NaN, infinities, out-of-range values; the message
    names the first bad row and says when a latitude proves that lon and lat are swapped.
    """
    try:
        x, y = (np.asarray(v, dtype=np.float64).reshape(-1) for v in (lon, lat))
    except (TypeError, ValueError) as error:
        raise CoordinateError(f"lon and lat must be numbers in degrees: {error}.") from error
    if x.shape != y.shape:
        raise CoordinateError(f"lon and lat must have the same length, got {len(x)} and {len(y)}.")
    if len(bad := np.flatnonzero(~(np.isfinite(x) & np.isfinite(y)))):
        i = bad[0]
        raise CoordinateError(
            f"lon and lat must be finite numbers; {where} {i} has lon={x[i]:g}, lat={y[i]:g}. "
            f"{len(bad)} of {len(x)} rows are like this: drop or fill them."
        )
    if len(bad := np.flatnonzero(np.abs(y) > 90)):
        i = bad[0]
        swapped = np.abs(y[bad]).max() <= 360 and np.abs(x).max() <= 90
        hint = " Are lon and lat swapped?" if swapped else ""
        raise CoordinateError(f"lat must lie in [-90, 90]; {where} {i} has lat={y[i]:g}.{hint}")
    if len(bad := np.flatnonzero(np.abs(x) > 360)):
        i = bad[0]
        raise CoordinateError(f"lon must lie in [-360, 360] degrees; {where} {i} has lon={x[i]:g}. Is it in metres?")
    return np.stack([np.where((x >= -180) & (x < 180), x, _wrapped(x)), y], axis=-1)


def _wrapped(lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Degrees into [-180, 180), also where the remainder of a tiny negative number is rounded up to 360."""
    turned = (lon + 180) % 360 - 180
    return np.where(turned < 180, turned, -180.0)


def unit_sphere(points: Any) -> Any:
    """(n, 2) lon/lat degrees -> (n, 3) points on the unit sphere; numpy or torch, same dtype as the input."""
    xp = namespace(points)
    lon, lat = xp.deg2rad(points[..., 0]), xp.deg2rad(points[..., 1])
    return xp.stack([xp.cos(lat) * xp.cos(lon), xp.cos(lat) * xp.sin(lon), xp.sin(lat)], -1)


def from_unit_sphere(xyz: Any) -> Points:
    """(n, 3) directions (any length but zero) -> (n, 2) lon/lat degrees."""
    x, y, z = np.moveaxis(np.asarray(xyz, dtype=np.float64), -1, 0)
    return lonlat(lon=np.degrees(np.arctan2(y, x)), lat=np.degrees(np.arctan2(z, np.hypot(x, y))))


def great_circle_km(a: Any, b: Any) -> Any:
    """Great-circle distance in km between (..., 2) lon/lat degrees, broadcasting; numpy or torch.

    Haversine formula: exact to rounding for close points, within 1e-4 relative near antipodes;
    on the sphere of mean radius, so within 0.56 % of the ellipsoid.
    """
    xp = namespace(a)
    lon_a, lat_a = xp.deg2rad(a[..., 0]), xp.deg2rad(a[..., 1])
    lon_b, lat_b = xp.deg2rad(b[..., 0]), xp.deg2rad(b[..., 1])
    h = xp.sin((lat_b - lat_a) / 2) ** 2 + xp.cos(lat_a) * xp.cos(lat_b) * xp.sin((lon_b - lon_a) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * xp.arcsin(xp.sqrt(xp.clip(h, 0, 1)))


def chord(km: float) -> float:
    """Length of the unit-sphere chord that spans `km` of great circle: turns a radius into a KD-tree radius."""
    return float(2 * np.sin(min(km / EARTH_RADIUS_KM, np.pi) / 2))


def chord_km(straight: Any) -> Any:
    """Great-circle km spanned by unit-sphere chords of length `straight`: the inverse of `chord`; numpy or torch."""
    xp = namespace(straight)
    return 2 * EARTH_RADIUS_KM * xp.arcsin(xp.clip(straight / 2, None, 1))


def uniform_places(n: int, *, seed: int | np.random.Generator = 0) -> Points:
    """`n` random lon/lat degrees, uniform by area on the sphere (the sine of the latitude is uniform)."""
    rng = np.random.default_rng(seed)
    lon, sin_lat = rng.uniform(-180, 180, n), rng.uniform(-1, 1, n)
    return lonlat(lon=lon, lat=np.degrees(np.arcsin(sin_lat)))


def fibonacci_lattice(n: int) -> Points:
    """`n` evenly spread lon/lat degrees: the spherical Fibonacci lattice (Gonzalez 2010), half-offset at the poles."""
    i = np.arange(n)
    golden = (1 + 5**0.5) / 2
    sin_lat = 1 - (2 * i + 1) / max(n, 1)
    return lonlat(lon=(360 * i / golden) % 360, lat=np.degrees(np.arcsin(sin_lat)))


def offset_km(points: Points, east_km: ArrayLike, north_km: ArrayLike) -> Points:
    """The lon/lat degrees reached from `points` by an azimuthal equidistant offset, broadcasting.

    (n, 2) points with (m,) offsets give (n, m, 2). True at the poles and across the antimeridian.
    """
    east, north = np.asarray(east_km, dtype=np.float64), np.asarray(north_km, dtype=np.float64)
    angle = np.hypot(east, north) / EARTH_RADIUS_KM
    bearing = np.arctan2(east, north)
    lon, lat = np.radians(points[:, 0])[:, None], np.radians(points[:, 1])[:, None]
    up = np.sin(lat) * np.cos(angle) + np.cos(lat) * np.sin(angle) * np.cos(bearing)
    out = np.cos(lat) * np.cos(angle) - np.sin(lat) * np.sin(angle) * np.cos(bearing)
    side = np.sin(angle) * np.sin(bearing)
    to_lon, to_lat = lon + np.arctan2(side, out), np.arctan2(up, np.hypot(out, side))
    return np.stack([_wrapped(np.degrees(to_lon)), np.degrees(to_lat)], axis=-1)


def local_km(points: Points, centre: Points) -> NDArray[np.float64]:
    """(n, 2) points -> (n, 2) east and north of (n, 2) or (1, 2) `centre` in km: the inverse of `offset_km`.

    Azimuthal equidistant, so true at the poles and across the antimeridian; longitudes may run on past 180.
    The antipode of the centre has no direction: it comes out half the circumference to the north.
    """
    away = great_circle_km(points, centre)
    (lon, lat), (lon_0, lat_0) = np.radians(points).T, np.radians(centre).T
    east = np.cos(lat) * np.sin(lon - lon_0)
    north = np.cos(lat_0) * np.sin(lat) - np.sin(lat_0) * np.cos(lat) * np.cos(lon - lon_0)
    bearing = np.arctan2(east, north)
    return np.stack([away * np.sin(bearing), away * np.cos(bearing)], axis=-1)
