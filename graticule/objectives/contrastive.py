"""Contrastive objectives: embeddings in, named losses out. They own no model and read no data.

PairwiseInfoNCE   one softmax a modality, against the places of its own rows (adapted ImageBind, SatCLIP, GeoCLIP)
MultiPairNTXent   one softmax over the pairs of all modalities (MELT)
CspLoss           in-batch + random-place + dropout-view negatives (CSP)
AllToAllInfoNCE   every two of {location, modalities} for rows that are co-located
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graticule.errors import DataError, SettingError

MAX_LOGIT_SCALE = 100.0  # CLIP's clip: a learned temperature never falls below 0.01


class Pair(NamedTuple):
    """Embeddings of the same rows of one modality, (n, dim) each, not normalised.

    `second_view` is the location embedding under another dropout mask (n, dim); `other_places` are
    embeddings of places of no row (k, dim): random places or a queue of earlier ones.
    """

    name: str
    location: Tensor
    modality: Tensor
    second_view: Tensor | None = None
    other_places: Tensor | None = None


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


def _check(pairs: Sequence[Pair]) -> None:
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


def find_own(logits: Tensor) -> Tensor:
    """Mean over rows i of -log softmax(logits[i])[i]: row i should find column i (van den Oord 2018, eq. 4)."""
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


class PairwiseInfoNCE(nn.Module):
    """Every modality against location on its own (Girdhar 2023, eq. 1, with location as the binding modality).

    Inputs: any pairs. `symmetric` adds the way back from place to row (CLIP, SatCLIP); without it,
    only the row looks for its place among the batch's places and `other_places` (GeoCLIP 2023, eq. 3).
    The total weighs modalities by their rows, so that every row counts the same.
    """

    def __init__(
        self, names: Sequence[str], *, temperature: float = 0.07, learn_temperature: bool = True, symmetric: bool = True
    ) -> None:
        super().__init__()
        self.scale, self.symmetric = Temperature(names, temperature, learn_temperature), symmetric

    def forward(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """Loss of each modality under its name, and their mean over rows as "loss"."""
        _check(pairs)
        parts = {pair.name: self._one(pair) for pair in pairs}
        rows = sum(len(pair.location) for pair in pairs)
        total = torch.stack([parts[pair.name] * (len(pair.location) / rows) for pair in pairs]).sum()
        return {"loss": total, **parts}

    def _one(self, pair: Pair) -> Tensor:
        scale = self.scale(pair.name)
        logits = scale * similarities(pair.modality, pair.location)
        back = find_own(logits.T) if self.symmetric else None
        if pair.other_places is not None:
            logits = torch.cat([logits, scale * similarities(pair.modality, pair.other_places)], dim=1)
        there = find_own(logits)
        return there if back is None else (there + back) / 2


class MultiPairNTXent(nn.Module):
    """All pairs of all modalities in one softmax (MELT): a row's negatives are the places of all other rows.

    Asymmetric: each row, of whatever modality, looks for its place among the places of the rows of all
    modalities. `symmetric` adds the way back: each place looks for its row among the rows of all
    modalities. Each modality has its own temperature. With one modality it equals PairwiseInfoNCE.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.scale, self.symmetric = Temperature(names, temperature, learn_temperature), symmetric

    def forward(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """The fused loss as "loss"; the share of each modality's rows under its name."""
        _check(pairs)
        location = torch.cat([pair.location for pair in pairs])
        modality = torch.cat([pair.modality for pair in pairs])
        scale = torch.cat([self.scale(pair.name).expand(len(pair.modality)) for pair in pairs])
        logits = scale[:, None] * similarities(modality, location)
        own = torch.arange(len(logits), device=logits.device)
        there = F.cross_entropy(logits, own, reduction="none")
        rows = (there + F.cross_entropy(logits.T, own, reduction="none")) / 2 if self.symmetric else there
        parts = torch.split(rows, [len(pair.location) for pair in pairs])
        return {"loss": rows.mean(), **{pair.name: part.mean() for pair, part in zip(pairs, parts, strict=True)}}


class CspLoss(nn.Module):
    """CSP's three terms, each a softmax in which a row finds its own place (Mai 2023, eq. 3-6, contrastive form).

    in-batch: among the places of the batch; random: among itself and `other_places`, which are drawn
    uniformly by area (the original draws from an eighth of the sphere); views: a place finds its own
    other dropout view among the views of the batch (SimCSE). Weights 1, `random_weight`, `view_weight`.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        random_weight: float = 1.0,
        view_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.scale = Temperature(names, temperature, learn_temperature)
        self.random_weight, self.view_weight = random_weight, view_weight

    def forward(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """The weighted sum as "loss" and each term's mean over modalities under its name."""
        _check(pairs)
        terms: dict[str, list[Tensor]] = {"in_batch": [], "random_places": [], "views": []}
        for pair in pairs:
            if pair.second_view is None or pair.other_places is None:
                raise DataError(
                    f"CspLoss needs a second view and random places of {pair.name!r}; the learner gave none."
                )
            scale = self.scale(pair.name)
            near = scale * similarities(pair.modality, pair.location)
            far = scale * similarities(pair.modality, pair.other_places)
            terms["in_batch"].append(find_own(near))
            alone = torch.cat([near.diagonal()[:, None], far], dim=1)
            terms["random_places"].append((alone.logsumexp(dim=1) - alone[:, 0]).mean())
            terms["views"].append(find_own(scale * similarities(pair.location, pair.second_view)))
        means = {name: torch.stack(values).mean() for name, values in terms.items()}
        total = means["in_batch"] + self.random_weight * means["random_places"] + self.view_weight * means["views"]
        return {"loss": total, **means}


class AllToAllInfoNCE(nn.Module):
    """Symmetric InfoNCE between every two of {location, modality, modality, ...} for co-located rows.

    Requirement: row i of every modality lies at the same place (`data.loader.colocate`).
    """

    def __init__(self, names: Sequence[str], *, temperature: float = 0.07, learn_temperature: bool = True) -> None:
        super().__init__()
        self.scale = Temperature(names, temperature, learn_temperature)

    def forward(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """The mean over all couples as "loss" and each couple under "a-b"."""
        _check(pairs)
        if len({len(pair.location) for pair in pairs}) > 1:
            raise DataError(f"Co-located rows must be equally many: { ({p.name: len(p.location) for p in pairs}) }.")
        parts = {}
        for i, pair in enumerate(pairs):
            parts[f"location-{pair.name}"] = self._couple(pair.location, pair.modality, self.scale(pair.name))
            for other in pairs[i + 1 :]:
                scale = (self.scale(pair.name) * self.scale(other.name)).sqrt()
                parts[f"{pair.name}-{other.name}"] = self._couple(pair.modality, other.modality, scale)
        return {"loss": torch.stack(list(parts.values())).mean(), **parts}

    @staticmethod
    def _couple(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        logits = scale * similarities(a, b)
        return (find_own(logits) + find_own(logits.T)) / 2
