"""What a basis is: functions of a place that a location encoder starts from; numpy or torch, torch not needed.

A basis is a frozen dataclass of settings. `basis(points)` maps (n, 2) lon/lat degrees float64 to (n, dim).
`arrays()` are the random or learnable arrays it uses; a trained encoder keeps them among its weights and hands
them back: `basis(points, arrays)`. `learned` names those that are trained, `seamless` says whether the basis is
continuous at the antimeridian and the poles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from graticule.errors import SettingError
from graticule.geo.arrays import namespace

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

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of `arrays`, known without making them."""

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The random or learnable arrays at their start."""

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        """(n, 2) lon/lat degrees float64 -> (n, dim), with other arrays than the first ones if given."""


@dataclass(frozen=True, kw_only=True)
class BasisSettings:
    """What all bases share; `dtype` is that of the result, float32 or float64."""

    dtype: str = "float32"
    seamless: ClassVar[bool] = True
    learned: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            raise SettingError(f"A basis gives float32 or float64, got dtype {self.dtype!r}.")

    def settings(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {}

    def cast(self, columns: Any) -> Any:
        """The columns in the dtype of the settings."""
        kind = getattr(namespace(columns), self.dtype)
        return columns.astype(kind, copy=False) if isinstance(columns, np.ndarray) else columns.to(kind)
