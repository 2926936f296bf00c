"""Functions of a place that a location encoder starts from, fixed or learnable; numpy or torch, torch not needed.

A basis is a frozen dataclass of settings. `basis(points)` maps (n, 2) lon/lat degrees float64 to (n, dim).
`arrays()` are the random or learnable arrays it uses; a trained encoder keeps them among its weights and hands
them back: `basis(points, arrays)`. `learned` names those that are trained, `seamless` says whether the basis is
continuous at the antimeridian and the poles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.fourier import equal_earth, fourier, gaussian_frequencies, radius_frequencies
from graticule.encoders.harmonics import check_degree, harmonics
from graticule.encoders.hashgrid import geometric_resolutions, hash_grid
from graticule.errors import SettingError, unknown
from graticule.geo.arrays import namespace
from graticule.geo.coords import unit_sphere

Arrays = Mapping[str, Any]


class Basis(Protocol):
    """What every basis offers."""

    @property
    def dim(self) -> int:
        """Number of columns."""

    @property
    def seamless(self) -> bool:
        """Continuous at the antimeridian and the poles?"""

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the arrays that are trained; the others stay as they were drawn."""

    def settings(self) -> dict[str, Any]:
        """All settings; `build_basis(name, **settings)` gives the same basis."""

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The random or learnable arrays at their start."""

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        """(n, 2) lon/lat degrees float64 -> (n, dim), with other arrays than the first ones if given."""


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What the bases below share; `dtype` is that of the result, float32 or float64."""

    dtype: str = "float32"
    seamless: ClassVar[bool] = True
    learned: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            raise SettingError(f"A basis gives float32 or float64, got dtype {self.dtype!r}.")

    def settings(self) -> dict[str, Any]:
        return asdict(self)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {}

    def _cast(self, columns: Any) -> Any:
        kind = getattr(namespace(columns), self.dtype)
        return columns.astype(kind, copy=False) if isinstance(columns, np.ndarray) else columns.to(kind)


@dataclass(frozen=True, kw_only=True)
class Harmonics(_Settings):
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
class Cartesian(_Settings):
    """The point on the unit sphere: x, y, z."""

    dim: ClassVar[int] = 3

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        return self._cast(unit_sphere(points))


@dataclass(frozen=True, kw_only=True)
class Wrap(_Settings):
    """Sines, then cosines of longitude and latitude.

    Mac Aodha 2019, eq. 2, but with the latitude not doubled, so that the poles differ. Seamless at the
    antimeridian only: at a pole the longitude still counts.
    """

    seamless: ClassVar[bool] = False
    dim: ClassVar[int] = 4

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        xp = namespace(points)
        angles = xp.deg2rad(points)
        return self._cast(xp.concatenate([xp.sin(angles), xp.cos(angles)], -1))


@dataclass(frozen=True, kw_only=True)
class SphericalFourier(_Settings):
    """Cosines and sines of W x for x on the unit sphere and W normal with each of the standard deviations `scales`.

    A scale of s resolves wavelengths of about 40,000 km / s. Seamless, since it never sees a longitude.
    """

    scales: tuple[float, ...] = (2.0, 8.0, 32.0)
    frequencies_per_scale: int = 128
    seed: int = 0

    @property
    def dim(self) -> int:
        return 2 * len(self.scales) * self.frequencies_per_scale

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        radians = gaussian_frequencies(3, self.scales, self.frequencies_per_scale, self.seed)
        return {"frequencies": radians / np.float32(2 * np.pi)}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        arrays = self.arrays() if arrays is None else arrays
        return fourier(unit_sphere(points), arrays["frequencies"], self.dtype)


@dataclass(frozen=True, kw_only=True)
class EqualEarth(_Settings):
    """GeoCLIP's basis (Vivanco 2023, eq. 1-2): random Fourier features of the Equal Earth plane at several `sigmas`."""

    seamless: ClassVar[bool] = False
    sigmas: tuple[float, ...] = (1.0, 16.0, 256.0)
    frequencies_per_sigma: int = 256
    seed: int = 0

    @property
    def dim(self) -> int:
        return 2 * len(self.sigmas) * self.frequencies_per_sigma

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {"frequencies": gaussian_frequencies(2, self.sigmas, self.frequencies_per_sigma, self.seed)}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        arrays = self.arrays() if arrays is None else arrays
        return fourier(equal_earth(points), arrays["frequencies"], self.dtype)


@dataclass(frozen=True, kw_only=True)
class Space2Vec(_Settings):
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
class HashGrid(_Settings):
    """Learnable hash grid at several resolutions (Mueller 2022); tables start in U(-init_scale, init_scale)."""

    learned: ClassVar[tuple[str, ...]] = ("tables",)
    levels: int = 12
    coarsest: int = 8
    finest: int = 400
    log2_entries: int = 14
    features: int = 4
    smooth: bool = False
    init_scale: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        geometric_resolutions(self.levels, self.coarsest, self.finest)
        if not 0 <= self.log2_entries <= 30:
            raise SettingError(f"A hash grid needs log2_entries from 0 to 30, got {self.log2_entries}.")

    @property
    def dim(self) -> int:
        return self.levels * self.features

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        shape = (self.levels, 2**self.log2_entries, self.features)
        uniform = np.random.default_rng(self.seed).uniform(-self.init_scale, self.init_scale, shape)
        return {"tables": uniform.astype(np.float32)}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        xp = namespace(points)
        tables = (self.arrays() if arrays is None else arrays)["tables"]
        tables = tables if xp is np else xp.as_tensor(tables, device=points.device)
        resolutions = geometric_resolutions(self.levels, self.coarsest, self.finest)
        return hash_grid(unit_sphere(points), self._cast(tables), resolutions, self.smooth)


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

    def settings(self) -> dict[str, Any]:
        return {key: value for part in self.parts for key, value in part.settings().items()}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {f"{i}_{name}": array for i, part in enumerate(self.parts) for name, array in part.arrays().items()}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        arrays = self.arrays() if arrays is None else arrays
        columns = [part(points, _under(f"{i}_", arrays)) for i, part in enumerate(self.parts)]
        return namespace(points).concatenate(columns, -1)


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


BASES: dict[str, type[Any]] = {
    "cartesian": Cartesian,
    "equal-earth": EqualEarth,
    "harmonics": Harmonics,
    "hash-grid": HashGrid,
    "space2vec": Space2Vec,
    "spherical-fourier": SphericalFourier,
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
