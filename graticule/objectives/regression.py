"""Regression of a frozen tower's features from the location vector: smoothness that contrast alone does not ask for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graticule.errors import DataError


def feature_regression(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between (n, d) predictions and (n, d) standardised features: 1 means nothing was learned.

    0 without rows.
    """
    if predicted.shape != target.shape:
        raise DataError(
            f"Prediction and target must have the same shape, got {tuple(predicted.shape)} and {tuple(target.shape)}."
        )
    squares = (predicted - target).square()
    return squares.mean() if len(squares) else squares.sum()


def prefix_regression(predicted: Tensor, target: Tensor, lengths: Sequence[int] = ()) -> Tensor:
    """Mean over d in `lengths` of `feature_regression` of the first d columns (Kusupati 2022, eq. 1); () means all.

    Leading columns count more, by the number of prefixes that they are in.
    """
    parts = [feature_regression(predicted[:, :d], target[:, :d]) for d in lengths]
    return torch.stack(parts).mean() if parts else feature_regression(predicted, target)


def effective_rank(vectors: Tensor) -> Tensor:
    """Exponential of the entropy of the normalised singular values of centred (n, d) vectors (Roy & Vetterli 2007)."""
    values = torch.linalg.svdvals((vectors - vectors.mean(dim=0)).double())
    share = values / values.sum().clamp(min=1e-30)
    return torch.exp(-(share * share.clamp(min=1e-30).log()).sum())
