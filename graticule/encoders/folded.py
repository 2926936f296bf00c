"""Harmonics and the first linear layer of an encoder as one step: block by block, and on grids without a block at all.

On a grid the first layer is a sum over orders m of cos(m lon) and sin(m lon) times what depends on the latitude alone:
the sum over degrees, taken once a row. A place then costs 2L + 1 products a number instead of (L + 1)^2.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graticule.encoders.bases import Concat, Harmonics, own_arrays
from graticule.encoders.bodies import split_body
from graticule.encoders.harmonics import degree_weights, fourier_rows, harmonic_rows, legendre_rows, norms, row_scales
from graticule.encoders.location import LocationEncoder
from graticule.geo.coords import Points
from graticule.geo.grid import Axes, grid_points

Function = Callable[[Tensor], Tensor]
DOUBLE = {"dtype": np.float64}


@dataclass(frozen=True)
class Folded:
    """A location encoder on harmonics whose body begins with a linear layer, taken apart.

    `first` (width, harmonics) and `skip` (dim, harmonics), if there is one, are float32 and act on orthonormal
    harmonics; `others` are the further bases, each with its part of the first layer (width, columns), and `rest` is the
    body behind the first layer; these, and what is worked with, are of `dtype`.
    """

    max_degree: int
    first: Tensor
    bias: Tensor
    skip: Tensor | None
    others: tuple[tuple[Function, Tensor], ...]
    rest: Function
    dtype: torch.dtype

    def vectors(self, points: Points, summed: Tensor) -> Tensor:
        """(n, 2) places and the (n, width) sums of the first layer over harmonics -> (n, dim), without `skip`."""
        for basis, weight in self.others:
            summed = torch.addmm(summed, basis(torch.from_numpy(points)).to(self.dtype), weight.T)
        return self.rest(summed)


def fold(encoder: LocationEncoder, dtype: torch.dtype) -> Folded | None:
    """The encoder in `dtype`, float32 or bfloat16; None where basis or body are others than `Folded` is made of."""
    basis, arrays = encoder.basis.basis, encoder.basis.arrays()
    parts = basis.parts if isinstance(basis, Concat) else (basis,)
    found = [i for i, part in enumerate(parts) if isinstance(part, Harmonics) and part.dtype == "float32"]
    split = split_body(encoder.body)
    body = split if dtype == torch.float32 else split_body(copy.deepcopy(encoder.body).to(dtype))
    if not found or split is None or body is None or split[0].weight.dtype != torch.float32:
        return None
    dims = [part.dim for part in parts]
    weights = dict(enumerate(torch.split(split[0].weight.detach(), dims, 1)))
    own: Any = parts[found[0]]
    degree, damping = own.max_degree, torch.from_numpy(degree_weights(own.max_degree, own.damping))
    weight = weights.pop(found[0]) * damping.float()
    low = encoder.low_frequency
    if low > degree:
        weight, degree = torch.nn.functional.pad(weight, (0, (low + 1) ** 2 - weight.shape[1])), low
    others = tuple(
        (partial(parts[i], arrays=own_arrays(f"{i}_", arrays)), other.to(dtype)) for i, other in weights.items()
    )
    skip = None if encoder.skip is None else encoder.skip.weight.detach()
    return Folded(degree, weight, split[0].bias.detach(), skip, others, body[1], dtype)


class Scattered:
    """`Folded` at any places, at most `size` at a time; keeps the memory it works in, so one for every thread."""

    def __init__(self, folded: Folded, size: int) -> None:
        self.folded, scales = folded, torch.from_numpy(row_scales(folded.max_degree))
        self.first = (folded.first * scales).to(folded.dtype)
        self.bias = folded.bias.to(folded.dtype)[:, None]
        self.skip = None if folded.skip is None else (folded.skip * scales[: folded.skip.shape[1]]).to(folded.dtype)
        self.rows = torch.empty((len(scales), size), dtype=folded.dtype)

    def fill(self, points: Points, out: NDArray[np.float32]) -> None:
        """(n, 2) places -> (n, up to dim) vectors."""
        rows = self.rows[:, : len(points)]
        harmonic_rows(points, self.folded.max_degree, rows.numpy() if rows.dtype == torch.float32 else rows)
        summed = torch.addmm(self.bias, self.first, rows).T.contiguous()
        vectors = self.folded.vectors(points, summed)
        if self.skip is not None:
            vectors = vectors + torch.mm(self.skip, rows[: self.skip.shape[1]]).T
        torch.from_numpy(out).copy_(vectors[:, : out.shape[1]])


class Gridded:
    """`Folded` on a grid, some rows at a time, of which at most `size` places at a time."""

    def __init__(self, folded: Folded, axes: Axes, size: int) -> None:
        self.folded, self.axes, self.size = folded, axes, size
        self.first = _by_order(folded.first)
        self.skip = None if folded.skip is None else _by_order(folded.skip)
        cosines, sines = fourier_rows(axes.lon, folded.max_degree, DOUBLE)
        sines[0] = 1  # the place of the bias
        pairs = np.stack([cosines, sines], 1).reshape(-1, len(axes.lon))
        self.fourier = torch.from_numpy(pairs).T.to(folded.dtype).contiguous()  # (columns, 2 (degrees + 1))

    def fill(self, rows: slice, out: NDArray[np.float32]) -> None:
        """Some rows of the grid -> (rows, columns, up to dim) vectors."""
        lon, lat = self.axes.lon, self.axes.lat[rows]
        first = self.by_row(lat, self.first)
        first[:, 1] = self.folded.bias.to(first.dtype)
        skip = None if self.skip is None else self.by_row(lat, self.skip)
        height, parts = max(1, self.size // len(lon)), -(-len(lon) // self.size)
        width = -(-len(lon) // parts)
        for top, left in product(range(0, len(lat), height), range(0, len(lon), width)):
            some, those = slice(top, top + height), slice(left, left + width)
            fourier, tile = self.fourier[those], out[some, those]
            summed = torch.matmul(fourier, first[some])
            vectors = self.folded.vectors(grid_points(Axes(lon[those], lat[some])), summed.flatten(0, 1))
            vectors = vectors.reshape(*tile.shape[:2], -1)
            if skip is not None:
                vectors = vectors + torch.matmul(fourier[:, : skip.shape[1]], skip[some])
            torch.from_numpy(tile).copy_(vectors[..., : out.shape[2]])

    def by_row(self, lat: NDArray[np.float64], weights: list[Tensor]) -> Tensor:
        """(rows,) latitudes -> (rows, 2 (degrees + 1), width): the factors of cosine and sine of every order."""
        degrees = len(weights)
        legendre = np.zeros((degrees, degrees, len(lat)), dtype=np.float32)
        for degree, values in enumerate(legendre_rows(lat, degrees - 1, DOUBLE)):
            legendre[degree, : degree + 1] = values
        functions = torch.from_numpy(legendre)
        sums = [torch.mm(functions[order:, order].T, weights[order]) for order in range(degrees)]
        return torch.stack(sums, 1).reshape(len(lat), 2 * degrees, -1).to(self.folded.dtype)


def _by_order(weight: Tensor) -> list[Tensor]:
    """(width, harmonics) -> for each order m, for degrees from m on, weights of cosine, then sine, with their norms."""
    degrees = int(weight.shape[1] ** 0.5 + 0.5)
    scale = torch.from_numpy(norms(degrees - 1)).float()
    degree = torch.arange(degrees)
    middle = degree * (degree + 1)
    orders = []
    for order in range(degrees):
        columns = [weight[:, middle[order:] + sign * order].T for sign in (1, -1)]
        columns[1] = columns[1] * (order > 0)
        orders.append(torch.cat(columns, 1) * scale[order:, order, None])
    return orders
