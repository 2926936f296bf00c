"""Two demands on vectors on the unit sphere (Wang & Isola 2020): spread over it, and what belongs together close."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from graticule.errors import DataError
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
    exponent = 4 * similarities(vectors, vectors) - 4  # -2 |x - y|^2
    itself = torch.eye(n, dtype=torch.bool, device=vectors.device)
    return exponent.masked_fill(itself, -math.inf).flatten().logsumexp(dim=0) - math.log(n * (n - 1))


def alignment(vectors: Tensor, partners: Tensor) -> Tensor:
    """Mean of |x - y|^2, 0 to 4, over rows of two normalised (n, d) tensors (Wang & Isola 2020, 4.1.1, alpha = 2).

    0 without rows. Raises DataError for different shapes.
    """
    if vectors.shape != partners.shape:
        raise DataError(f"Pairs must have the same shape, got {tuple(vectors.shape)} and {tuple(partners.shape)}.")
    exact = torch.promote_types(vectors.dtype, torch.float32)  # bfloat16 does not see neighbours apart
    apart = F.normalize(vectors.to(exact), dim=-1) - F.normalize(partners.to(exact), dim=-1)
    return apart.square().sum() / max(1, len(vectors))
