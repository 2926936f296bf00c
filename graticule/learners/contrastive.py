"""Location binds the modalities: each modality's rows are tied to the places of the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from graticule.encoders.location import LocationEncoder
from graticule.encoders.towers import Tower
from graticule.geo.coords import fibonacci_lattice
from graticule.geo.placed import Batch, Placed
from graticule.learners.base import Learner
from graticule.learners.places import PlaceQueue, RandomPlaces
from graticule.learners.teacher import TEACHER
from graticule.objectives.contrastive import Pair
from graticule.objectives.regression import effective_rank, feature_regression


class ContrastiveLearner(Learner):
    """A location encoder, a tower a modality, and an objective that sees only their embeddings.

    `other_places` are extra negatives, `second_view` asks for a second dropout view of every place.
    `regression` > 0 adds, that many times, the regression of each tower's standardised input features
    from the location vector by a linear head, which is thrown away after training; `contrast` weighs
    the objective itself. `distil` weighs the regression of a teacher's vectors (`learners.teacher`), where a
    batch holds places with them. With `contrast` 0 and no `regression` the towers do not learn.
    """

    def __init__(
        self,
        location: LocationEncoder,
        towers: Mapping[str, Tower],
        objective: nn.Module,
        *,
        other_places: RandomPlaces | PlaceQueue | None = None,
        second_view: bool = False,
        contrast: float = 1.0,
        regression: float = 0.0,
        distil: float = 0.0,
    ) -> None:
        super().__init__()
        self.location, self.towers, self.objective = location, nn.ModuleDict(towers), objective
        self.other_places, self.second_view = other_places, second_view
        self.contrast, self.regression, self.distil = contrast, regression, distil
        targets = {name: tower.targets_dim for name, tower in towers.items()} if regression else {}
        self.decoders = nn.ModuleDict({name: nn.Linear(location.dim, dim) for name, dim in targets.items() if dim})
        self._seen: Tensor | None = None

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's losses and, when asked for, `regression/NAME` of each modality and `teacher`."""
        losses: dict[str, Tensor] = {}
        own = {name: rows for name, rows in batch.items() if name != TEACHER}
        pairs = [self._pair(name, rows) for name, rows in own.items()]
        if pairs:
            losses = self.objective(pairs)
            losses["loss"] = self.contrast * losses["loss"]
            self._seen = torch.cat([rows.lonlat for rows in own.values()]).detach()
        for pair in pairs:
            if pair.name in self.decoders:
                tower = cast(Tower, self.towers[pair.name])
                target = tower.targets(batch[pair.name].features)
                part = feature_regression(self.decoders[pair.name](pair.location), target)
                losses[f"regression/{pair.name}"] = part
                losses["loss"] = losses["loss"] + self.regression * part / len(pairs)
        if TEACHER in batch:
            rows = batch[TEACHER]
            losses[TEACHER] = feature_regression(self.location(rows.lonlat), rows.features.float())
            losses["loss"] = losses.get("loss", 0) + self.distil * losses[TEACHER]
        return losses

    def _pair(self, name: str, rows: Placed) -> Pair:
        location, modality = self.location(rows.lonlat), self.towers[name](rows.features)
        second = self.location(rows.lonlat) if self.second_view else None
        others = None
        if self.other_places is not None:
            places = self.other_places(rows.lonlat)
            others = self.location(places) if len(places) else None
        return Pair(name, location, modality, second, others)

    def after_step(self, progress: float) -> None:
        """Let the queue of places, where there is one, remember the batch."""
        if self.other_places is not None and self._seen is not None:
            self.other_places.remember(self._seen)

    def diagnose(self) -> dict[str, Tensor]:
        """Effective rank and mean standard deviation of the location vectors on an even lattice of 1,024 places."""
        device = next(self.parameters()).device
        vectors = self.location(torch.as_tensor(fibonacci_lattice(1024), device=device)).float()
        return {"rank": effective_rank(vectors), "spread": vectors.std(dim=0).mean()}
