"""At which ground resolution an embedding varies: its variance by degree of the spherical harmonics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.harmonics import harmonics
from graticule.errors import DataError, SettingError
from graticule.geo.coords import EARTH_RADIUS_KM, Points, lonlat

Array = NDArray[Any]
Embed = Callable[[Points], Array]

HIGHEST_DEGREE = 133  # the lattice is half again as fine, and our harmonics end at degree 200
BATCH_POINTS = 16_384


@dataclass(frozen=True)
class DegreeSpectrum:
    """Shares of an embedding's variance over the sphere.

    `fractions` (max_degree,) float64: of degrees 1, 2, ...; `beyond`: what is left, of higher degrees;
    `variance`: their whole, the mean squared distance from the mean vector.
    """

    fractions: NDArray[np.float64]
    beyond: float
    variance: float

    @property
    def half_power_degree(self) -> int | None:
        """The smallest degree up to which half of the variance lies; None where more than half lies beyond."""
        reached = np.flatnonzero(np.cumsum(self.fractions) >= 0.5)
        return int(reached[0]) + 1 if len(reached) else None


def resolution_km(degree: int) -> float:
    """Half a wavelength on the ground of harmonics of a degree: pi R / degree, about 20,015 km / degree."""
    return float(np.pi * EARTH_RADIUS_KM / degree)


def degree_spectrum(embed: Embed, *, max_degree: int = 90) -> DegreeSpectrum:
    """Variance of an embedding, summed over its components, by degree of the spherical harmonics.

    `embed` maps (n, 2) lon/lat degrees to (n, d) and is called on some rings of latitude at a time; the memory
    is that of 16,384 vectors in double precision and of (max_degree + 1)^2 / 2 complex ones.

    The coefficients come from quadrature on Gauss-Legendre latitudes times equispaced longitudes, as in any
    spectral model of the atmosphere: a Fourier transform along each ring, a Legendre transform along the
    meridian. The lattice is exact for products up to degree 3 max_degree: embeddings of degree up to
    max_degree are resolved exactly (Parseval holds to rounding), and of variance between max_degree and twice
    that, nothing is taken for lower degrees. Of still rougher variance about a quarter is (white noise).

    Raises SettingError for a degree outside 1..133, DataError where `embed` gives no finite (n, d) vectors.
    """
    if not 1 <= max_degree <= HIGHEST_DEGREE:
        raise SettingError(f"A spectrum needs a max_degree from 1 to {HIGHEST_DEGREE}, got {max_degree}.")
    lat, weight, lon = _lattice(max_degree + max_degree // 2 + 1)
    legendre = _legendre(lat, max_degree)
    rings = max(1, BATCH_POINTS // len(lon))
    coefficients: Any = 0
    mean: Any = 0
    square = 0.0
    for start in range(0, len(lat), rings):
        part = slice(start, start + rings)
        places = lonlat(lon=np.tile(lon, len(lat[part])), lat=np.repeat(lat[part], len(lon)))
        values = _embedded(embed, places).reshape(len(lat[part]), len(lon), -1)
        share = weight[part, None] / (2 * len(lon))  # of the sphere's area
        weighted = values * share[:, :, None]
        mean = mean + weighted.sum((0, 1))
        square += float(np.vdot(weighted, values))
        orders = np.fft.rfft(weighted, axis=1)[:, : max_degree + 1].swapaxes(0, 1)  # (order, ring, component)
        both = np.ascontiguousarray(orders).view(np.float64)  # cosines and sines in turn
        coefficients = coefficients + legendre[:, :, part] @ both  # (order, degree, components of both)
    power = 4 * np.pi * np.square(coefficients).sum((0, 2))  # mean square over the sphere of every degree
    variance = max(square - float(mean @ mean), 0.0)
    if variance <= 1e-12 * square:
        return DegreeSpectrum(np.zeros(max_degree), 0.0, 0.0)
    fractions = power[1:] / variance
    return DegreeSpectrum(fractions, max(0.0, 1 - float(fractions.sum())), variance)


def _lattice(count: int) -> tuple[Array, Array, Array]:
    """`count` Gauss-Legendre latitudes, their weights (sum 2) and 2 count longitudes, in degrees."""
    sines, weight = np.polynomial.legendre.leggauss(count)
    return np.degrees(np.arcsin(sines)), weight, np.arange(2 * count) * (180 / count) - 180


def _legendre(lat: NDArray[np.float64], max_degree: int) -> NDArray[np.float64]:
    """(order, degree, latitudes) normalised Legendre functions: the harmonics of cosines on the zero meridian."""
    table: NDArray[np.float64] = harmonics(lonlat(lon=np.zeros(len(lat)), lat=lat), max_degree, "float64")
    out = np.zeros((max_degree + 1, max_degree + 1, len(lat)))
    for degree in range(max_degree + 1):
        centre = degree * degree + degree
        out[: degree + 1, degree] = table[:, centre : centre + degree + 1].T
    return out


def _embedded(embed: Embed, places: Points) -> NDArray[np.float64]:
    values = np.asarray(embed(places))
    if values.ndim != 2 or len(values) != len(places) or not np.isfinite(values).all():
        raise DataError(f"`embed` must give finite ({len(places)}, d) vectors, got shape {values.shape} or NaN.")
    return values.astype(np.float64)
