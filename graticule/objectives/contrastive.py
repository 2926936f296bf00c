"""Contrastive objectives: embeddings in, named losses out. They own no model and read no data.

PairwiseInfoNCE   one softmax a modality, against the places of its own rows (adapted ImageBind, SatCLIP, GeoCLIP)
MultiPairNTXent   one softmax over the pairs of all modalities (MELT)
CspLoss           in-batch + random-place + dropout-view negatives (CSP)
AllToAllInfoNCE   every two of {location, modalities} for rows that are co-located

Each loss is a mean over rows. Of pairs that ask for a `part` of theirs it is the sum over that part, divided by the
number of all rows: the losses and gradients of parts that make up the batch sum up to its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graticule.errors import DataError
from graticule.objectives.softmax import Pair, RowsFindPlaces, Temperature, check, mean_loss, similarities, unit


class PairwiseInfoNCE(RowsFindPlaces):
    """Every modality against location on its own (Girdhar 2023, eq. 1, with location as the binding modality).

    Inputs: any pairs. `symmetric` adds the way back from place to row (CLIP, SatCLIP); without it,
    only the row looks for its place among the batch's places and `other_places` (GeoCLIP 2023, eq. 3).
    The total weighs modalities by their rows, so that every row counts the same.
    """

    symmetric_unless_asked = True

    def forward(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """Loss of each modality under its name, and their mean over rows as "loss"."""
        check(pairs)
        parts = {pair.name: self.rows([pair]).sum() / len(pair.location) for pair in pairs}
        rows = sum(len(pair.location) for pair in pairs)
        total = torch.stack([parts[pair.name] * (len(pair.location) / rows) for pair in pairs]).sum()
        return {"loss": total, **parts}


class MultiPairNTXent(RowsFindPlaces):
    """All pairs of all modalities in one softmax (MELT): a row's negatives are the places of all other rows.

    Asymmetric: each row, of whatever modality, looks for its place among the places of the rows of all
    modalities and the other places of all pairs. `symmetric` adds the way back: each place looks for its row among
    the rows of all modalities. Each modality has its own temperature. With one modality it equals PairwiseInfoNCE.
    """

    symmetric_unless_asked = False

    def forward(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """The fused loss as "loss"; the share of each modality's rows under its name."""
        check(pairs)
        rows = self.rows(pairs)
        parts = torch.split(rows, [pair.asked_rows for pair in pairs])
        means = {pair.name: part.sum() / len(pair.location) for pair, part in zip(pairs, parts, strict=True)}
        return {"loss": rows.sum() / sum(len(pair.location) for pair in pairs), **means}


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
        check(pairs)
        terms: dict[str, list[Tensor]] = {"in_batch": [], "random_places": [], "views": []}
        for pair in pairs:
            if pair.second_view is None or pair.other_places is None:
                raise DataError(
                    f"CspLoss needs a second view and random places of {pair.name!r}; the learner gave none."
                )
            scale, places = self.scale(pair.name), pair.location
            terms["in_batch"].append(mean_loss(pair, scale, pair.modality, places, back=False))
            rows, own_places = pair.modality[pair.asked], places[pair.asked]
            near = scale * (unit(rows) * unit(own_places)).sum(dim=1)
            alone = torch.cat([near[:, None], scale * similarities(rows, pair.other_places)], dim=1)
            terms["random_places"].append((alone.logsumexp(dim=1) - near).sum() / len(places))
            terms["views"].append(mean_loss(pair, scale, places, pair.second_view, back=False))
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
        check(pairs)
        if len({len(pair.location) for pair in pairs}) > 1:
            raise DataError(f"Co-located rows must be equally many: { ({p.name: len(p.location) for p in pairs}) }.")
        if any(pair.asked != pairs[0].asked for pair in pairs):
            raise DataError(f"Co-located rows must be the same part: { ({p.name: p.part for p in pairs}) }.")
        parts = {}
        for i, pair in enumerate(pairs):
            scale = self.scale(pair.name)
            parts[f"location-{pair.name}"] = mean_loss(pair, scale, pair.location, pair.modality, back=True)
            for other in pairs[i + 1 :]:
                mean = (scale * self.scale(other.name)).sqrt()
                parts[f"{pair.name}-{other.name}"] = mean_loss(pair, mean, pair.modality, other.modality, back=True)
        return {"loss": torch.stack(list(parts.values())).mean(), **parts}
