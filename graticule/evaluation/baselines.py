"""What coordinates alone give: without these rows a table of scores says nothing.

Each is a predictor like a probe, with lon/lat degrees (n, 2) in place of vectors.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from graticule.encoders.harmonics import harmonics
from graticule.errors import need
from graticule.evaluation.probes import Array, Predictor, ridge, vote
from graticule.geo.coords import EARTH_RADIUS_KM, unit_sphere

NEAREST_KM = 1e-3  # places closer than a metre weigh no more than at a metre


def constant(train: Array, label: Array, test: Array, classes: int = 0) -> Array:
    """The mean, or the most frequent class, of the training rows."""
    guess = np.bincount(label).argmax() if classes else label.mean()
    return np.full(len(test), guess)


def linear_degrees(train: Array, label: Array, test: Array, classes: int = 0) -> Array:
    """Ridge on longitude and latitude."""
    return ridge(train, label, test, classes)


def linear_xyz(train: Array, label: Array, test: Array, classes: int = 0) -> Array:
    """Ridge on the point on the unit sphere."""
    return ridge(unit_sphere(train), label, unit_sphere(test), classes)


def linear_harmonics(train: Array, label: Array, test: Array, classes: int = 0, orders: int = 10) -> Array:
    """Ridge on the `orders` squared spherical harmonics of degree 0 to `orders` - 1."""
    features = partial(harmonics, max_degree=orders - 1, dtype="float64")
    return ridge(features(train), label, features(test), classes)


def interpolation(
    train: Array, label: Array, test: Array, classes: int = 0, neighbours: int = 5, power: float = 1
) -> Array:
    """Labels of the nearest places, weighted by great-circle distance to the minus `power`: mean or majority."""
    tree = need("scipy.spatial", "train").cKDTree(unit_sphere(train))
    straight, found = tree.query(unit_sphere(test), k=np.arange(1, min(neighbours, len(train)) + 1))
    distance_km = 2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(straight / 2, 1))
    return vote(label[found], np.maximum(distance_km, NEAREST_KM) ** -power, classes)


BASELINES: dict[str, Predictor] = {
    "mean or majority": constant,
    "lon, lat": linear_degrees,
    "x, y, z": linear_xyz,
    "harmonics L=10": linear_harmonics,
    "kNN-5": interpolation,
    "IDW-20": partial(interpolation, neighbours=20, power=2),
}
