"""Two steps of every learner on batches that several processes share, or that one has alone: losses and gradients."""

from dataclasses import replace

import numpy as np
import torch

from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed
from graticule.learners.teacher import TEACHER
from graticule.training.distributed import average_gradients
from graticule.training.drawing import on_host
from tests import region_tokens
from tests.contract import test_learners as learners

MORE = {
    "cyclic sides": {"soft_km": 2000.0, "symmetric": True, "contrast": 0.7, "shared": 8},
    "melt sides": {"symmetric": True, "mask_km": 500.0, "negatives": "ring,queue", "ring_places": 3},
    "csp sphere": {"uniformity": 0.3, "consistency": 0.4},
    "imagebind pieces": {"rows_at_once": 3, "negatives": "random"},
}
VARIANTS = [*learners.VARIANTS, *MORE, *learners.JEPA]
ROWS = {"image": 11, "text": 1, TEACHER: 7}  # one process may have no text at all


def rows(name, paired):
    if name == "osm":
        tokens = region_tokens.planted(9, side=2)
        return Placed(uniform_places(len(tokens), seed=2), tokens)
    count = ROWS["image"] if paired else ROWS[name]
    rng = np.random.default_rng(len(name))
    width = {"image": 5, "text": 7, TEACHER: 8}[name]
    return Placed(uniform_places(count, seed=3), rng.normal(size=(count, width)).astype(np.float16))


def batch(phase, together, whole_batches):
    """As the trainer draws it."""
    made = {}
    for name in phase.modalities:
        all_rows = rows(name, phase.paired)
        if together.size > 1 and not whole_batches:
            own = np.arange(len(all_rows))[together.share(len(all_rows))]
            all_rows = replace(all_rows.take(own), whole=all_rows.lonlat)
        made[name] = on_host(all_rows, pinned=False)
    return made


def two_steps(together, variants=VARIANTS):
    """Mean losses over processes and gradients of every phase of every variant, twice, in float64."""
    learners.VARIANTS.update(MORE)
    found = {}
    for variant in variants:
        learner, phases = learners.build(variant)
        learner = learner.double()
        learner.together = together
        if "rows_at_once" in MORE.get(variant, {}):  # then dropout is each process's own
            for module in learner.modules():
                module.__dict__.update({"p": 0.0} if isinstance(module, torch.nn.Dropout) else {})
        steps = []
        for step, phase in enumerate([*phases, *phases]):
            torch.manual_seed(step)
            losses = learner.loss(batch(phase, together, learner.whole_batches))
            learner.zero_grad()
            losses["loss"].backward()
            average_gradients(learner.parameters(), together)
            learner.after_step(0.5)
            gradients = {n: p.grad.numpy().copy() for n, p in learner.named_parameters() if p.grad is not None}
            means = {n: float(value) for n, value in together.mean(losses).items()}
            steps.append((means, gradients, float(torch.rand(()))))
        found[variant] = steps
    return found
