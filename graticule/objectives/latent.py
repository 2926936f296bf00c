"""Objectives of prediction in latent space: what the predictor misses, and what keeps vectors from collapsing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from graticule.errors import DataError
from graticule.objectives.blocks import find_own
from graticule.objectives.regression import effective_rank
from graticule.objectives.softmax import unit

EPSILON = 1e-4  # VICReg: under the root, so that its slope stays finite
KNOTS = 17  # LeJEPA: of the quadrature, from -LAST_KNOT to LAST_KNOT
LAST_KNOT = 5.0


def prediction_losses(
    predicted: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    *,
    stop_gradient: bool = True,
    of: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Smooth-L1 distance of the predictions from the layer-normed targets, a modality, and "prediction", their mean.

    (k, d) predictions and targets of the k hidden tokens of each modality. Each modality counts the same however
    many tokens it has (the paper, arXiv 2503.05774, takes the mean over all tokens, in which 197 image tokens
    drown 30 entities); one without hidden tokens counts 0 and is left out of the mean. Where these are only a part of
    the hidden tokens, `of` says how many there are in all: then the losses are what the part adds to those of all.
    """
    parts, asked = {}, 0
    for name, guess in predicted.items():
        if guess.shape != targets[name].shape:
            raise DataError(
                f"Predictions and targets of {name!r} must have the same shape, "
                f"got {tuple(guess.shape)} and {tuple(targets[name].shape)}."
            )
        target = F.layer_norm(targets[name], targets[name].shape[1:])
        count = len(guess) if of is None else of[name]
        asked += count > 0
        total = F.smooth_l1_loss(guess, target.detach() if stop_gradient else target, reduction="sum")
        parts[name] = total / max(1, count * guess.shape[1])
    mean = torch.stack(list(parts.values())).sum() / max(1, asked)
    return {"prediction": mean, **{f"prediction/{name}": part for name, part in parts.items()}}


def variance_and_covariance(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """VICReg's two terms of (n, d) vectors (Bardes 2022, eq. 1-4): spread each column, make columns uncorrelated.

    The mean over columns of max(0, 1 - standard deviation), and the squared covariances of different columns,
    summed and divided by d. Both are 0 for fewer than two rows.
    """
    if len(vectors) < 2:
        return vectors.sum() * 0, vectors.sum() * 0
    variance = F.relu(1 - (vectors.var(dim=0) + EPSILON).sqrt()).mean()
    centred = vectors - vectors.mean(dim=0)
    covariance = centred.T @ centred / (len(vectors) - 1)
    return variance, (covariance.square().sum() - covariance.diagonal().square().sum()) / vectors.shape[1]


def epps_pulley(values: Tensor) -> Tensor:
    """(n, k) -> (k,) how far each column is from N(0, 1): n times the integral over t of |phi_n(t) - phi(t)|^2 phi(t).

    phi_n is the mean over rows of exp(i t x), phi(t) = exp(-t^2 / 2) both what it should be and the weight
    (Epps & Pulley 1983; LeJEPA, arXiv 2511.08544, section 4), by the trapezoid rule on KNOTS points.
    """
    knots = torch.linspace(-LAST_KNOT, LAST_KNOT, KNOTS, device=values.device, dtype=values.dtype)
    normal = torch.exp(-knots.square() / 2)
    angle = values[:, :, None] * knots
    apart = (angle.cos().mean(dim=0) - normal).square() + angle.sin().mean(dim=0).square()
    return len(values) * torch.trapezoid(apart * normal, knots, dim=1)


def sketched_normality(vectors: Tensor, directions: int = 256) -> Tensor:
    """SIGReg (LeJEPA, arXiv 2511.08544): `epps_pulley` of (n, d) vectors along random directions, the mean.

    Small when the vectors look like draws from N(0, identity). Directions come from torch's random numbers, anew
    each call. 0 without rows.
    """
    if len(vectors) == 0:
        return vectors.sum()
    drawn = torch.randn(vectors.shape[1], directions, device=vectors.device, dtype=vectors.dtype)
    return epps_pulley(vectors @ F.normalize(drawn, dim=0)).mean()


def across_modalities(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    """InfoNCE both ways between (n, d) pooled vectors of two modalities: row i belongs to row i (CLIP 2021, fig. 3).

    0 for fewer than two rows, among which there is nothing to find.
    """
    if len(first) < 2:
        return (first.sum() + second.sum()) * 0
    return find_own(unit(first) / temperature, unit(second), back=True).mean()


def rank_about_zero(vectors: Tensor) -> Tensor:
    """Effective rank of (n, d) vectors without taking their mean away (RankMe, Garrido 2023, eq. 4).

    It sees a collapse to one point, whatever the rank of what is left around it: rows alike have rank 1.
    """
    return effective_rank(torch.cat([vectors, -vectors]) / math.sqrt(2))
