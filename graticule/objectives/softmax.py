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
from graticule.objectives.geography import Nearness, Target, find_near

MAX_LOGIT_SCALE = 100.0  # CLIP's clip: a learned temperature never falls below 0.01


class Pair(NamedTuple):
    """Embeddings of the same rows of one modality, (n, dim) each, not normalised.

    `second_view` is the location embedding under another dropout mask (n, dim); `other_places` are
    embeddings of places of no row (k, dim): random places or a queue of earlier ones. `lonlat` (n, 2) and
    `other_lonlat` (k, 2) say in degrees where they are, for targets by distance.
    """

    name: str
    location: Tensor
    modality: Tensor
    second_view: Tensor | None = None
    other_places: Tensor | None = None
    lonlat: Tensor | None = None
    other_lonlat: Tensor | None = None


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


def similarities(a: Tensor, b: Tensor) -> Tensor:
    """Cosine similarities of all rows of `a` with all rows of `b`: (n, dim), (m, dim) -> (n, m), never in bfloat16."""
    with torch.autocast(a.device.type, enabled=False):
        a, b = (v.float() if v.dtype == torch.bfloat16 else v for v in (a, b))
        return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def find_own(logits: Tensor, reduction: str = "mean") -> Tensor:
    """Mean over rows i of -log softmax(logits[i])[i]: row i should find column i (van den Oord 2018, eq. 4).

    With reduction "none" (n,) losses of the rows.
    """
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction=reduction)


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
        """(n,) losses of the rows of all pairs, in their order."""
        location = _joined([pair.location for pair in pairs])
        modality = _joined([pair.modality for pair in pairs])
        others = _each_once(pair.other_places for pair in pairs)
        scale = self._scale(pairs)
        lengths = self.prefixes or (location.shape[1],)
        losses = []
        for length, target in zip(lengths, self._targets(pairs, lengths), strict=False):
            rows = _first(modality, length)
            near = scale * similarities(rows, _first(location, length))
            far = [scale * similarities(rows, _first(other, length)) for other in others]
            loss = _find(_joined([near, *far], dim=1), target)
            if self.symmetric:
                loss = (loss + _find(near.T, target and target.back())) / 2
            losses.append(loss)
        return torch.stack(losses).mean(dim=0)

    def _scale(self, pairs: Sequence[Pair]) -> Tensor:
        """Logit scales of all rows: a scalar of one modality, else (n, 1)."""
        scales: list[Tensor] = [self.scale(pair.name) for pair in pairs]
        if len(pairs) == 1:
            return scales[0]
        return torch.cat([s.expand(len(pair.modality)) for s, pair in zip(scales, pairs, strict=True)])[:, None]

    def _targets(self, pairs: Sequence[Pair], lengths: Sequence[int]) -> Iterable[Target | None]:
        """One target a length of the vector; None stands for the own place alone."""
        if self.near is None:
            return repeat(None)
        for pair in pairs:
            if pair.lonlat is None or (pair.other_places is None) != (pair.other_lonlat is None):
                raise DataError(f"Targets by distance need all places of {pair.name!r} in degrees; some are missing.")
        rows = [(pair.name, pair.lonlat) for pair in pairs if pair.lonlat is not None]
        shares = [length / pairs[0].location.shape[1] for length in lengths]
        return self.near.targets(rows, _each_once(pair.other_lonlat for pair in pairs), shares)


def _find(logits: Tensor, target: Target | None) -> Tensor:
    return find_own(logits, "none") if target is None else find_near(logits, target)


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """One alone is itself, so that sums of gradients keep their order."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim=dim)


def _first(vectors: Tensor, length: int) -> Tensor:
    """The first numbers of vectors; whole ones are themselves, as in `_joined`."""
    return vectors if length == vectors.shape[1] else vectors[:, :length]


def _each_once(tensors: Iterable[Tensor | None]) -> list[Tensor]:
    """The tensors there are; one that several pairs share is there once."""
    return list(dict.fromkeys(tensor for tensor in tensors if tensor is not None))
