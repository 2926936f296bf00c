"""Forms of what location encoders compute that a graph of tensors can hold: no numpy, no tree, nothing in place.

They take the place of faster forms while `torch.export` traces an encoder, and give the same to rounding.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graticule.geo.coords import unit_sphere


def harmonics_by_degree(points: Tensor, max_degree: int, dtype: str, damping: float) -> Tensor:
    """`harmonics` by the same recurrence, in some ten operations a degree: (n, 2) -> (n, (max_degree + 1)^2).

    The powers of x + iy are two real rows. A degree is (2 l + 1, n), so that every operation is one long stride.
    """
    kind: torch.dtype = getattr(torch, dtype)

    def constant(values: Any) -> Tensor:
        return torch.asarray(values, dtype=kind, device=points.device)

    x, y, z = unit_sphere(points).to(kind).T[:, None]
    norm = 1 / sqrt(4 * pi)  # of the sectoral harmonics (x + iy)^l
    real, imaginary = torch.ones_like(z), torch.zeros_like(z)
    degrees = [real * constant(norm)]
    for degree in range(1, max_degree + 1):
        norm *= sqrt((2 * degree + 1) / (2 * degree)) * (sqrt(2) if degree == 1 else 1)
        real, imaginary = real * x - imaginary * y, real * y + imaginary * x
        order = np.arange(1 - degree, degree)[:, None]
        inner = degrees[-1] * (z * constant(np.sqrt((4 * degree**2 - 1) / (degree**2 - order**2))))
        if degree > 1:
            order = order[1:-1]
            ratio = ((degree - 1) ** 2 - order**2) / (degree**2 - order**2)
            term = degrees[-2] * constant(np.sqrt((2 * degree + 1) / (2 * degree - 3) * ratio))
            inner = torch.cat([inner[:1], inner[1:-1] - term, inner[-1:]])
        degrees.append(torch.cat([imaginary * constant(norm), inner, real * constant(norm)]))
    if damping:
        degrees = [rows * constant((1 + degree) ** -damping) for degree, rows in enumerate(degrees)]
    return torch.cat(degrees).T


def nearest_of_all(xyz: Tensor, sites: Tensor, nearest: int) -> Tensor:
    """(n, 3) points, (s, 3) sites of the unit sphere -> (n, nearest) numbers of the nearest sites; tries every pair."""
    return torch.topk(xyz @ sites.T, nearest).indices


def gathered_rows(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sum over k of weight[..., k] * table[index[..., k]]: (entries, f), (..., k), (..., k) -> (..., f)."""
    return (table[index.long()] * weight.to(table.dtype)[..., None]).sum(-2)
