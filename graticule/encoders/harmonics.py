"""Real spherical harmonics to any degree up to 200, without NaN, in single or double precision."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graticule.errors import SettingError
from graticule.geo.arrays import namespace
from graticule.geo.coords import unit_sphere

MAX_DEGREE = 200  # beyond about 230 the sectoral terms underflow float32 where they still matter
CACHED_VALUES = 2**20  # values worked on at a time: one block of points stays in the processor's cache
DEVICE_VALUES = 2**28  # the same on an accelerator, where only memory bounds it


def harmonics(points: Any, max_degree: int, dtype: str = "float32", damping: float = 0.0) -> Any:
    """Orthonormal real spherical harmonics of degree 0 to `max_degree`; numpy or torch, without gradient.

    (n, 2) lon/lat degrees float64 -> (n, (max_degree + 1)^2); order m of degree l is column l*l + l + m,
    cosines for m > 0, sines for m < 0, without the Condon-Shortley sign; the integral of each square over
    the sphere is 1. Columns of degree l are multiplied by (1 + l)^-damping.

    The fully normalised recurrence over degrees (Holmes and Featherstone 2002, eq. 11-13) runs on the
    harmonics themselves instead of the Legendre functions, so longitude enters only through the sectoral
    terms (x + iy)^l: nothing is divided by the cosine of the latitude and the poles are no special case.

    Raises SettingError for a degree outside 0..200 or an unknown dtype.
    """
    check_degree(max_degree)
    if dtype not in ("float32", "float64"):
        raise SettingError(f"Harmonics come as float32 or float64, got dtype {dtype!r}.")
    xp = namespace(points)
    if xp is not np and xp.compiler.is_exporting():
        from graticule.encoders.traceable import harmonics_by_degree

        return harmonics_by_degree(points, max_degree, dtype, damping)
    if xp is not np and points.device.type == "cpu":  # numpy: torch would share out every short step over its threads
        return xp.from_numpy(harmonics(points.detach().numpy(), max_degree, dtype, damping))
    make = {"dtype": getattr(xp, dtype)} | ({} if xp is np else {"device": points.device})
    columns = (max_degree + 1) ** 2
    size = max(80, (CACHED_VALUES if xp is np else DEVICE_VALUES) // columns // 16 * 16 | 16)  # an odd multiple of 16
    factors = _Factors(*(xp.asarray(factor, **make) for factor in _factors(max_degree)))
    xyz = xp.asarray(unit_sphere(points), **make).T
    weight = xp.asarray(degree_weights(max_degree, damping), **make)[:, None]
    out = xp.empty((len(points), columns), **make)
    for start in range(0, len(points), size):
        rows = slice(start, start + size)
        block = _block(xp, xyz[:, rows] + 0, factors, make)
        if damping:
            block *= weight
        out[rows] = block.T
    return out


def check_degree(max_degree: int) -> None:
    """Raise SettingError unless `max_degree` is from 0 to MAX_DEGREE."""
    if not 0 <= max_degree <= MAX_DEGREE:
        raise SettingError(f"Harmonics need a max_degree from 0 to {MAX_DEGREE}, got {max_degree}.")


def degree_weights(max_degree: int, damping: float) -> NDArray[np.float64]:
    """(1 + l)^-damping for every column of `harmonics`."""
    degree = np.arange(max_degree + 1)
    return np.repeat((1.0 + degree) ** -damping, 2 * degree + 1)


class _Factors(NamedTuple):
    """Factors of z Y(l-1) and of Y(l-2) in Y(l), a row for each harmonic, and of (x + iy)^l, a row for each degree."""

    last: Any
    before: Any
    sectoral: Any


@lru_cache(maxsize=16)
def _factors(max_degree: int) -> _Factors:
    degrees = np.arange(max_degree + 1, dtype=np.float64)
    degree = np.repeat(degrees, 2 * np.arange(max_degree + 1) + 1)
    order = np.arange(len(degree)) - degree * (degree + 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # where |order| is the degree no factor is used
        last = np.sqrt((4 * degree**2 - 1) / (degree**2 - order**2))
        before = np.sqrt((2 * degree + 1) / (2 * degree - 3) * ((degree - 1) ** 2 - order**2) / (degree**2 - order**2))
    growth = np.append(1 / (4 * np.pi), (2 * degrees[1:] + 1) / (2 * degrees[1:]))
    growth[1:2] *= 2  # cosine and sine share the norm of every order but 0
    return _Factors(last[:, None], before[:, None], np.sqrt(np.cumprod(growth))[:, None])


def _block(xp: Any, xyz: Any, factors: _Factors, make: dict[str, Any]) -> Any:
    """(3, block) unit vectors -> (columns, block): points lie along the rows, so every step is one long stride."""
    x, y, z = xyz
    degrees, columns = len(factors.sectoral), len(factors.last)
    out, scratch = (xp.empty((rows, len(z)), **make) for rows in (columns, 2 * degrees))
    powers = xp.cumprod(xp.broadcast_to(x + 1j * y, (degrees - 1, len(z))), 0)
    highest = np.arange(1, degrees) ** 2
    out[0] = factors.sectoral[0]
    out[highest] = factors.sectoral[1:] * powers.imag
    out[highest + 2 * np.arange(1, degrees)] = factors.sectoral[1:] * powers.real
    for degree in range(1, degrees):
        here, last, before = degree**2, (degree - 1) ** 2, (degree - 2) ** 2
        inner = out[here + 1 : here + 2 * degree]  # orders from 1 - degree to degree - 1
        xp.multiply(out[last:here], z, out=inner)
        inner *= factors.last[here + 1 : here + 2 * degree]
        if degree > 1:
            inner, term = inner[1:-1], scratch[: 2 * degree - 3]
            xp.multiply(out[before:last], factors.before[here + 2 : here + 2 * degree - 1], out=term)
            inner -= term
    return out
