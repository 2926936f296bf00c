"""Objectives of ours and the same losses as they are usually written, and steps of both on the same vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.naive_losses import Loss, each, naive
from graticule.geo.coords import uniform_places
from graticule.objectives.contrastive import MultiPairNTXent, PairwiseInfoNCE
from graticule.objectives.geography import Nearness
from graticule.objectives.softmax import Pair

DIM = 256
SOFT_KM, MASK_KM = 200.0, 50.0
FOUR = ("text", "image", "photo", "map")


class Case(NamedTuple):
    """An objective of ours and the same loss as it is usually written, for modalities that share the rows."""

    names: Sequence[str]
    ours: Callable[..., PairwiseInfoNCE | MultiPairNTXent]
    naive: Loss
    by_open_clip: bool = False
    others: int = 0


def near(names: Sequence[str], soft_km: float = SOFT_KM, mask_km: float = MASK_KM) -> Nearness:
    return Nearness(dict.fromkeys(names, soft_km), dict.fromkeys(names, mask_km))


BOTH_WAYS = partial(naive, symmetric=True)
SOFT = partial(naive, symmetric=True, soft_km=SOFT_KM, mask_km=MASK_KM)
CASES = {
    "one modality": Case(FOUR[:1], PairwiseInfoNCE, BOTH_WAYS, by_open_clip=True),
    "imagebind": Case(FOUR, PairwiseInfoNCE, each(BOTH_WAYS), by_open_clip=True),
    "melt": Case(FOUR, MultiPairNTXent, partial(naive, symmetric=False)),
    "soft targets": Case(FOUR[:1], partial(PairwiseInfoNCE, near=near(FOUR)), SOFT),
}
EQUAL = CASES | {
    "one way, 512 other places": Case(
        FOUR[:1], partial(PairwiseInfoNCE, symmetric=False), partial(naive, symmetric=False), others=512
    ),
    "melt both ways, soft targets, 512 other places": Case(
        FOUR, partial(MultiPairNTXent, symmetric=True, near=near(FOUR)), SOFT, others=512
    ),
    "masks alone": Case(
        FOUR, partial(MultiPairNTXent, near=near(FOUR, soft_km=0.0)), partial(naive, symmetric=False, mask_km=MASK_KM)
    ),
    "prefixes of 16, 64 and 256": Case(
        FOUR[:1], partial(PairwiseInfoNCE, prefixes=(16, 64, 256)), partial(BOTH_WAYS, prefixes=(16, 64, 256))
    ),
}  # fmt: skip


def drawn(case: Case, rows: int, dtype: torch.dtype = torch.float32) -> list[Pair]:
    """Vectors of so many rows in all, a little like those of their places."""
    torch.manual_seed(0)
    count = rows // len(case.names)
    others = torch.randn(case.others, DIM, dtype=dtype).requires_grad_() if case.others else None
    beyond = torch.from_numpy(uniform_places(case.others, seed=99)) if case.others else None
    pairs = []
    for seed, name in enumerate(case.names):
        location, noise = torch.randn(2, count, DIM, dtype=dtype)
        places = torch.from_numpy(uniform_places(count, seed=seed))
        modality = (location + 2 * noise).requires_grad_()
        pairs.append(Pair(name, location.requires_grad_(), modality, None, others, places, beyond))
    return pairs


def sides(
    case: Case, rows: int, clip: Loss | None = None, dtype: torch.dtype = torch.float32
) -> dict[str, Callable[[], list[Tensor]]]:
    """By name a step of ours and of the others on the same vectors: its loss and gradients."""
    pairs, ours = drawn(case, rows, dtype), case.ours(case.names)
    learned = [v for pair in pairs for v in pair[1:5] if v is not None] + list(ours.parameters())
    unique = list(dict.fromkeys(learned))

    def step(loss: Callable[[], Tensor]) -> list[Tensor]:
        value = loss()
        return [value.detach(), *torch.autograd.grad(value, unique)]

    def other(loss: Loss) -> Tensor:
        return loss(pairs, {name: ours.scale(name) for name in case.names})

    found: dict[str, Callable[[], list[Tensor]]] = {
        "ours": partial(step, lambda: ours(pairs)["loss"]),
        "naive": partial(step, partial(other, case.naive)),
    }
    if case.by_open_clip and clip is not None:
        found["open_clip"] = partial(step, partial(other, each(clip)))
    return found
