"""Outcomes of known score, and tasks with a known truth."""

import numpy as np

from graticule.evaluation.outcomes import Answers, Outcome
from graticule.evaluation.tasks import Task
from graticule.geo.coords import uniform_places, unit_sphere


def waves(points, seed=0):
    """A smooth embedding: 40 random waves of the place."""
    rng = np.random.default_rng(seed)
    return np.cos(unit_sphere(points) @ rng.normal(size=(3, 40)) * 2 + rng.uniform(0, 6, 40)).astype(np.float32)


def planted_tasks(n=400):
    """A regression and a classification that are linear functions of `waves`, under names of the main list."""
    points, rng = uniform_places(n, seed=3), np.random.default_rng(1)
    field = waves(points) @ rng.normal(size=(40, 4))
    kind = field[:, :3].argmax(1)
    return [
        Task("soil_ph", points, field[:, 3], "regression"),
        Task("biome", points, kind, "classification", ("a", "b", "c")),
    ]


def outcome(embedding, task, kind, split, values, probe="ridge"):
    """Folds of ten rows whose R2 (any number up to 1) or accuracy (a multiple of .1) are `values`."""
    folds = len(values)
    points = uniform_places(10 * folds, seed=0)
    fold = np.repeat(np.arange(folds), 10)
    if kind == "classification":
        truth = np.tile([0, 1], 5 * folds)
        wrong = np.concatenate([np.arange(10) >= round(10 * value) for value in values])
        predicted, classes = np.where(wrong, 1 - truth, truth), ("a", "b")
    else:
        truth, classes = np.tile([-1.0, 1.0], 5 * folds), ()
        predicted = truth + np.sqrt(1 - np.repeat(values, 10))
    about = Task(task, points, truth, kind, classes)
    said = Answers(np.arange(10 * folds), fold, predicted, np.full(folds, 90))
    return Outcome(embedding, probe, split, about, said)
