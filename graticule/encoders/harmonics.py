"""Real spherical harmonics to any degree up to 200, without NaN, in single or double precision."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import SettingError
from graticule.geo.arrays import namespace

MAX_DEGREE = 200  # beyond about 230 the sectoral terms underflow float32 where they still matter
CACHED_VALUES = 2**19  # values worked on at a time: one block of points stays in the processor's cache
DEVICE_VALUES = 2**28  # the same on an accelerator, where only memory bounds it


def harmonics(points: Any, max_degree: int, dtype: str = "float32", damping: float = 0.0) -> Any:
    """Orthonormal real spherical harmonics of degree 0 to `max_degree`; numpy or torch, without gradient.

    (n, 2) lon/lat degrees float64 -> (n, (max_degree + 1)^2); order m of degree l is column l*l + l + m,
    cosines for m > 0, sines for m < 0, without the Condon-Shortley sign; the integral of each square over
    the sphere is 1. Columns of degree l are multiplied by (1 + l)^-damping.

    The recurrence over degrees (Holmes and Featherstone 2002, eq. 11-13) runs without the norms, which leaves one
    factor less in it and are multiplied in at the end. The power of the cosine of the latitude is its start and
    nothing is divided by it, so the poles are no special case.

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
    scale = xp.asarray(row_scales(max_degree) * degree_weights(max_degree, damping), **make)
    out = xp.empty((len(points), columns), **make)
    block = xp.empty((columns, min(size, len(points))), **make)
    for start in range(0, len(points), size):
        some = points[start : start + size]
        rows = block[:, : len(some)]
        harmonic_rows(some, max_degree, rows)
        xp.multiply(rows.T, scale, out=out[start : start + size])
    return out


def check_degree(max_degree: int) -> None:
    """Raise SettingError unless `max_degree` is from 0 to MAX_DEGREE."""
    if not 0 <= max_degree <= MAX_DEGREE:
        raise SettingError(f"Harmonics need a max_degree from 0 to {MAX_DEGREE}, got {max_degree}.")


def degree_weights(max_degree: int, damping: float) -> NDArray[np.float64]:
    """(1 + l)^-damping for every column of `harmonics`."""
    degree = np.arange(max_degree + 1)
    return np.repeat((1.0 + degree) ** -damping, 2 * degree + 1)


def harmonic_rows(points: Any, max_degree: int, out: Any) -> None:
    """Harmonics without their norm, points along the rows, so that every step is one long stride.

    (n, 2) lon/lat degrees -> ((max_degree + 1)^2, n); row i times `row_scales(max_degree)[i]` is column i of
    `harmonics`. `out` may be a torch tensor of another dtype beside numpy points: each degree is then made in float32.
    """
    xp = namespace(points)
    same = namespace(out) is xp
    make = {"dtype": out.dtype if same else xp.float32} | ({} if xp is np else {"device": points.device})
    cosines, sines = fourier_rows(points[:, 0], max_degree, make)
    band = None if same else np.empty((2 * max_degree + 1, len(points)), dtype=np.float32)
    for degree, legendre in enumerate(legendre_rows(points[:, 1], max_degree, make)):
        rows = out[degree**2 : (degree + 1) ** 2]
        work = rows if band is None else band[: 2 * degree + 1]
        xp.multiply(legendre, cosines[: degree + 1], out=work[degree:])
        if xp is np:
            np.multiply(legendre[1:], sines[1 : degree + 1], out=work[:degree][::-1])
        else:
            work[:degree] = xp.flip(legendre[1:] * sines[1 : degree + 1], (0,))
        if band is not None:
            rows.copy_(namespace(out).from_numpy(work))


def fourier_rows(lon: Any, max_degree: int, make: dict[str, Any]) -> tuple[Any, Any]:
    """(n,) degrees -> cosines and sines of 0 to `max_degree` times the longitude, (max_degree + 1, n) each."""
    xp = namespace(lon)
    angle = xp.deg2rad(lon)
    turns = _powers(xp.asarray(xp.cos(angle), **make) + 1j * xp.asarray(xp.sin(angle), **make), max_degree)
    return turns.real + 0, turns.imag + 0


def legendre_rows(lat: Any, max_degree: int, make: dict[str, Any]) -> Iterator[Any]:
    """(n,) degrees -> for each degree l the Legendre functions of order 0 to l without their norm, (l + 1, n).

    Order m of degree l times `norms(max_degree)[l, m]` is normalised; an array is overwritten three degrees later.
    """
    xp = namespace(lat)
    angle = xp.deg2rad(lat)
    twice = xp.asarray(2 * xp.sin(angle), **make)
    sectoral = _powers(xp.asarray(xp.cos(angle), **make), max_degree)
    sectoral[sectoral < 2 * xp.finfo(sectoral.dtype).tiny] = 0  # numbers below the normal range slow everything down
    factors = xp.asarray(_factors(max_degree), **make)
    kept = xp.empty((3, max_degree + 1, len(lat)), **make)
    term = xp.empty((max_degree + 1, len(lat)), **make)
    for degree in range(max_degree + 1):
        here, last, before = (kept[(degree - back) % 3] for back in range(3))
        here[degree] = sectoral[degree]
        xp.multiply(last[:degree], twice, out=here[:degree])
        if degree > 1:
            lower, product = here[: degree - 1], term[: degree - 1]
            xp.multiply(before[: degree - 1], factors[degree, : degree - 1, None], out=product)
            xp.subtract(lower, product, out=lower)
        yield here[: degree + 1]


@lru_cache(maxsize=16)
def norms(max_degree: int) -> NDArray[np.float64]:
    """(degrees, orders): what makes the functions of `legendre_rows` those of orthonormal harmonics; 0 above l."""
    degree, order = np.ogrid[: max_degree + 1, : max_degree + 1]
    growth = np.append(1 / (4 * np.pi), 1 + 1 / (2 * np.arange(1.0, max_degree + 1)))
    growth[1:2] *= 2  # cosine and sine share the norm of every order but 0
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.sqrt((degree**2 - 0.25) / (degree**2 - order**2))
    steps = np.where(degree > order, steps, np.sqrt(np.cumprod(growth)))
    return np.asarray(np.tril(np.cumprod(np.where(degree < order, 1, steps), axis=0)))


def row_scales(max_degree: int) -> NDArray[np.float64]:
    """What makes the rows of `harmonic_rows` the columns of `harmonics`."""
    degree = np.repeat(np.arange(max_degree + 1), 2 * np.arange(max_degree + 1) + 1)
    order = np.arange(len(degree)) - degree * (degree + 1)
    return np.asarray(norms(max_degree)[degree, abs(order)])


@lru_cache(maxsize=16)
def _factors(max_degree: int) -> NDArray[np.float64]:
    """(degrees, orders): the factor of degree l - 2 in degree l."""
    degree, order = np.ogrid[: max_degree + 1, : max_degree + 1]
    return np.asarray(((degree - 1) ** 2 - order**2) / ((degree - 1) ** 2 - 0.25))


def _powers(base: Any, highest: int) -> Any:
    """(n,) -> its powers 0 to `highest`, (highest + 1, n); doubled step by step, so that few roundings meet."""
    xp = namespace(base)
    make = {"dtype": base.dtype} | ({} if xp is np else {"device": base.device})
    out = xp.ones((highest + 1, len(base)), **make)
    out[1:2] = base
    done = 1
    while done < highest:
        more = min(done, highest - done)
        xp.multiply(out[1 : more + 1], out[done], out=out[done + 1 : done + more + 1])
        done += more
    return out
