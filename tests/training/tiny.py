"""A learner small enough to compute by hand beside the trainer: linear maps that must reproduce a hidden one."""

import numpy as np
import torch
from torch import nn

from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed
from graticule.learners.base import Learner
from graticule.training.trainer import Schedule


class Tiny(Learner):
    """Predicts the last column of each modality's features from the others; keeps what happened."""

    def __init__(self, names=("a", "b"), width=4, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Linear(width, width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, 1) for name in names})
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.long))
        self.batches, self.weights, self.progress = [], [], []

    def loss(self, batch):
        self.batches.append({name: [int(i) for i in rows.ids] for name, rows in batch.items()})
        parts = {}
        for name, rows in batch.items():
            known, wanted = rows.features[:, :-1], rows.features[:, -1:]
            parts[name] = (self.heads[name](self.dropout(self.shared(known))) - wanted).square().mean()
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def after_step(self, progress):
        self.steps_seen += 1
        self.progress.append(progress)
        self.weights.append({name: p.detach().clone() for name, p in self.named_parameters()})

    def diagnose(self):
        return {
            "rank": torch.tensor(1.0),
            "spread": self.shared.weight.std(),
            "mode": torch.tensor(float(self.training)),
        }


def sources(names=("a", "b"), rows=20, width=4):
    rng = np.random.default_rng(1)
    made = {}
    for i, name in enumerate(names):
        known = rng.normal(size=(rows + 3 * i, width))
        features = np.concatenate([known, known @ rng.normal(size=(width, 1))], axis=1).astype(np.float32)
        numbers = np.array([str(k) for k in range(len(features))])
        made[name] = Placed(uniform_places(len(features), seed=i), features, numbers)
    return made


def schedule(**changes):
    return Schedule(**{"steps": 12, "batch_size": 5, "log_every": 3, "checkpoint_every": 4} | changes)
