"""Two demands on vectors on the unit sphere (Wang & Isola 2020): spread over it, and what belongs together close."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from graticule.errors import DataError
from graticule.objectives.blocks import KEPT, own
from graticule.objectives.softmax import similarities


def uniformity(vectors: Tensor) -> Tensor:
    """Logarithm of the mean of exp(-2 |x - y|^2) over pairs of normalised (n, d) vectors (Wang & Isola 2020, 4.1.2).

    t = 2, pairs of different rows, as in the authors' code; -4 is the limit of vectors spread over a sphere of many
    dimensions, 0 the collapse; 0 also of fewer than two rows. `graticule.evaluation.information.spread.uniformity` is
    the same in numpy, without a gradient.
    """
    n = len(vectors)
    if n < 2:
        return vectors.sum() * 0
    at_once = max(1, KEPT // n)
    parts = [slice(start, min(start + at_once, n)) for start in range(0, n, at_once)]
    crowding = partial(checkpoint, _crowding, use_reentrant=False) if len(parts) > 1 else _crowding
    return torch.cat([crowding(vectors, rows) for rows in parts]).logsumexp(dim=0) - math.log(n * (n - 1))


def _crowding(vectors: Tensor, rows: slice) -> Tensor:
    """Of some rows, log sum exp of -2 |x - y|^2 over all others."""
    exponent = 4 * similarities(vectors[rows], vectors) - 4  # -2 |x - y|^2
    own(rows, slice(0, len(vectors)), exponent)[1].fill_(-math.inf)
    return exponent.logsumexp(dim=1)


def alignment(vectors: Tensor, partners: Tensor) -> Tensor:
    """Mean of |x - y|^2, 0 to 4, over rows of two normalised (n, d) tensors (Wang & Isola 2020, 4.1.1, alpha = 2).

    0 without rows. Raises DataError for different shapes.
    """
    if vectors.shape != partners.shape:
        raise DataError(f"Pairs must have the same shape, got {tuple(vectors.shape)} and {tuple(partners.shape)}.")
    exact = torch.promote_types(vectors.dtype, torch.float32)  # bfloat16 does not see neighbours apart
    apart = F.normalize(vectors.to(exact), dim=-1) - F.normalize(partners.to(exact), dim=-1)
    return apart.square().sum() / max(1, len(vectors))
