"""Vectors of a trained encoder on a processor: blocks of places that stay in its cache, a thread a core.

`precision` is "float32" or "bfloat16". In bfloat16 the weights and all that lies between matrix products are rounded
to 8 bits, while the basis and the sums within a product keep float32: the cosine to the float32 vector is at least
.9999, of 16 sine layers .9998 (benchmarks/embed_speed.py). It is fast where the processor multiplies bfloat16 (AMX,
AVX-512 BF16) and slow elsewhere. Bodies compiled by `torch.compile` take a quarter less of their time, after half a
minute and with a C++ compiler, so they are not.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from graticule.encoders.folded import Folded, Gridded, Scattered, fold
from graticule.encoders.location import LocationEncoder
from graticule.encoders.networks import PRECISIONS
from graticule.encoders.threads import in_threads
from graticule.errors import unknown
from graticule.geo.coords import Points
from graticule.geo.grid import Axes, grid_axes, grid_points

BLOCK = 1024  # places at a time
FEW = 256  # places that are not worth a thread, or folding anything
BAND = 16_384  # places of a grid that share what is computed once a row
HIGHEST = 64  # rows of a grid at a time
NARROWEST, WIDEST = 32, 65_536  # columns of a grid that repay its rows, and whose Fourier functions are kept

Vectors = NDArray[np.float32]
Fill = Callable[[Points, Vectors], None]


def embed(encoder: LocationEncoder, points: Points, *, precision: str = "float32", dim: int | None = None) -> Vectors:
    """(n, 2) lon/lat degrees -> (n, dim) float32, by default the whole vectors, else their first numbers.

    As many threads as torch is set to use. Places that form a grid row after row, as in a raster, are embedded as such
    where the encoder allows it; float32 vectors are the same to rounding, 1e-5 of the
    largest number to degree 40.

    Raises SettingError for an unknown precision.
    """
    dtype, axes = as_dtype(precision), grid_axes(points)
    folded = fold(encoder, dtype) if len(points) >= FEW else None
    out = np.empty((len(points), encoder.dim if dim is None else dim), dtype=np.float32)
    if axes is not None and (grid := _gridded(folded, axes)) is not None:
        image = out.reshape(len(axes.lat), len(axes.lon), out.shape[1])
        done = in_threads(lambda: lambda rows: grid.fill(rows, image[rows]), _bands(axes))
    else:
        size = min(BLOCK, max(FEW, -(-len(points) // torch.get_num_threads())))
        anywhere = _anywhere(encoder, folded, dtype)

        def worker() -> Callable[[slice], None]:
            fill = anywhere(size)
            return lambda rows: fill(np.array(points[rows]), out[rows])

        done = in_threads(worker, _pieces(len(points), size))
    deque(done, maxlen=0)
    return out


def embed_grid(
    encoder: LocationEncoder, axes: Axes, *, precision: str = "float32", dim: int | None = None
) -> Iterator[Vectors]:
    """The vectors of a grid from its first row on, a band of rows at a time: (rows, columns, dim) float32.

    Only a few bands are in memory at once, however many rows there are. Otherwise as `embed`.
    """
    dtype, width = as_dtype(precision), encoder.dim if dim is None else dim
    folded = fold(encoder, dtype)
    grid, anywhere = _gridded(folded, axes), _anywhere(encoder, folded, dtype)

    def worker() -> Callable[[slice], Vectors]:
        fill = anywhere(BLOCK) if grid is None else None

        def band(rows: slice) -> Vectors:
            out = np.empty((len(axes.lat[rows]), len(axes.lon), width), dtype=np.float32)
            if grid is not None:
                grid.fill(rows, out)
            if fill is not None:
                points, flat = grid_points(Axes(axes.lon, axes.lat[rows])), out.reshape(-1, width)
                for piece in _pieces(len(points), BLOCK):
                    fill(points[piece], flat[piece])
            return out

        return band

    return in_threads(worker, _bands(axes))


def as_dtype(precision: str) -> torch.dtype:
    """The dtype of that name; SettingError for any but float32 and bfloat16."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def _gridded(folded: Folded | None, axes: Axes) -> Gridded | None:
    """The encoder on a grid, where it can be folded and the grid is worth it."""
    if folded is None or not NARROWEST <= len(axes.lon) <= WIDEST:
        return None
    return Gridded(folded, axes, BLOCK)


def _anywhere(encoder: LocationEncoder, folded: Folded | None, dtype: torch.dtype) -> Callable[[int], Fill]:
    """Given a number of places, a function that writes the vectors of at most so many; one for every thread."""
    if folded is not None:
        return lambda size: Scattered(folded, size).fill
    if dtype != torch.float32:
        encoder = copy.deepcopy(encoder, {id(encoder.basis): encoder.basis})  # which keeps its precision
        for part in filter(None, (encoder.body, encoder.skip)):
            part.to(dtype)

    def fill(points: Points, out: Vectors) -> None:
        torch.from_numpy(out).copy_(encoder(torch.from_numpy(points))[:, : out.shape[1]])

    return lambda size: fill


def _pieces(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _bands(axes: Axes) -> list[slice]:
    return _pieces(len(axes.lat), min(HIGHEST, max(1, BAND // max(1, len(axes.lon)))))
