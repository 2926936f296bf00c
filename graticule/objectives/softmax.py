"""The softmax in which rows of modalities look for places: similarities, temperature, targets, prefixes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graticule.errors import DataError, SettingError
from graticule.objectives.blocks import find_own
from graticule.objectives.geography import Near, Nearness

MAX_LOGIT_SCALE = 100.0  # CLIP's clip: a learned temperature never falls below 0.01


class Pair(NamedTuple):
    """Embeddings of the same rows of one modality, (n, dim) each, not normalised.

    `second_view` is the location embedding under another dropout mask (n, dim); `other_places` are
    embeddings of places of no row (k, dim): random places or a queue of earlier ones. `lonlat` (n, 2) and
    `other_lonlat` (k, 2) say in degrees where they are, for targets by distance. `part` are the rows whose losses
    are asked for, where other processes ask for the others; None stands for all.
    """

    name: str
    location: Tensor
    modality: Tensor
    second_view: Tensor | None = None
    other_places: Tensor | None = None
    lonlat: Tensor | None = None
    other_lonlat: Tensor | None = None
    part: slice | None = None

    @property
    def asked(self) -> slice:
        """The rows whose losses are asked for, from where to where."""
        start, stop, _ = (self.part or slice(None)).indices(len(self.location))
        return slice(start, max(start, stop))

    @property
    def asked_rows(self) -> int:
        """How many these are."""
        return len(range(self.asked.start, self.asked.stop))

    @property
    def not_asked(self) -> tuple[slice, slice]:
        """The rows before and behind them."""
        return slice(0, self.asked.start), slice(self.asked.stop, len(self.location))


class Temperature(nn.Module):
    """A positive temperature for each modality, fixed or learned as a log scale (CLIP 2021, sec. 2.3)."""

    def __init__(self, names: Sequence[str], initial: float, learned: bool) -> None:
        super().__init__()
        if not initial > 0:
            raise SettingError(f"A temperature must be positive, got {initial:g}.")
        self.learned = learned
        self.log_scale = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(-math.log(initial)), requires_grad=learned) for name in names}
        )

    def forward(self, name: str) -> Tensor:
        """Logit scale 1 / temperature of a modality, a scalar; a learned one is at most MAX_LOGIT_SCALE."""
        scale: Tensor = self.log_scale[name].exp()
        return scale.clamp(max=MAX_LOGIT_SCALE) if self.learned else scale


def check(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise DataError("A contrastive objective needs at least one modality in the batch, got none.")
    for pair in pairs:
        if pair.location.shape != pair.modality.shape:
            raise DataError(
                f"Location and {pair.name!r} embeddings must have the same shape, "
                f"got {tuple(pair.location.shape)} and {tuple(pair.modality.shape)}."
            )


def unit(vectors: Tensor) -> Tensor:
    """(n, dim) vectors of length 1, never in bfloat16."""
    with torch.autocast(vectors.device.type, enabled=False):
        return F.normalize(vectors.float() if vectors.dtype == torch.bfloat16 else vectors, dim=-1)


def similarities(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarities of all rows of `a` with all rows of `b`: (n, dim), (m, dim) -> (n, m), never in bfloat16."""
    with torch.autocast(a.device.type, enabled=False):
        return unit(a) @ unit(b).T


def mean_loss(pair: Pair, scale: Tensor, rows: Tensor, columns: Tensor, *, back: bool) -> Tensor:
    """Mean of `find_own` over the rows of a pair, with as many columns; the share of those that are asked for in it."""
    order = (pair.asked, *pair.not_asked)
    looking, found = (torch.cat([vectors[some] for some in order]) for vectors in (scale * unit(rows), unit(columns)))
    return find_own(looking, found, back=back, asked=pair.asked_rows).sum() / len(rows)


class RowsFindPlaces(nn.Module):
    """One softmax in which the rows of some pairs look for their places: what the two objectives below share.

    `symmetric` adds the way back, from place to row; `other_places` burden only the way there. `near` makes the
    targets ones of distance (`geography.Nearness`). `prefixes` are lengths d of the vector: the loss is the mean
    over d of the losses of the first d numbers of both sides, c_d = 1 over their number (Kusupati 2022, eq. 1, where
    the sum is taken); without them the whole vector alone is compared.
    """

    symmetric_unless_asked: bool

    def __init__(
        self,
        names: Sequence[str],
        *,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        symmetric: bool | None = None,
        near: Nearness | None = None,
        prefixes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.scale = Temperature(names, temperature, learn_temperature)
        self.symmetric = self.symmetric_unless_asked if symmetric is None else symmetric
        self.near, self.prefixes = near, prefixes

    def rows(self, pairs: Sequence[Pair]) -> Tensor:
        """(n,) losses of the rows of all pairs that are asked for, in their order."""
        asked = [(pair, pair.asked) for pair in pairs]
        order = [*asked, *((pair, beyond) for pair in pairs for beyond in pair.not_asked)]
        count = sum(pair.asked_rows for pair in pairs)
        others = _each_once(pair.other_places for pair in pairs)
        lengths = self.prefixes or (pairs[0].location.shape[1],)
        losses = []
        for length, targets in zip(lengths, self._targets(order, lengths), strict=False):
            rows = [self.scale(pair.name) * unit(pair.modality[some, :length]) for pair, some in order]
            places = [pair.location[some, :length] for pair, some in order] + [other[:, :length] for other in others]
            columns = torch.cat([unit(place) for place in places])
            losses.append(find_own(torch.cat(rows), columns, back=self.symmetric, asked=count, targets=targets))
        return torch.stack(losses).mean(dim=0)

    def _targets(self, order: Sequence[tuple[Pair, slice]], lengths: Sequence[int]) -> Iterable[Near | None]:
        """Targets for each length of the vector; None stands for the own place alone."""
        if self.near is None:
            return repeat(None)
        rows = []
        for pair, some in order:
            if pair.lonlat is None or (pair.other_places is None) != (pair.other_lonlat is None):
                raise DataError(f"Targets by distance need all places of {pair.name!r} in degrees; some are missing.")
            rows.append((pair.name, pair.lonlat[some]))
        vectors = order[0][0].location
        shares = [length / vectors.shape[1] for length in lengths]
        others = _each_once(pair.other_lonlat for pair, _ in order)
        return self.near.targets(rows, others, shares, torch.promote_types(vectors.dtype, torch.float32))


def _each_once(tensors: Iterable[Tensor | None]) -> list[Tensor]:
    """The tensors there are; one that several pairs share is there once."""
    return list(dict.fromkeys(tensor for tensor in tensors if tensor is not None))
