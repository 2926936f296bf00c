"""What is demanded of every learner: the contrastive one under every recipe and GeoJEPA, on a tiny batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from graticule.encoders.location import location_encoder
from graticule.encoders.towers import tower
from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed
from graticule.learners.base import Learner
from graticule.learners.jepa import JepaLearner
from graticule.learners.teacher import TEACHER
from graticule.parts import Parts
from graticule.recipes import RECIPES
from graticule.settings import Settings
from graticule.training.trainer import Phase
from tests import region_tokens

BINARY = ("satclip", "geoclip", "csp")
ROWS = 12
NEAR = {
    "soft_km": 3000.0,
    "mask_km": 300.0,
    "negatives": "random,ring",
    "ring_places": 4,
    "prefixes": "3,5",
    "coarse": 0.5,
}
VARIANTS = {name: {} for name in RECIPES} | {
    "melt regression": {"regression": 0.5},
    "imagebind regression": {"regression": 1.0, "contrast": 0.0},
    "distil": {"distil": 1.0},
    "melt distil": {"distil": 0.5},
    "geoclip distil": {"distil": 0.5},
    "csp distil": {"distil": 0.5},
    "cyclic epochs": {"cycle": "epochs", "every": 2},
    "imagebind near": NEAR,
    "cyclic near": NEAR | {"soft_kernel": "ball", "negatives": "queue"},
    "melt near": NEAR | {"uniformity": 0.5, "consistency": 1.0, "distil": 0.5},
}
JEPA = {
    "geojepa": {},
    "geojepa added": {"position": "added", "masks": {"area": 0.5, "attribute": 0.5}},
    "geojepa sigreg": {"regulariser": "sigreg", "targets": "frozen-random", "modalities": "TG"},
    "geojepa across": {"cross_modal": 0.5, "modality_dropout": 0.3, "targets": "stopgrad", "beta": 0.05},
}
every = pytest.mark.parametrize("variant", [*VARIANTS, *JEPA])


def build(variant):
    if variant in JEPA:
        torch.manual_seed(0)
        sizes = {"width": 16, "depth": 1, "heads": 2, "predictor_width": 8, "predictor_depth": 1}
        return JepaLearner.of(region_tokens.planted(side=2), **sizes, **JEPA[variant]), [Phase(("osm",))]
    return RECIPES[variant.split()[0]](build_parts(variant))


def build_parts(variant):
    recipe = variant.split()[0]
    own = {"learn_temperature": True, "temperature": 0.1, **VARIANTS[variant]}
    settings = Settings(dim=8, batch_size=4, queue=6, random_places=5, **own)
    names = ["image"] if recipe in BINARY else ["image", "text"]
    location = location_encoder("harmonics", max_degree=3, body="mlp", width=16, depth=1, dim=8, dropout=0.1)
    torch.manual_seed(0)
    towers = {name: tower(width, dim=8, hidden=16) for name, width in zip(names, (5, 7), strict=False)}
    for name, one in towers.items():
        one.fit_statistics(rows(name).features)
    return Parts(location, towers, dict.fromkeys(names, ROWS), settings)


def rows(name):
    rng = np.random.default_rng(len(name))
    width = {"image": 5, "text": 7, TEACHER: 8}[name]
    return Placed(uniform_places(ROWS, seed=3), rng.normal(size=(ROWS, width)).astype(np.float16))


def batch(names):
    if "osm" in names:
        return region_tokens.batch(region_tokens.planted(side=2))
    placed = {name: rows(name) for name in names}
    return {n: Placed(torch.from_numpy(r.lonlat), torch.from_numpy(r.features)) for n, r in placed.items()}


@every
def test_losses_are_finite_scalars(variant):
    learner, phases = build(variant)
    assert isinstance(learner, Learner)
    for phase in phases:
        losses = learner.loss(batch(phase.modalities))
        assert losses["loss"].requires_grad
        assert len(losses) > 1
        assert all(value.shape == () and torch.isfinite(value) for value in losses.values())


@every
def test_every_parameter_has_a_gradient_in_one_of_the_phases(variant):
    learner, phases = build(variant)
    for _ in range(2):  # the queue of places is empty in the first step
        for phase in phases:
            learner.loss(batch(phase.modalities))["loss"].backward()
            learner.after_step(0.5)
    for name, parameter in learner.named_parameters():
        if name.startswith("target."):  # of the targets' encoder, which only follows
            assert not parameter.requires_grad
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if not (variant == "imagebind regression" and name.startswith(("objective", "towers"))):
            assert parameter.grad.abs().max() > 0, name


def test_a_fixed_temperature_has_no_gradient():
    learner, _ = RECIPES["melt"](replace(build_parts("melt"), settings=Settings()))
    assert not any(p.requires_grad for p in learner.objective.parameters())


@every
def test_diagnosis_is_finite_and_changes_nothing(variant):
    learner, _ = build(variant)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.eval()
    with torch.no_grad():
        shown = learner.diagnose()
        again = learner.diagnose()
    assert set(shown) == {"rank", "spread"} | ({"left_out"} if variant in JEPA else set())
    low, high = (1 / 16, 1) if variant in JEPA else (1, 8)
    assert low < shown["rank"].item() <= high
    assert shown["spread"].item() > 0
    assert all(torch.equal(shown[name], again[name]) for name in shown)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


@every
def test_state_is_enough_to_go_on(variant):
    learner, phases = build(variant)
    for phase in phases:
        learner.loss(batch(phase.modalities))
        learner.after_step(0.5)
    again, _ = build(variant)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(1)
    again.load_state_dict(learner.state_dict())
    for phase in phases:
        torch.manual_seed(0)
        expected = learner.loss(batch(phase.modalities))
        torch.manual_seed(0)
        found = again.loss(batch(phase.modalities))
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@every
def test_a_few_steps_lower_the_loss(variant):
    learner, phases = build(variant)
    names = phases[0].modalities
    optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-2)
    values = []
    for step in range(25):
        loss = learner.loss(batch(names))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        learner.after_step((step + 1) / 25)
        values.append(loss.item())
    assert sum(values[-3:]) < 0.8 * sum(values[:3])
