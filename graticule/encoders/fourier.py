"""Sines and cosines of random or fixed projections of a place; numpy or torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.basis import Arrays, BasisSettings
from graticule.errors import SettingError, unknown
from graticule.geo.arrays import namespace
from graticule.geo.coords import unit_sphere

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
    columns = 2 * frequencies.shape[0] * frequencies.shape[2]
    return xp.concatenate([xp.cos(angle), xp.sin(angle)], -1).reshape(coordinates.shape[0], columns)


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


@dataclass(frozen=True, kw_only=True)
class SphericalFourier(BasisSettings):
    """Cosines and sines of W x for x on the unit sphere and W normal with each of the standard deviations `scales`.

    A scale of s resolves wavelengths of about 40,000 km / s. Seamless, since it never sees a longitude.
    """

    scales: tuple[float, ...] = (2.0, 8.0, 32.0)
    frequencies_per_scale: int = 128
    seed: int = 0

    @property
    def dim(self) -> int:
        return 2 * len(self.scales) * self.frequencies_per_scale

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"frequencies": (len(self.scales), 3, self.frequencies_per_scale)}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        radians = gaussian_frequencies(3, self.scales, self.frequencies_per_scale, self.seed)
        return {"frequencies": radians / np.float32(2 * np.pi)}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        arrays = self.arrays() if arrays is None else arrays
        return fourier(unit_sphere(points), arrays["frequencies"], self.dtype)


@dataclass(frozen=True, kw_only=True)
class EqualEarth(BasisSettings):
    """GeoCLIP's basis (Vivanco 2023, eq. 1-2): random Fourier features of the Equal Earth plane at several `sigmas`."""

    seamless: ClassVar[bool] = False
    sigmas: tuple[float, ...] = (1.0, 16.0, 256.0)
    frequencies_per_sigma: int = 256
    seed: int = 0

    @property
    def dim(self) -> int:
        return 2 * len(self.sigmas) * self.frequencies_per_sigma

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"frequencies": (len(self.sigmas), 2, self.frequencies_per_sigma)}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {"frequencies": gaussian_frequencies(2, self.sigmas, self.frequencies_per_sigma, self.seed)}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        arrays = self.arrays() if arrays is None else arrays
        return fourier(equal_earth(points), arrays["frequencies"], self.dtype)


@dataclass(frozen=True, kw_only=True)
class Space2Vec(BasisSettings):
    """Space2Vec-grid (Mai 2020, eq. 6): cosines and sines of degrees / radius for lon and lat, geometric radii."""

    seamless: ClassVar[bool] = False
    radii: int = 64
    shortest_deg: float = 0.1
    longest_deg: float = 360.0

    @property
    def dim(self) -> int:
        return 4 * self.radii

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        return fourier(points, radius_frequencies(self.radii, self.shortest_deg, self.longest_deg), self.dtype)


@dataclass(frozen=True, kw_only=True)
class Sphere2Vec(BasisSettings):
    """Sphere2Vec (Mai 2023, eq. 4-8): products of sines and cosines of latitude and longitude over geometric scales.

    `kind` is c, c+, m, m+ or dfs; the scales are radii from `smallest` to 1 by which both angles are divided. The
    radius 1 alone gives x, y, z; divided longitudes do not close, so there is a seam at the antimeridian.
    """

    seamless: ClassVar[bool] = False
    kind: str = "m+"
    radii: int = 64
    smallest: float = 0.002

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in SPHERE2VEC:
            raise unknown("kind of sphere2vec", self.kind, SPHERE2VEC)
        if self.radii < 1 or not 0 < self.smallest <= 1:
            raise SettingError(
                f"Sphere2Vec needs radii of 1 or more and 0 < smallest <= 1, got {self.radii} and {self.smallest}."
            )

    @property
    def dim(self) -> int:
        each = SPHERE2VEC[self.kind] * self.radii
        return each + 4 * self.radii**2 if self.kind == "dfs" else each

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        xp = namespace(points)
        radius = np.geomspace(1, self.smallest, self.radii)
        radius = radius if xp is np else xp.asarray(radius, device=points.device)
        lon, lat = xp.deg2rad(points[:, :1]), xp.deg2rad(points[:, 1:])
        a, b, c, d = xp.sin(lat / radius), xp.cos(lat / radius), xp.sin(lon / radius), xp.cos(lon / radius)
        if self.kind == "dfs":
            pairs = [x[:, :, None] * y[:, None, :] for x in (b, a) for y in (d, c)]
            columns = [a, b, c, d, *(pair.reshape(points.shape[0], self.radii**2) for pair in pairs)]
        elif self.kind.startswith("c"):
            columns = [a, b * d, b * c]
        else:
            columns = [a, b * xp.cos(lon), xp.cos(lat) * d, b * xp.sin(lon), xp.cos(lat) * c]
        if self.kind.endswith("+"):
            columns += [b, c, d]  # with the sines of latitude, which are there already: Space2Vec-grid
        return self.cast(xp.concatenate(columns, -1))


SPHERE2VEC = {"c": 3, "c+": 6, "m": 5, "m+": 8, "dfs": 4}  # columns of a radius
