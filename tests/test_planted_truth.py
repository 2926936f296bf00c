"""What hides behind three modalities at different places is recovered, but not once the places are shuffled."""

import numpy as np
import pytest

from graticule.data.store import prepare
from graticule.geo.coords import uniform_places, unit_sphere
from graticule.runs import train
from tests.prepared import source

HIDDEN, BANDS, ROWS = 4, 8, 3000
SETTINGS = {
    "steps": 150,
    "batch_size": 128,
    "learning_rate": 3e-3,
    "dim": 16,
    "location": "harmonics",
    "location.max_degree": 8,
    "location.body": "mlp",
    "location.width": 64,
    "location.depth": 1,
    "every": 5,
    "log_every": 150,
    "checkpoint_every": 150,
}


def hidden(places):
    """(n, 2) lon/lat -> (n, HIDDEN) smooth waves over the unit sphere, in [-1, 1]."""
    rng = np.random.default_rng(7)
    waves, phases = 2.5 * rng.normal(size=(3, HIDDEN)), rng.uniform(0, 2 * np.pi, HIDDEN)
    return np.sin(unit_sphere(places) @ waves + phases)


def view(name, seed):
    """Patches of one pixel: a linear map of the hidden state, plus noise as strong as a third of it."""
    rng = np.random.default_rng(seed)
    places = uniform_places(ROWS, seed=rng)
    state = hidden(places)
    seen = state @ rng.normal(size=(HIDDEN, BANDS))
    noisy = (seen + rng.normal(size=seen.shape) * seen.std(axis=0) / 3).astype(np.float32)
    return source("image", places, list(noisy[:, :, None, None]), {"seed": seed})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    views = {name: view(name, seed) for seed, name in enumerate(("one", "two", "three"))}
    return prepare(views, to=tmp_path_factory.mktemp("planted"))


def recovered(embed):
    """R2 of a ridge from the vectors to the hidden state, from 150 places to 1,000 others."""
    known, asked = uniform_places(150, seed=100), uniform_places(1000, seed=200)
    x, z = embed(known), embed(asked)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
    x, z = (x - mean) / scale, (z - mean) / scale
    y, truth = hidden(known), hidden(asked)
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
    error = truth - z @ weights - y.mean(axis=0)
    return 1 - (error**2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum()


@pytest.fixture(scope="module")
def untrained(tmp_path_factory, data):
    """What the same encoder gives before it has seen a row."""
    model = train("melt", data, to=tmp_path_factory.mktemp("untrained"), **SETTINGS | {"steps": 0})
    return recovered(model.embed_points)


@pytest.mark.parametrize("recipe", ["imagebind", "cyclic", "melt"])
def test_planted_truth_is_recovered(recipe, data, untrained, tmp_path):
    found = recovered(train(recipe, data, to=tmp_path, **SETTINGS).embed_points)
    assert found > 0.8
    assert found > untrained + 0.5


@pytest.mark.parametrize("recipe", ["imagebind", "cyclic", "melt"])
def test_with_shuffled_places_it_is_not(recipe, data, untrained, tmp_path):
    found = recovered(train(recipe, data, to=tmp_path, shuffle=True, **SETTINGS).embed_points)
    assert found < untrained + 0.2
