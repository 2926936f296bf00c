"""A baseline that is given the labels: the region encoder trained end to end on one task of the training cities.

The same architecture as GeoJEPA's, without pretraining, with a linear head on the number of entities and the means of
regions, and on the entities themselves where those are asked about. It answers the test cities itself, without a probe.
It trains a fixed number of steps: the loss in cities held out rises from the first step on, since their level is
another, while the order within them is still being learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graticule.data.loader import TokenSampler
from graticule.encoders.region_encoder import Encoded, RegionEncoder, region_encoder, token_widths
from graticule.encoders.region_vectors import batches
from graticule.errors import DataError
from graticule.evaluation.predictors import Array
from graticule.evaluation.regions.probes import CLIP, class_weights
from graticule.evaluation.regions.scores import LEAST_ROWS, Scores, class_scores, enough, regression_scores
from graticule.geo.tokens import Tokens, join
from graticule.training.trainer import warmup_cosine

STEPS, STEP_TOKENS = 200, 4096
LEARNING_RATE, WEIGHT_DECAY, WARMUP, LARGEST_SLOPE = 1e-3, 0.05, 0.1, 1.0
LEAST_DEVIATION = 1e-3
MOST_ENTITIES = 512  # of a region; of larger ones as many are drawn
MOST_AROUND = 128  # the same where entities are labelled, which all stay


@dataclass(frozen=True)
class Labelled:
    """Labelled regions of one city, or labelled entities of them.

    tokens   of n regions as the task shows them, numpy
    region   (k,) numbers of the labelled regions, or of the regions of the labelled entities
    label    (k,) class numbers, (k,) or (k, columns) numbers
    entity   (k,) numbers of the entities within their regions; None where regions are labelled
    """

    tokens: Tokens
    region: NDArray[np.int64]
    label: Array
    entity: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.region), len(self.label), len(self.region if self.entity is None else self.entity)}
        if len(lengths) > 1:
            raise DataError(f"Labelled rows need a region, a label and an entity each, got {sorted(lengths)} of them.")

    def __len__(self) -> int:
        return len(self.label)


def score_supervised(
    train: Mapping[str, Labelled],
    test: Mapping[str, Labelled],
    classes: int = 0,
    least: int = LEAST_ROWS,
    *,
    seed: int = 0,
    steps: int = STEPS,
    **widths: Any,
) -> dict[str, Scores]:
    """Scores of each test city with enough labels, by a network that learns from all training cities.

    As `probes.score_cities`, with the same baselines in the scores; `widths` are options of `RegionEncoder`, such as
    modalities. The same seed gives the same scores on one thread. DataError when no training city has labelled rows.
    """
    known = {city: own for city, own in train.items() if len(own)}
    asked = {city: own for city, own in test.items() if enough(own.label, classes, least)}
    if not known:
        raise DataError(f"No training city has labelled rows, of {len(train)}.")
    if not asked:
        return {}
    most = MOST_ENTITIES if next(iter(known.values())).entity is None else MOST_AROUND
    rows = joined([thinned(own, seed, most) for own in known.values()])
    parts = {city: thinned(own, seed, most) for city, own in asked.items()}
    if classes:
        seen = np.unique(rows.label)
        numbered = replace(rows, label=np.searchsorted(seen, rows.label))
        said = trained(numbered, list(parts.values()), len(seen), seed, steps, widths)
        return {c: class_scores(own.label, seen[s.argmax(1)]) for (c, own), s in zip(parts.items(), said, strict=True)}
    y = rows.label.reshape(len(rows), -1)
    mean, deviation = y.mean(0), np.where(np.ptp(y, axis=0) > 0, y.std(0), 1)
    said = trained(replace(rows, label=(y - mean) / deviation), list(parts.values()), 0, seed, steps, widths)
    answers = {city: s * deviation + mean for city, s in zip(parts, said, strict=True)}
    return {
        city: regression_scores(own.label, answers[city].reshape(own.label.shape), rows.label.mean(0))
        for city, own in parts.items()
    }


def trained(
    rows: Labelled,
    asked: Sequence[Labelled],
    classes: int,
    seed: int,
    steps: int,
    widths: Mapping[str, Any],
) -> list[NDArray[np.float64]]:
    """For each of `asked` (k, outputs): logits of classes, or numbers.

    rows: with labels 0 to classes - 1, or standardised (k, columns).
    """
    if classes == 1:
        return [np.zeros((len(own), 1)) for own in asked]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network.of(rows, classes or rows.label.shape[1], widths)
        fit(network, rows, classes, seed, steps)
        return [predictions(network, own) for own in asked]


class Network(nn.Module):
    """The region encoder and a linear head, which says zeros at the start.

    The head reads what it is given standardised and clipped as the probes do, by the means and deviations that the
    training rows have at the start.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: RegionEncoder, outputs: int, entities: bool) -> None:
        super().__init__()
        self.encoder = encoder
        means = encoder.width * (encoder.has_entities + encoder.has_patches)
        self.head = nn.Linear(1 + means + entities * encoder.entity_dim, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.zeros(self.head.in_features))
        self.register_buffer("deviation", torch.ones(self.head.in_features))

    @classmethod
    def of(cls, rows: Labelled, outputs: int, widths: Mapping[str, Any]) -> Network:
        """A new network for rows like these (numpy); all statistics are taken from them."""
        encoder = region_encoder(**token_widths(rows.tokens), **widths)
        encoder.fit_statistics(rows.tokens)
        network = cls(encoder, outputs, rows.entity is not None)
        with torch.no_grad():
            vectors = torch.cat([network.vectors(_of_regions(rows, part)) for part in _parts(rows)])
        network.mean.copy_(vectors.mean(dim=0))
        network.deviation.copy_(vectors.std(dim=0, correction=0).clamp(min=LEAST_DEVIATION))
        return network

    def vectors(self, rows: Labelled) -> Tensor:
        """Labelled rows (numpy) -> (k, d): of the regions, or of entities beside their regions."""
        tokens, region = rows.tokens.to(self.head.weight.device), torch.from_numpy(rows.region)
        encoded: Encoded = self.encoder(tokens)
        vectors = torch.cat([encoded.regions[:, :1], encoded.means.flatten(1)], dim=1)[region]
        if rows.entity is None:
            return vectors
        own = encoded.vectors[tokens.offsets[region] + torch.from_numpy(rows.entity)]
        return torch.cat([own, vectors], dim=1)

    def forward(self, rows: Labelled) -> Tensor:
        """Labelled rows (numpy) -> (k, outputs)."""
        standard = (self.vectors(rows) - self.mean) / self.deviation
        out: Tensor = self.head(standard.clamp(-CLIP, CLIP))
        return out


def predictions(network: Network, rows: Labelled) -> NDArray[np.float64]:
    """(k, outputs) for labelled rows, the network in evaluation."""
    said = np.zeros((len(rows), network.head.out_features))
    network.eval()
    with torch.no_grad():
        for regions in _parts(rows):
            said[np.isin(rows.region, regions)] = network(_of_regions(rows, regions)).double().numpy()
    return said


def joined(parts: Sequence[Labelled]) -> Labelled:
    """The rows of several cities, in order."""
    starts = np.cumsum([0, *(len(part.tokens) for part in parts)])
    entities = [part.entity for part in parts if part.entity is not None]
    return Labelled(
        join([part.tokens for part in parts]),
        np.concatenate([part.region + start for part, start in zip(parts, starts, strict=False)]),
        np.concatenate([part.label for part in parts]),
        np.concatenate(entities) if entities else None,
    )


def thinned(rows: Labelled, seed: int, most: int) -> Labelled:
    """The same rows in regions of at most `most` entities: labelled ones all stay, others are drawn with the seed."""
    offsets = rows.tokens.offsets
    order = np.random.default_rng(seed).random(offsets[-1])
    if rows.entity is not None:
        order[offsets[rows.region] + rows.entity] -= 1
    keep = np.ones(offsets[-1], bool)
    for i in np.flatnonzero(np.diff(offsets) > most):
        own = order[offsets[i] : offsets[i + 1]]
        keep[offsets[i] : offsets[i + 1]] = own <= max(np.sort(own)[most - 1], own[own < 0].max(initial=-1))
    tokens = rows.tokens.where(keep)
    if rows.entity is None:
        return replace(rows, tokens=tokens)
    before = np.concatenate([[0], np.cumsum(keep)])
    return replace(
        rows, tokens=tokens, entity=before[offsets[rows.region] + rows.entity] - before[offsets[rows.region]]
    )


def fit(network: Network, rows: Labelled, classes: int, seed: int, steps: int) -> None:
    """So many steps of AdamW on batches of whole regions."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    weights = class_weights(rows.label) if classes else np.ones(len(rows))
    numbers = np.unique(rows.region)
    sampler = TokenSampler("regions", 1 + np.diff(rows.tokens.offsets)[numbers], STEP_TOKENS, seed)
    network.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * warmup_cosine(step / steps, WARMUP)
        regions = np.sort(numbers[sampler.draw(step)])
        part, weight = _of_regions(rows, regions), torch.from_numpy(weights[np.isin(rows.region, regions)]).float()
        loss = (weight * _losses(network(part), part.label, classes)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_SLOPE)
        optimiser.step()


def _losses(said: Tensor, label: Array, classes: int) -> Tensor:
    """(k,) cross-entropies, or squared errors, means over columns."""
    if classes:
        return nn.functional.cross_entropy(said, torch.from_numpy(label), reduction="none")
    return (said - torch.from_numpy(label).float()).square().mean(1)


def _rows(rows: Labelled, kept: NDArray[np.bool_]) -> Labelled:
    """Some of the rows, of the same regions."""
    entity = None if rows.entity is None else rows.entity[kept]
    return Labelled(rows.tokens, rows.region[kept], rows.label[kept], entity)


def _of_regions(rows: Labelled, regions: NDArray[np.int64]) -> Labelled:
    """The rows of these regions, (r,) in rising order, and only their tokens."""
    own = _rows(rows, np.isin(rows.region, regions))
    return replace(own, tokens=rows.tokens.take(regions), region=np.searchsorted(regions, own.region))


def _parts(rows: Labelled) -> Iterator[NDArray[np.int64]]:
    """The regions with labelled rows, in parts of at most 4,096 tokens."""
    numbers = np.unique(rows.region)
    return (numbers[part] for part in batches(np.diff(rows.tokens.offsets)[numbers], STEP_TOKENS))
