"""The contrastive losses as they are usually written, with the whole matrix of logits; and open_clip's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from graticule.geo.coords import EARTH_RADIUS_KM, unit_sphere
from graticule.objectives.softmax import Pair

Loss = Callable[[Sequence[Pair], Mapping[str, Tensor]], Tensor]  # of pairs and their logit scales


def naive(
    pairs: Sequence[Pair], scales: Mapping[str, Tensor], *,
    symmetric: bool, soft_km: float = 0.0, mask_km: float = 0.0, prefixes: Sequence[int] = (),
) -> Tensor:  # fmt: skip
    """All pairs in one softmax: the mean over rows, and over prefixes of the vectors."""
    places = [pair.location for pair in pairs] + [o for pair in pairs[:1] if (o := pair.other_places) is not None]
    scale = torch.cat([scales[pair.name].expand(len(pair.location)) for pair in pairs])[:, None]
    losses = []
    for length in prefixes or (places[0].shape[1],):
        rows = F.normalize(torch.cat([pair.modality[:, :length] for pair in pairs]), dim=1)
        logits = scale * (rows @ F.normalize(torch.cat([place[:, :length] for place in places]), dim=1).T)
        there = logits
        back = logits[:, : len(rows)].T
        if soft_km or mask_km:
            weights, left_out = by_distance(pairs, soft_km, mask_km, logits.dtype)
            loss = soft(there, weights, left_out)
            if symmetric:
                loss = (loss + soft(back, weights[:, : len(rows)].T, left_out[:, : len(rows)].T)) / 2
        else:
            own = torch.arange(len(rows))
            loss = F.cross_entropy(there, own)
            if symmetric:
                loss = (loss + F.cross_entropy(back, own)) / 2
        losses.append(loss)
    return torch.stack(losses).mean()


def each(loss: Loss) -> Loss:
    """A softmax for every pair, and the mean over rows."""

    def of_all(pairs: Sequence[Pair], scales: Mapping[str, Tensor]) -> Tensor:
        rows = sum(len(pair.location) for pair in pairs)
        return torch.stack([loss([pair], scales) * (len(pair.location) / rows) for pair in pairs]).sum()

    return of_all


def by_distance(
    pairs: Sequence[Pair], soft_km: float, mask_km: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gaussian weights of all candidates of all rows, and who is left out."""
    own = [pair.lonlat for pair in pairs if pair.lonlat is not None]
    others = [o for pair in pairs[:1] if (o := pair.other_lonlat) is not None]
    rows, candidates = unit_sphere(torch.cat(own)), unit_sphere(torch.cat([*own, *others]))
    straight = torch.cdist(rows, candidates, compute_mode="donot_use_mm_for_euclid_dist").to(dtype)
    km = 2 * EARTH_RADIUS_KM * torch.asin((straight / 2).clamp(max=1))
    left_out = (km < mask_km).fill_diagonal_(False)
    weights = torch.exp(-(km / soft_km).square() / 2) if soft_km else torch.zeros_like(km)
    return weights.fill_diagonal_(1).masked_fill(left_out, 0), left_out


def soft(logits: Tensor, weights: Tensor, left_out: Tensor) -> Tensor:
    """Cross-entropy of targets in proportion to the weights."""
    logits = logits.masked_fill(left_out, torch.finfo(logits.dtype).min / 2)
    return F.cross_entropy(logits, weights / weights.sum(dim=1, keepdim=True))


def open_clip(path: Path) -> Loss:
    """ClipLoss of open_clip, its `src/open_clip/loss.py` loaded as one file."""
    specification = importlib.util.spec_from_file_location("open_clip_loss", path)
    if specification is None or specification.loader is None:
        raise SystemExit(f"Expected the file loss.py of open_clip, got {path}.")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    clip = module.ClipLoss()

    def loss(pairs: Sequence[Pair], scales: Mapping[str, Tensor]) -> Tensor:
        (pair,) = pairs
        found: Tensor = clip(F.normalize(pair.modality, dim=1), F.normalize(pair.location, dim=1), scales[pair.name])
        return found

    return loss
