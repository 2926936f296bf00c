"""Regression of a frozen tower's features from the location vector: smoothness that contrast alone does not ask for."""

from __future__ import annotations

import torch
from torch import Tensor

from graticule.errors import DataError


def feature_regression(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between (n, d) predictions and (n, d) standardised features: 1 means nothing was learned."""
    if predicted.shape != target.shape:
        raise DataError(
            f"Prediction and target must have the same shape, got {tuple(predicted.shape)} and {tuple(target.shape)}."
        )
    return (predicted - target).square().mean()


def effective_rank(vectors: Tensor) -> Tensor:
    """Exponential of the entropy of the normalised singular values of centred (n, d) vectors (Roy & Vetterli 2007)."""
    values = torch.linalg.svdvals((vectors - vectors.mean(dim=0)).double())
    share = values / values.sum().clamp(min=1e-30)
    return torch.exp(-(share * share.clamp(min=1e-30).log()).sum())
