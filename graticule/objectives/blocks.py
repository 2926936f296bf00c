"""A softmax whose matrix of logits is never there as a whole: memory in proportion to its rows, not to their square.

The matrix is walked over in blocks that stay in the processor's cache. In the forward pass a block adds to the sums of
its rows and, for the way back, of its columns; in the backward pass its logits are computed again, unless the whole
matrix is small. Both ways share the matrix products and, but for very low temperatures, the exponentials.

find_own    losses of rows that should find their own columns
Target      what each row of a block should find, and what is left out of its softmax
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHED = 512, 1024  # rows and columns of a block on a processor: 2 MiB of float32
BUSY = 8192, 8192  # on an accelerator
KEPT = 2**24  # a matrix of so many numbers, 64 MiB of float32, is not computed again


class Target(NamedTuple):
    """Of n rows and m candidates: (n, m) weights, and (n, m) who is left out.

    A weight is 0 or more, 0 of who is left out, and 1 of a row's own candidate, which never is.
    """

    weights: Tensor
    left_out: Tensor


class Targets(Protocol):
    """Targets of all rows, of which a block is made when it is needed."""

    def block(self, rows: slice, columns: slice) -> Target:
        """The target of some rows among some candidates, row i's own being candidate i; it may be overwritten."""
        ...


class Block(NamedTuple):
    """Some rows and columns of the matrix, and whose softmax it counts in: that of the rows, of the columns."""

    rows: slice
    columns: slice
    there: bool
    back: bool


def find_own(
    rows: Tensor, columns: Tensor, *, back: bool, asked: int | None = None, targets: Targets | None = None
) -> Tensor:
    """(asked,) losses of rows (n, dim) that should find their own among columns (m, dim) by `rows @ columns.T`.

    Column i is row i's own, m >= n. There: -sum_j p_ij log softmax(logits[i])_j, where p_i is 1 at column i (van den
    Oord 2018, eq. 4) or, with `targets`, the weights of row i over their sum. With `back` the mean of this and of the
    way back, in which column i should find row i among all n rows. Only the losses of the first `asked` rows are
    computed, all by default; the others are rows that these columns have to be told from.
    """
    with torch.autocast(rows.device.type, enabled=False):
        losses: Tensor = _FindOwn.apply(rows, columns, len(rows) if asked is None else asked, back, targets)  # type: ignore[no-untyped-call]
    return losses


def own(rows: slice, columns: slice, block: Tensor) -> tuple[slice, Tensor]:
    """Which rows have their own column in a block, and these elements of it, a view."""
    first, last = max(rows.start, columns.start), min(rows.stop, columns.stop)
    if first >= last:
        return slice(0, 0), block[:0, 0]
    return slice(first, last), block.diagonal(rows.start - columns.start)


class _Sums:
    """Of rows, there, and of columns, back: sums of what blocks hold, or with `logarithms` log sum exp of it."""

    def __init__(self, like: Tensor, count: int, logarithms: bool = False) -> None:
        self.logarithms = logarithms
        self.there, self.back = (like.new_full((count,), -math.inf if logarithms else 0.0) for _ in range(2))

    def add(self, block: Block, values: Tensor) -> None:
        if block.there:
            self._add(self.there[block.rows], values, 1)
        if block.back:
            self._add(self.back[block.columns], values, 0)

    def _add(self, sums: Tensor, values: Tensor, dim: int) -> None:
        if self.logarithms:
            torch.logaddexp(sums, values.logsumexp(dim), out=sums)
        else:
            sums += values.sum(dim)


class _FindOwn(torch.autograd.Function):
    """With S_i = log sum_k exp z_ik the loss is S_i - sum_j p_ij z_ij, its gradient exp(z_ij - S_i) - p_ij."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, asked: int, back: bool, targets: Targets | None) -> Tensor:
        steep = _longest(rows) * _longest(columns) > math.log(torch.finfo(rows.dtype).max) / 2  # e^z would overflow
        small = len(rows) * len(columns) <= KEPT
        sums, found, weights = _Sums(rows, asked, logarithms=steep), _Sums(rows, asked), _Sums(rows, asked)
        kept = []
        for block in _blocks(len(rows), len(columns), asked, back, rows.device):
            logits = rows[block.rows] @ columns[block.columns].T
            if targets is None:
                which, values = own(block.rows, block.columns, logits)
                found.there[which] = found.back[which] = values
            else:
                target = targets.block(block.rows, block.columns)
                weights.add(block, target.weights)
                found.add(block, target.weights.mul_(logits))
                logits.masked_fill_(target.left_out, -math.inf)
            terms = logits if steep else logits.exp_()
            sums.add(block, terms)
            if small:
                kept.append(terms)
        log_sums = [of if steep else of.log() for of in (sums.there, sums.back)]
        weight = [torch.ones_like(of) if targets is None else of for of in (weights.there, weights.back)]
        ctx.save_for_backward(rows, columns, *log_sums, *weight, *kept)
        ctx.how = asked, back, targets, steep
        means = (found.there / weight[0], found.back / weight[1])
        there, behind = (total - mean for total, mean in zip(log_sums, means, strict=True))
        return (there + behind) / 2 if back else there

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, columns, there, behind, there_weight, back_weight, *kept = ctx.saved_tensors
        asked, back, targets, steep = ctx.how
        gradient = gradient / 2 if back else gradient
        rises = None if steep else [gradient * (-total).exp() for total in (there, behind)]
        falls = [gradient / weight for weight in (there_weight, back_weight)]
        wanted = zip((rows, columns), ctx.needs_input_grad[:2], strict=True)
        of_rows, of_columns = (torch.zeros_like(of) if needed else None for of, needed in wanted)
        blocks = _blocks(len(rows), len(columns), asked, back, rows.device)
        with torch.autocast(rows.device.type, enabled=False):
            for block, terms in zip(blocks, kept or repeat(None), strict=False):
                some, others = rows[block.rows], columns[block.columns]
                target = targets and targets.block(block.rows, block.columns)
                if terms is None:
                    terms = some @ others.T
                    if target:
                        terms.masked_fill_(target.left_out, -math.inf)
                    terms = terms if steep else terms.exp_()
                pull = terms * _both(block, *rises) if rises else _shares(block, terms, gradient, there, behind)
                if target:
                    pull -= target.weights.mul_(_both(block, *falls))
                else:
                    which, values = own(block.rows, block.columns, pull)
                    values -= gradient[which] * (2 if back else 1)
                if of_rows is not None:
                    of_rows[block.rows].addmm_(pull, others)
                if of_columns is not None:
                    of_columns[block.columns].addmm_(pull.T, some)
        return of_rows, of_columns, None, None, None


def _longest(vectors: Tensor) -> float:
    return float(torch.linalg.vector_norm(vectors, dim=1).max()) if len(vectors) else 0.0


def _both(block: Block, there: Tensor, back: Tensor) -> Tensor:
    """The numbers of a block's rows plus those of its columns, where these count."""
    if not block.back:
        return there[block.rows, None]
    return there[block.rows, None] + back[block.columns] if block.there else back[block.columns]


def _shares(block: Block, logits: Tensor, gradient: Tensor, there: Tensor, back: Tensor) -> Tensor:
    """The softmax of the rows plus that of the columns, weighed by `gradient`, where exp of a logit may overflow."""
    shares = torch.zeros_like(logits)
    if block.there:
        shares += (logits - there[block.rows, None]).exp_().mul_(gradient[block.rows, None])
    if block.back:
        shares += (logits - back[block.columns]).exp_().mul_(gradient[block.columns])
    return shares


def _blocks(rows: int, columns: int, asked: int, back: bool, device: torch.device) -> Iterator[Block]:
    """Blocks of the matrix that the losses of its first `asked` rows and columns need."""
    height, width = CACHED if device.type == "cpu" else BUSY
    for i in _steps(0, asked, height):
        yield from (Block(i, j, True, back) for j in _steps(0, asked, width))
        yield from (Block(i, j, True, False) for j in _steps(asked, columns, width))
    if back:
        for i in _steps(asked, rows, height):
            yield from (Block(i, j, False, True) for j in _steps(0, asked, width))


def _steps(start: int, stop: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, stop)) for i in range(start, stop, size))
