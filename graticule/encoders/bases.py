"""The bases by name, and several of them side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.basis import Arrays, Basis, BasisSettings
from graticule.encoders.fourier import EqualEarth, Space2Vec, Sphere2Vec, SphericalFourier
from graticule.encoders.harmonics import check_degree, harmonics
from graticule.encoders.hashgrid import HashGrid
from graticule.encoders.slepian import Slepian
from graticule.encoders.voronoi import Voronoi
from graticule.errors import unknown
from graticule.geo.arrays import namespace
from graticule.geo.coords import unit_sphere


@dataclass(frozen=True, kw_only=True)
class Harmonics(BasisSettings):
    """Real spherical harmonics of degree 0 to `max_degree`, degree l damped by (1 + l)^-damping."""

    max_degree: int = 30
    damping: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_degree(self.max_degree)

    @property
    def dim(self) -> int:
        return (self.max_degree + 1) ** 2

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        return harmonics(points, self.max_degree, self.dtype, self.damping)


@dataclass(frozen=True, kw_only=True)
class Cartesian(BasisSettings):
    """The point on the unit sphere: x, y, z."""

    dim: ClassVar[int] = 3

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        return self.cast(unit_sphere(points))


@dataclass(frozen=True, kw_only=True)
class Wrap(BasisSettings):
    """Sines, then cosines of longitude and latitude.

    Mac Aodha 2019, eq. 2, but with the latitude not doubled, so that the poles differ. Seamless at the
    antimeridian only: at a pole the longitude still counts.
    """

    seamless: ClassVar[bool] = False
    dim: ClassVar[int] = 4

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        xp = namespace(points)
        angles = xp.deg2rad(points)
        return self.cast(xp.concatenate([xp.sin(angles), xp.cos(angles)], -1))


@dataclass(frozen=True)
class Concat:
    """Several bases side by side; the arrays of part i are called `i_name`."""

    parts: tuple[Basis, ...]

    @property
    def dim(self) -> int:
        return sum(part.dim for part in self.parts)

    @property
    def seamless(self) -> bool:
        return all(part.seamless for part in self.parts)

    @property
    def learned(self) -> tuple[str, ...]:
        return tuple(f"{i}_{name}" for i, part in enumerate(self.parts) for name in part.learned)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {f"{i}_{name}": shape for i, part in enumerate(self.parts) for name, shape in part.shapes.items()}

    def settings(self) -> dict[str, Any]:
        return {key: value for part in self.parts for key, value in part.settings().items()}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {f"{i}_{name}": array for i, part in enumerate(self.parts) for name, array in part.arrays().items()}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        arrays = self.arrays() if arrays is None else arrays
        columns = [part(points, own_arrays(f"{i}_", arrays)) for i, part in enumerate(self.parts)]
        return namespace(points).concatenate(columns, -1)


def parts(basis: Basis) -> list[tuple[str, Basis]]:
    """The bases that stand side by side in one, each with what its arrays' names begin with."""
    return [(f"{i}_", part) for i, part in enumerate(basis.parts)] if isinstance(basis, Concat) else [("", basis)]


def constant_columns(basis: Basis, points: Any, arrays: Arrays) -> Any:
    """(n, 2) lon/lat degrees -> (n, c): the columns of all parts that are not learned, side by side."""
    found = [part(points, own_arrays(prefix, arrays)) for prefix, part in parts(basis) if not part.learned]
    return namespace(points).concatenate([points[:, :0], *found], -1) if len(found) != 1 else found[0]


def completed(basis: Basis, points: Any, arrays: Arrays, known: Any) -> Any:
    """All columns of a basis at (n, 2) `points`, of which `known` (n, c) are the `constant_columns`."""
    columns, first = [], 0
    for prefix, part in parts(basis):
        if part.learned:
            columns.append(part(points, own_arrays(prefix, arrays)))
        else:
            columns.append(known[:, first : first + part.dim])
            first += part.dim
    return columns[0] if len(columns) == 1 else namespace(points).concatenate(columns, -1)


def own_arrays(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays whose names begin with `prefix`, without it: those of one part of a `Concat`."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


BASES: dict[str, type[Any]] = {
    "cartesian": Cartesian,
    "equal-earth": EqualEarth,
    "harmonics": Harmonics,
    "hash-grid": HashGrid,
    "slepian": Slepian,
    "space2vec": Space2Vec,
    "sphere2vec": Sphere2Vec,
    "spherical-fourier": SphericalFourier,
    "voronoi": Voronoi,
    "wrap": Wrap,
}


def basis_options(name: str, also_valid: Iterable[str] = ()) -> dict[str, Any]:
    """Options of the basis, or the "+"-joined bases, called `name` and their defaults, without the seed.

    Raises SettingError for an unknown name; `also_valid` are names that the caller knows beside the bases.
    """
    parts = name.split("+")
    for part in parts:
        if part not in BASES:
            raise unknown("location encoder", part, [*BASES, *also_valid])
    return {field.name: field.default for part in parts for field in fields(BASES[part]) if field.name != "seed"}


def build_basis(name: str, seed: int = 0, **options: Any) -> Basis:
    """The basis called `name`, or several joined by "+"; an option goes to every part that has it.

    Raises SettingError for an unknown name or option.
    """
    valid = basis_options(name)
    for option in options:
        if option not in valid:
            raise unknown(f"option of basis {name!r}", option, valid)
    parts: list[Basis] = []
    for part in name.split("+"):
        own = {field.name for field in fields(BASES[part])}
        parts.append(BASES[part](**{key: value for key, value in (options | {"seed": seed}).items() if key in own}))
    return parts[0] if len(parts) == 1 else Concat(tuple(parts))
