"""Multi-resolution hash grid over the unit sphere: learnable local detail; numpy or torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.basis import Arrays, BasisSettings
from graticule.errors import SettingError
from graticule.geo.arrays import namespace
from graticule.geo.coords import unit_sphere

PRIMES = (1, 2_654_435_761, 805_459_861)  # Mueller 2022, eq. 4


def geometric_resolutions(levels: int, coarsest: int, finest: int) -> tuple[int, ...]:
    """Cells per axis of every level, from `coarsest` to `finest` in geometric steps (Mueller 2022, eq. 2-3)."""
    if levels < 1 or not 1 <= coarsest <= finest:
        raise SettingError(
            "A hash grid needs 1 level or more and 1 <= coarsest <= finest, "
            f"got levels={levels}, coarsest={coarsest}, finest={finest}."
        )
    return tuple(int(cells) for cells in np.round(np.geomspace(coarsest, finest, levels)))


def hash_grid(xyz: Any, tables: Any, resolutions: Sequence[int], smooth: bool = False) -> Any:
    """Interpolated table rows at points of the cube [-1, 1]^3.

    (n, 3) points, (levels, entries, features) tables -> (n, levels * features), in the dtype of the tables.
    `resolutions` are the cells per axis of every level, ascending; `entries` is a power of two. A level whose
    corners fit into its table is indexed directly, a finer one by the spatial hash of Mueller 2022, eq. 4.
    Interpolation is trilinear, with `smooth` by smoothstep weights (continuous first derivatives). Gradients
    flow to the tables, not to the points.
    """
    xp = namespace(xyz)
    if (
        xp is not np and xyz.device.type == "cpu" and not xp.compiler.is_exporting()
    ):  # numpy: torch would share out every short step over its threads
        index, weight = (xp.from_numpy(array) for array in corners(xyz.numpy(), *_kind(tables), resolutions, smooth))
    else:
        index, weight = corners(xyz, *_kind(tables), resolutions, smooth)
    rows = weighted_rows(tables, index, weight)  # (levels, n, features)
    return rows.swapaxes(0, 1).reshape(xyz.shape[0], tables.shape[0] * tables.shape[2])


def _kind(tables: Any) -> tuple[int, str]:
    """Entries of a level and the name of the dtype."""
    return tables.shape[1], str(tables.dtype).removeprefix("torch.")


def corners(xyz: Any, entries: int, dtype: str, resolutions: Sequence[int], smooth: bool) -> tuple[Any, Any]:
    """Rows, counted through all tables laid end to end, of the 8 corners around points, and their weights.

    (n, 3) points -> (levels, n, 8) integers and (levels, n, 8) of `dtype`. Every part of a number is cut to the length
    of a table before the parts of the three axes meet, so that a corner costs one step; low bits of products do not
    depend on their high ones, so 32 bits do unless all tables together are longer.
    """
    xp = namespace(xyz)
    make = {} if xp is np else {"device": xyz.device}
    cells, levels = np.array(resolutions), len(resolutions)
    dense = int(((cells + 1) ** 3 <= entries).sum())  # the first levels
    strides = np.array([(1, c + 1, (c + 1) ** 2) if i < dense else PRIMES for i, c in enumerate(cells)], dtype=np.int64)
    whole = xp.int32 if levels * entries < 2**31 else xp.int64
    strides = strides.astype(np.int32 if whole is xp.int32 else np.int64)  # wraps around

    numbers, shares = [], []  # for each axis, of the lower and the upper corner: (levels, n)
    for axis in range(3):
        position = (xyz[:, axis] + 1) * xp.asarray(cells[:, None] / 2, **make)
        low = xp.minimum(xp.floor(position), xp.asarray(cells[:, None] - 1.0, **make))
        share = xp.asarray(position - low, dtype=getattr(xp, dtype))
        share = share * share * (3 - 2 * share) if smooth else share
        stride = xp.asarray(strides[:, axis, None], **make)
        number = xp.asarray(low, dtype=whole) * stride
        numbers.append([part & (entries - 1) for part in (number, number + stride)])
        shares.append([1 - share, share])
    first = xp.asarray(np.arange(levels)[:, None] * entries, dtype=whole, **make)
    numbers[0] = [part + first for part in numbers[0]]  # above the bits that meet

    index, weight = [], []
    for x, y, z in product((0, 1), repeat=3):
        along, inner, outer = numbers[0][x], numbers[1][y], numbers[2][z]
        direct, hashed = inner[:dense] + outer[:dense], inner[dense:] ^ outer[dense:]
        index.append(xp.concatenate([direct + along[:dense], hashed ^ along[dense:]], 0))
        weight.append(shares[0][x] * shares[1][y] * shares[2][z])
    return xp.stack(index, -1), xp.stack(weight, -1)


def weighted_rows(tables: Any, index: Any, weight: Any) -> Any:
    """Sum over k of weight[..., k] * row index[..., k] of all tables laid end to end, in the dtype of the tables."""
    table = tables.reshape(-1, tables.shape[-1])
    if isinstance(table, np.ndarray):
        return np.einsum("...k,...kf->...f", weight.astype(table.dtype, copy=False), table.take(index, axis=0))
    if namespace(table).compiler.is_exporting():
        from graticule.encoders.traceable import gathered_rows

        return gathered_rows(table, index, weight)
    from graticule.encoders.weighted_rows import WeightedRows

    bags, corners = index.shape[:-1].numel(), index.shape[-1]
    rows = WeightedRows.apply(table, index.reshape(bags, corners), weight.to(table.dtype).reshape(bags, corners))  # type: ignore[no-untyped-call]
    return rows.reshape(*index.shape[:-1], table.shape[-1])


@dataclass(frozen=True, kw_only=True)
class HashGrid(BasisSettings):
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

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"tables": (self.levels, 2**self.log2_entries, self.features)}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        shape = self.shapes["tables"]
        uniform = np.random.default_rng(self.seed).uniform(-self.init_scale, self.init_scale, shape)
        return {"tables": uniform.astype(np.float32)}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        xp = namespace(points)
        tables = (self.arrays() if arrays is None else arrays)["tables"]
        tables = tables if xp is np else xp.as_tensor(tables, device=points.device)
        resolutions = geometric_resolutions(self.levels, self.coarsest, self.finest)
        return hash_grid(unit_sphere(points), self.cast(tables), resolutions, self.smooth)
