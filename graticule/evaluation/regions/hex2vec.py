"""Hex2Vec: regions that lie side by side get vectors alike, from counts of their tags (Wozniak and Szymanski 2021).

Written from the paper: a skip-gram over the map. The scalar product of the encoded counts of two regions is the logit
of their being neighbours; positive pairs are regions that touch, negative ones regions drawn at random that are
neither the same nor within two steps. Where we differ: inputs are log(1 + count) of the 500 most frequent tags of
the training regions instead of raw counts of chosen tags, which their network of 150, 100 and 50 units takes without
normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need
from graticule.evaluation.regions.baselines import MOST_TAGS, Floats, Vectors, tag_counts
from graticule.evaluation.regions.places import touching
from graticule.geo.region import Region

UNITS = (150, 100, 50)
RATE, BATCH, EPOCHS = 1e-3, 256, 5


def hex2vec(cities: Sequence[Sequence[Region]], *, epochs: int = EPOCHS, seed: int = 0) -> Vectors:
    """Learn from the regions of training cities; the function gives (n, 50) vectors of any regions.

    Neighbours are looked for within each city. Deterministic on one machine for a seed; the caller's random state
    stays. DataError when no two regions touch.
    """
    torch = need("torch", "train")
    regions = [region for city in cities for region in city]
    counts = tag_counts(regions, MOST_TAGS)
    pairs = _neighbours(cities)
    if not len(pairs):
        raise DataError(f"Hex2Vec learns from regions that touch; of {len(regions)} regions no two do.")
    near = _within_two(pairs, len(regions))
    x, rng = torch.from_numpy(counts(regions)), np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network(x.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(pairs)), -(-len(pairs) // BATCH)):
            anchor, positive = pairs[rows].T
            optimizer.zero_grad()
            _loss(model, x, anchor, positive, _strangers(anchor, near, len(regions), rng)).backward()
            optimizer.step()

    def vectors(asked: Sequence[Region]) -> Floats:
        with torch.no_grad():
            return np.asarray(model(torch.from_numpy(counts(asked))).numpy(), dtype=np.float32)

    return vectors


def _loss(model: Any, x: Any, anchor: NDArray[np.int64], positive: NDArray[np.int64], negative: Any) -> Any:
    """Mean of the binary cross-entropies of positive and negative pairs. negative (b,), -1 where there is none."""
    bce = need("torch", "train").nn.functional.binary_cross_entropy_with_logits
    there = negative >= 0
    a, b = np.concatenate([anchor, anchor[there]]), np.concatenate([positive, negative[there]])
    truth = x.new_tensor(np.repeat([1.0, 0.0], [len(anchor), int(there.sum())]))
    return bce((model(x[a]) * model(x[b])).sum(1), truth)


def _neighbours(cities: Sequence[Sequence[Region]]) -> NDArray[np.int64]:
    """(p, 2) numbers of touching regions, counted through all cities, in both orders."""
    starts = np.cumsum([0, *(len(city) for city in cities)])
    found = [touching(city) + start for city, start in zip(cities, starts, strict=False) if len(city)]
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def _within_two(pairs: NDArray[np.int64], n: int) -> list[set[int]]:
    """For each region the numbers of those at most two steps away, itself among them."""
    one: list[set[int]] = [{i} for i in range(n)]
    for a, b in pairs.tolist():
        one[a].add(b)
    return [set().union(*(one[j] for j in own)) for own in one]


def _strangers(anchor: NDArray[np.int64], near: list[set[int]], n: int, rng: np.random.Generator) -> Any:
    """(b,) for each anchor a region at random more than two steps away; -1 where ten draws find none."""
    drawn = rng.integers(n, size=(len(anchor), 10)).tolist()
    return np.array([next((j for j in own if j not in near[i]), -1) for i, own in zip(anchor, drawn, strict=True)])


def _network(inputs: int) -> Any:
    nn = need("torch.nn", "train")
    sizes = (inputs, *UNITS)
    layers = [layer for i, o in zip(sizes, UNITS, strict=False) for layer in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1])
