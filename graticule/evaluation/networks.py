"""A small neural network on the vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from graticule.errors import need
from graticule.evaluation.inner import inner_folds, standardise
from graticule.evaluation.predictors import Array, Inputs

HIDDEN = 128
RATE, DECAY, BATCH = 1e-3, 0.1, 128
MOST_EPOCHS, PATIENCE = 60, 8
INNER_FOLDS = 10


def mlp(train: Inputs, label: Array, test: Inputs, classes: int = 0) -> Array:
    """A network with two hidden layers of 128 (ReLU) on standardised vectors.

    Squared error of the standardised label, or cross-entropy; AdamW, batches of 128, at most 60 epochs. The weights
    are those of least loss on a tenth of the training rows, which the steps do not see; eight epochs without a better
    one end the search. Seeded: the same rows give the same answer on one machine; the caller's random state stays.
    """
    if (label == label[0]).all():
        return np.full(len(test), label[0])
    torch = need("torch", "train")
    seen, number = np.unique(label, return_inverse=True)
    centre, spread = label.mean(), label.std()
    x, asked = (torch.from_numpy(v.astype(np.float32)) for v in standardise(train.vectors, test.vectors))
    y = (
        torch.from_numpy(number)
        if classes
        else torch.from_numpy(((label - centre) / spread).astype(np.float32))[:, None]
    )
    kept = torch.from_numpy(inner_folds(label, INNER_FOLDS, classes) == 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _network(x.shape[1], len(seen) if classes else 1)
        _fit(model, (x[~kept], y[~kept]), (x[kept], y[kept]), "cross_entropy" if classes else "mse_loss")
    with torch.no_grad():
        said = model(asked).numpy()
    return np.asarray(seen[said.argmax(1)] if classes else said[:, 0].astype(np.float64) * spread + centre)


def _network(columns: int, outputs: int) -> Any:
    nn = need("torch.nn", "train")
    return nn.Sequential(
        nn.Linear(columns, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


def _fit(model: Any, seen: tuple[Any, Any], kept: tuple[Any, Any], loss_name: str) -> None:
    """Train on `seen` (x, y) until `kept` no longer improves, and leave the model with its best weights."""
    torch = need("torch", "train")
    loss = getattr(torch.nn.functional, loss_name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    least, best, best_epoch = np.inf, [p.detach().clone() for p in model.parameters()], 0
    for epoch in range(MOST_EPOCHS):
        for rows in torch.randperm(len(seen[0])).split(BATCH):
            optimizer.zero_grad()
            loss(model(seen[0][rows]), seen[1][rows]).backward()
            optimizer.step()
        with torch.no_grad():
            now = float(loss(model(kept[0]), kept[1]))
        if now < least:
            least, best, best_epoch = now, [p.detach().clone() for p in model.parameters()], epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), best, strict=True):
            parameter.copy_(value)
