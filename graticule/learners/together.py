"""What processes that train together hold of one batch: a share of its rows each, put together where all are needed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Together:
    """The place of this process among `size` that learn from the same batch. Alone, all rows are its own.

    A loss of one process is such that the MEAN over processes is that of the whole batch, and so for gradients: what
    is computed from gathered vectors is the same everywhere, and what is computed from the own rows is `weighed`.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def now(cls) -> Together:
        """As torch's process group has it, or alone without one."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    def share(self, rows: int) -> slice:
        """Which of `rows` rows are this process's: side by side, as many as any other's or one more, maybe none."""
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    def lengths(self, rows: int) -> list[int]:
        """How many of `rows` rows each process has."""
        every = (Together(rank, self.size).share(rows) for rank in range(self.size))
        return [share.stop - share.start for share in every]

    def shares(self, lengths: Sequence[int]) -> Tensor:
        """Numbers of the own rows where modalities of these lengths stand one below the other."""
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        own = [self.share(length) for length in lengths]
        return torch.cat([start + torch.arange(s.start, s.stop) for start, s in zip(starts, own, strict=True)])

    def gather(self, part: Tensor, rows: int) -> Tensor:
        """(own rows, ...) of every process -> (rows, ...) of all, in the order of the batch; with its gradient."""
        if self.size == 1:
            return part
        gathered: Tensor = _Gather.apply(part, rows, self)  # type: ignore[no-untyped-call]
        return gathered

    def weighed(self, mean: Tensor, own: int, rows: int) -> Tensor:
        """The mean over the `own` rows as this process's loss, so that the mean over processes is that over `rows`."""
        return mean if self.size == 1 else mean * (own * self.size / max(1, rows))

    def sums(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses that add up to those of the whole batch, as this process's: their mean is that sum."""
        return {name: value if self.size == 1 else self.size * value for name, value in losses.items()}

    def drawing_for(self, own: slice | Tensor, rows: int) -> AbstractContextManager[Any]:
        """Within it dropout of the own rows is what it is where one process has all `rows`.

        Every process draws the mask of all rows and keeps its part, so that random numbers stay the same everywhere.
        (On CUDA the masks of one process are other ones, as good.)
        """
        return nullcontext() if self.size == 1 else _DropoutOfAll(own, rows)

    @contextmanager
    def own_draws(self, what: str) -> Iterator[None]:
        """Within it each process draws random numbers of its own for `what`; afterwards all go on with the same."""
        if self.size == 1:
            yield
            return
        with torch.random.fork_rng():
            torch.manual_seed(zlib.crc32(f"{torch.initial_seed()}/{what}/{self.rank}".encode()))
            yield

    def mean(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars by name, the same names everywhere -> their means over processes, without gradient."""
        values = torch.stack([value.detach().double() for value in losses.values()])
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return dict(zip(losses, values, strict=True))


class _Gather(torch.autograd.Function):
    """All-gather and its adjoint, reduce-scatter, as exchanges of every process with every other: shares may differ."""

    @staticmethod
    def forward(context: Any, part: Tensor, rows: int, together: Together) -> Tensor:
        context.rows, context.together, context.own = rows, together, len(part)
        whole = part.new_empty(rows, *part.shape[1:])
        sent = part.repeat(together.size, *[1] * (part.ndim - 1))
        dist.all_to_all_single(whole, sent, together.lengths(rows), [len(part)] * together.size)
        return whole

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), size, own = gradients, context.together.size, context.own
        parts = gradient.new_empty(size * own, *gradient.shape[1:])
        dist.all_to_all_single(parts, gradient.contiguous(), [own] * size, context.together.lengths(context.rows))
        return parts.view(size, own, *gradient.shape[1:]).sum(dim=0), None, None


class _DropoutOfAll(TorchFunctionMode):
    def __init__(self, own: slice | Tensor, rows: int) -> None:
        super().__init__()
        self.own, self.rows = own, rows

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if function is not F.dropout:
            return function(*args, **given)
        values, rate, training = _dropout_arguments(*args, **given)
        if not training or not rate:
            return values
        kept = torch.empty(self.rows, *values.shape[1:], dtype=values.dtype, device=values.device)
        return values * kept.bernoulli_(1 - rate).div_(1 - rate)[self.own]


def _dropout_arguments(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> tuple[Tensor, float, bool]:
    """Those of `torch.nn.functional.dropout`, by its names."""
    return input, p, training
