"""What coordinates alone give: without these rows a table of scores says nothing.

Each is a predictor like a probe and reads only the points.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from graticule.encoders.harmonics import harmonics
from graticule.errors import need
from graticule.evaluation.kriging import kriging
from graticule.evaluation.predictors import Array, Inputs, Predictor, vote
from graticule.evaluation.probes import ridge
from graticule.geo.coords import Points, chord_km, unit_sphere

NEAREST_KM = 1e-3  # places closer than a metre weigh no more than at a metre


def constant(train: Inputs, label: Array, test: Inputs, classes: int = 0) -> Array:
    """The mean, or the most frequent class, of the training rows."""
    guess = np.bincount(label).argmax() if classes else label.mean()
    return np.full(len(test), guess)


def linear(features: Callable[[Points], Array]) -> Predictor:
    """Ridge on features of the points: (n, 2) lon/lat degrees -> (n, d)."""

    def predict(train: Inputs, label: Array, test: Inputs, classes: int = 0) -> Array:
        seen, asked = (Inputs(features(rows.points), rows.points) for rows in (train, test))
        return ridge(seen, label, asked, classes)

    return predict


def waves(orders: int) -> Callable[[Points], Array]:
    """The `orders` squared spherical harmonics of degree 0 to `orders` - 1."""
    return partial(harmonics, max_degree=orders - 1, dtype="float64")


def interpolation(
    train: Inputs, label: Array, test: Inputs, classes: int = 0, neighbours: int = 5, power: float = 1
) -> Array:
    """Labels of the nearest places, weighted by great-circle distance to the minus `power`: mean or majority."""
    tree = need("scipy.spatial", "train").cKDTree(unit_sphere(train.points))
    straight, found = tree.query(unit_sphere(test.points), k=np.arange(1, min(neighbours, len(train)) + 1))
    distance_km = chord_km(straight)
    return vote(label[found], np.maximum(distance_km, NEAREST_KM) ** -power, classes)


BASELINES: dict[str, Predictor] = {
    "mean or majority": constant,
    "lon, lat": linear(lambda points: points),
    "x, y, z": linear(unit_sphere),
    "harmonics L=10": linear(waves(10)),
    "harmonics L=20": linear(waves(20)),
    "kNN-5": interpolation,
    "IDW-20": partial(interpolation, neighbours=20, power=2),
    "kriging": kriging,
}
