"""Slepian functions of the land: harmonics to a degree, combined so that they say most where there is land."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.basis import Arrays, BasisSettings
from graticule.encoders.harmonics import harmonics
from graticule.errors import SettingError
from graticule.geo.arrays import namespace
from graticule.geo.coarse_land import mostly_land
from graticule.geo.coords import Points, fibonacci_lattice

LARGEST_BANDLIMIT = 60  # a kernel of 3,721 harmonics takes a quarter of a minute
OVERSAMPLING = 16  # lattice points for each harmonic; products of two harmonics have twice the degree


def concentrated(
    bandlimit: int, inside: Callable[[Points], NDArray[np.bool_]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Functions of degree 0 to `bandlimit`, orthonormal on the sphere and most concentrated where `inside` says.

    -> (h,) shares of their squares that lie inside, from the highest, and (h, h) coefficients, a column for each
    function and a row for each of the h = (bandlimit + 1)^2 columns of `harmonics`. The shares sum to the Shannon
    number: h times the share of the sphere that is inside; about as many are near 1, and the others near 0.

    Eigenvectors of the localisation kernel, the integral of Y Y' over the region (Simons, Dahlen and Wieczorek 2006,
    section 4). The paper integrates along outlines; here an even lattice of 16 h points is summed, for regions that
    are known as a yes or no at a place, which puts the shares right to about .01.
    """
    lattice = fibonacci_lattice(OVERSAMPLING * (bandlimit + 1) ** 2)
    rows = harmonics(lattice[inside(lattice)], bandlimit, "float64")
    shares, functions = np.linalg.eigh(4 * np.pi / len(lattice) * rows.T @ rows)
    return shares[::-1], functions[:, ::-1]


@lru_cache(maxsize=4)
def _on_land(bandlimit: int) -> NDArray[np.float64]:
    return concentrated(bandlimit, mostly_land)[1]


@dataclass(frozen=True, kw_only=True)
class Slepian(BasisSettings):
    """The `functions` functions of degree 0 to `bandlimit` that are most concentrated on land.

    About .29 (bandlimit + 1)^2 are worth having: as many columns as harmonics of half the degree, for features of half
    the size, on land; at sea hardly anything is left of them. They are orthonormal on the sphere, and nearly orthogonal
    on land. Land is that of `geo.coarse_land`, without islands. Eigenvectors of equal concentration may turn from one
    machine to another, so the coefficients belong to the weights of a trained encoder, though they are never trained.
    """

    bandlimit: int = 40
    functions: int = 480

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.bandlimit <= LARGEST_BANDLIMIT:
            raise SettingError(
                f"Slepian functions need a bandlimit from 0 to {LARGEST_BANDLIMIT}, got {self.bandlimit}."
            )
        if not 1 <= self.functions <= (most := (self.bandlimit + 1) ** 2):
            raise SettingError(
                f"There are {most} functions of degree 0 to {self.bandlimit}, got functions={self.functions}."
            )

    @property
    def dim(self) -> int:
        return self.functions

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"coefficients": ((self.bandlimit + 1) ** 2, self.functions)}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {"coefficients": _on_land(self.bandlimit)[:, : self.functions].astype(np.float32)}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        xp = namespace(points)
        coefficients = (self.arrays() if arrays is None else arrays)["coefficients"]
        coefficients = coefficients if xp is np else xp.as_tensor(coefficients, device=points.device)
        return harmonics(points, self.bandlimit, self.dtype) @ self.cast(coefficients)
