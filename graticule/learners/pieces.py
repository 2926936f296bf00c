"""Embedding a batch piece by piece, so that what an encoder keeps for the backward pass is that of one piece."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_pieces(encode: Callable[..., Tensor], at_once: int, rows: Tensor, *beside: Tensor | None) -> Tensor:
    """`encode(rows, ...)` of (n, ...) rows, `at_once` at a time, and again when the gradient comes back; 0 for all.

    What stands `beside` the rows, of as many rows or None, is cut with them. Gradient caching (Gao 2021, arXiv
    2101.06983): activations are those of a piece, at the price of one more forward pass. Dropout draws the same numbers
    the second time. Nothing in `encode` may mix rows, as batch norm does.
    """
    if not at_once or len(rows) <= at_once:
        return encode(rows, *beside)
    pieces = [slice(start, start + at_once) for start in range(0, len(rows), at_once)]
    cut = ([None if part is None else part[piece] for part in (rows, *beside)] for piece in pieces)
    return torch.cat([checkpoint(encode, *piece, use_reentrant=False) for piece in cut])
