"""A baseline that is given the labels: the region encoder trained end to end on one task of the training cities.

The same architecture as GeoJEPA's, without pretraining, with a linear head on the vectors of regions, or of entities
beside their regions. It answers the test cities itself, without a probe, and how long it trains is decided on rows of
training cities that are held out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graticule.encoders.region_encoder import RegionEncoder, region_encoder, token_widths
from graticule.errors import DataError
from graticule.evaluation.predictors import Array
from graticule.evaluation.regions.probes import class_weights, group_folds
from graticule.evaluation.regions.scores import LEAST_ROWS, Scores, class_scores, enough, regression_scores
from graticule.geo.tokens import Tokens, join

STEPS, STEP_TOKENS, CHECK_EVERY = 200, 4096, 20
LEARNING_RATE, WEIGHT_DECAY, WARMUP, LARGEST_SLOPE = 1e-3, 0.05, 0.1, 1.0
MOST_ENTITIES = 512  # of a region; of larger ones as many are drawn
MOST_AROUND = 128  # the same where entities are labelled, which all stay
CHECK_REGIONS = 200  # of the cities held out


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
    group = np.repeat(np.arange(len(known)), [len(own) for own in known.values()])
    most = MOST_ENTITIES if next(iter(known.values())).entity is None else MOST_AROUND
    rows = joined([thinned(own, seed, most) for own in known.values()])
    parts = {city: thinned(own, seed, most) for city, own in asked.items()}
    if classes:
        seen = np.unique(rows.label)
        numbered = replace(rows, label=np.searchsorted(seen, rows.label))
        said = trained(numbered, group, list(parts.values()), len(seen), seed, steps, widths)
        return {c: class_scores(own.label, seen[s.argmax(1)]) for (c, own), s in zip(parts.items(), said, strict=True)}
    y = rows.label.reshape(len(rows), -1)
    mean, deviation = y.mean(0), np.where(np.ptp(y, axis=0) > 0, y.std(0), 1)
    said = trained(replace(rows, label=(y - mean) / deviation), group, list(parts.values()), 0, seed, steps, widths)
    answers = {city: s * deviation + mean for city, s in zip(parts, said, strict=True)}
    return {
        city: regression_scores(own.label, answers[city].reshape(own.label.shape), rows.label.mean(0))
        for city, own in parts.items()
    }


def trained(
    rows: Labelled,
    group: NDArray[np.int64],
    asked: Sequence[Labelled],
    classes: int,
    seed: int,
    steps: int,
    widths: Mapping[str, Any],
) -> list[NDArray[np.float64]]:
    """For each of `asked` (k, outputs): logits of classes, or numbers; by the network at its best checked step.

    rows: with labels 0 to classes - 1, or standardised (k, columns); group (k,): their cities. A fifth of the cities,
    of the rows where there is one city, is held out of the training, and looked at every 20 steps.
    """
    if classes == 1:
        return [np.zeros((len(own), 1)) for own in asked]
    fold = group_folds(rows.label, group, classes)
    held = fold == 0 if len(np.unique(fold)) > 1 else np.zeros(len(rows), bool)
    inside, outside = _rows(rows, ~held), _rows(rows, held)
    check = _of_regions(outside, _some(np.unique(outside.region), CHECK_REGIONS, seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network.of(rows.tokens, classes or rows.label.shape[1], rows.entity is not None, widths)
        best, kept = -np.inf, copy.deepcopy(network.state_dict())
        for step in _steps(network, inside, classes, seed, steps):
            if step % CHECK_EVERY == 0 or step == steps:
                gained = _gain(check, predictions(network, check), classes)
                if gained >= best:
                    best, kept = gained, copy.deepcopy(network.state_dict())
        network.load_state_dict(kept)
        return [predictions(network, own) for own in asked]


class Network(nn.Module):
    """The region encoder and a linear head, which says zeros at the start."""

    def __init__(self, encoder: RegionEncoder, outputs: int, entities: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.region_dim + entities * encoder.width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def of(cls, tokens: Tokens, outputs: int, entities: bool, widths: Mapping[str, Any]) -> Network:
        """A new network for tokens like these (numpy); statistics are taken from them."""
        encoder = region_encoder(**token_widths(tokens), **widths)
        encoder.fit_statistics(tokens)
        return cls(encoder, outputs, entities)

    def forward(self, rows: Labelled) -> Tensor:
        """Labelled rows (numpy) -> (k, outputs)."""
        tokens, region = rows.tokens.to(self.head.weight.device), torch.from_numpy(rows.region)
        encoded = self.encoder(tokens)
        vectors = encoded.regions[region]
        if rows.entity is not None:
            own = encoded.entities[tokens.offsets[region] + torch.from_numpy(rows.entity)]
            vectors = torch.cat([own, vectors], dim=1)
        out: Tensor = self.head(vectors)
        return out


def predictions(network: Network, rows: Labelled) -> NDArray[np.float64]:
    """(k, outputs) for labelled rows, the network in evaluation."""
    said = np.zeros((len(rows), network.head.out_features))
    network.eval()
    with torch.no_grad():
        for regions in _batches(np.unique(rows.region), rows.tokens):
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


def _steps(network: Network, rows: Labelled, classes: int, seed: int, steps: int) -> Iterator[int]:
    """Train, and say after every step, and before the first, how many were made."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warmup_cosine(step / max(steps, 1)))
    weights = class_weights(rows.label) if classes else np.ones(len(rows))
    batches = _endless(np.unique(rows.region), rows.tokens, seed)
    yield 0
    for step in range(1, steps + 1):
        regions = next(batches)
        network.train()
        part, weight = _of_regions(rows, regions), torch.from_numpy(weights[np.isin(rows.region, regions)]).float()
        loss = (weight * _losses(network(part), part.label, classes)).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_SLOPE)
        optimiser.step()
        rate.step()
        yield step


def _losses(said: Tensor, label: Array, classes: int) -> Tensor:
    """(k,) cross-entropies, or squared errors, means over columns."""
    if classes:
        return nn.functional.cross_entropy(said, torch.from_numpy(label), reduction="none")
    return (said - torch.from_numpy(label).float()).square().mean(1)


def _gain(rows: Labelled, said: NDArray[np.float64], classes: int) -> float:
    """What is better when larger: macro-F1, or minus the mean squared error; 0 without rows."""
    if not len(rows):
        return 0.0
    return (
        class_scores(rows.label, said.argmax(1))["macro-F1"] if classes else -float(np.square(rows.label - said).mean())
    )


def _warmup_cosine(progress: float) -> float:
    return min(progress / WARMUP + 0.1, 1.0) * 0.5 * (1 + float(np.cos(np.pi * min(progress, 1.0))))


def _rows(rows: Labelled, kept: NDArray[np.bool_]) -> Labelled:
    """Some of the rows, of the same regions."""
    entity = None if rows.entity is None else rows.entity[kept]
    return Labelled(rows.tokens, rows.region[kept], rows.label[kept], entity)


def _of_regions(rows: Labelled, regions: NDArray[np.int64]) -> Labelled:
    """The rows of these regions, (r,) in rising order, and only their tokens."""
    own = _rows(rows, np.isin(rows.region, regions))
    return replace(own, tokens=rows.tokens.take(regions), region=np.searchsorted(regions, own.region))


def _some(numbers: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(numbers)[:most])


def _batches(order: NDArray[np.int64], tokens: Tokens) -> list[NDArray[np.int64]]:
    """The regions in this order, cut into parts of some 4,096 tokens, each in rising order."""
    filled = np.cumsum(1 + np.diff(tokens.offsets)[order]) // STEP_TOKENS
    return [np.sort(part) for part in np.split(order, np.flatnonzero(np.diff(filled)) + 1) if len(part)]


def _endless(regions: NDArray[np.int64], tokens: Tokens, seed: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    while True:
        yield from _batches(rng.permutation(regions), tokens)
