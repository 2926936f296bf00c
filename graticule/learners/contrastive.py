"""Location binds the modalities: each modality's rows are tied to the places of the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from graticule.encoders.location import LocationEncoder
from graticule.encoders.towers import Tower
from graticule.geo.coords import fibonacci_lattice
from graticule.geo.placed import Batch, Placed
from graticule.learners.base import Learner
from graticule.learners.pieces import in_pieces
from graticule.learners.places import PlaceQueue, RandomPlaces, RingPlaces, displaced
from graticule.learners.teacher import TEACHER
from graticule.objectives.hypersphere import alignment, uniformity
from graticule.objectives.regression import effective_rank, feature_regression, prefix_regression
from graticule.objectives.softmax import Pair


class ContrastiveLearner(Learner):
    """A location encoder, a tower a modality, and an objective that sees only their embeddings.

    `other_places` draw extra negatives, once a batch; `second_view` asks for a second dropout view of every place.
    `regression` > 0 adds, that many times, the regression of each tower's standardised input features from the location
    vector by a linear head, which is thrown away after training; `contrast` weighs the objective itself. `shared` > 0
    puts a linear map between the location vector and the objective, into a space of that many numbers: what is good for
    a probe is not what should decide how alike two places are (the projection head of Chen 2020, which here is kept and
    linear). `distil` weighs the regression of a teacher's vectors (`learners.teacher`), where a batch holds places with
    them. With `contrast` 0 and no `regression` the towers do not learn. `uniformity` weighs how evenly the vectors of
    the batch's places are spread, `consistency` how far they are from those of places up to `consistency_km` away
    (`objectives.hypersphere`). With `prefixes` the teacher's vectors are learned as prefixes of these lengths, as the
    objective may do. Encoders embed `rows_at_once` rows at a time (`learners.pieces`), 0 for all.

    Where processes learn together, each embeds its own rows and asks for their losses among the vectors of all.
    """

    def __init__(
        self,
        location: LocationEncoder,
        towers: Mapping[str, Tower],
        objective: nn.Module,
        *,
        other_places: Sequence[RandomPlaces | RingPlaces | PlaceQueue] = (),
        second_view: bool = False,
        contrast: float = 1.0,
        regression: float = 0.0,
        distil: float = 0.0,
        uniformity: float = 0.0,
        consistency: float = 0.0,
        consistency_km: float = 5.0,
        prefixes: Sequence[int] = (),
        shared: int = 0,
        rows_at_once: int = 0,
    ) -> None:
        super().__init__()
        self.location, self.towers, self.objective = location, nn.ModuleDict(towers), objective
        self.shared = nn.Linear(location.dim, shared) if shared else nn.Identity()
        self.other_places, self.second_view = nn.ModuleList(other_places), second_view
        self.contrast, self.regression, self.distil, self.prefixes = contrast, regression, distil, prefixes
        self.uniformity, self.consistency, self.consistency_km = uniformity, consistency, consistency_km
        targets = {name: tower.targets_dim for name, tower in towers.items()} if regression else {}
        self.decoders = nn.ModuleDict({name: nn.Linear(location.dim, dim) for name, dim in targets.items() if dim})
        self.rows_at_once = rows_at_once
        self._seen: Tensor | None = None

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's losses and, when asked for, `regression/NAME`, `uniformity`, `consistency` and `teacher`."""
        losses: dict[str, Tensor] = {}
        own = {name: rows for name, rows in batch.items() if name != TEACHER}
        vectors, pairs = self._pairs(own)
        if pairs:
            losses = self.together.sums(self.objective(pairs))
            losses["loss"] = self.contrast * losses["loss"]
            for name, (weight, part) in self._on_the_sphere(own, vectors).items():
                losses[name] = part
                losses["loss"] = losses["loss"] + weight * part
        for name, location in vectors.items():
            if name in self.decoders:
                tower = cast(Tower, self.towers[name])
                target = tower.targets(batch[name].features)
                part = self._weighed(feature_regression(self.decoders[name](location), target), batch[name])
                losses[f"regression/{name}"] = part
                losses["loss"] = losses["loss"] + self.regression * part / len(pairs)
        if TEACHER in batch:
            rows = batch[TEACHER]
            pupil = self._located(TEACHER, rows)
            losses[TEACHER] = self._weighed(prefix_regression(pupil, rows.features.float(), self.prefixes), rows)
            losses["loss"] = losses.get("loss", 0) + self.distil * losses[TEACHER]
        return losses

    def _pairs(self, batch: Batch) -> tuple[dict[str, Tensor], list[Pair]]:
        """The location vectors of the own rows, and the embeddings of all, each pair with the same places of no row."""
        vectors: dict[str, Tensor] = {}
        pairs = []
        for name, rows in batch.items():
            vectors[name] = self._located(f"places of {name}", rows)
            pairs.append(self._pair(name, rows, vectors[name]))
        if not pairs:
            return vectors, pairs
        self._seen = torch.cat([rows.everywhere for rows in batch.values()]).detach()
        drawn = [draw(self._seen) for draw in self.other_places]
        if not sum(map(len, drawn)):
            return vectors, pairs
        places = torch.cat(drawn)
        own = self.together.share(len(places))
        vectors_of_own = self._among("other places", self.location, own, len(places), places[own])
        others = self.together.gather(self.shared(vectors_of_own), len(places))
        return vectors, [pair._replace(other_places=others, other_lonlat=places) for pair in pairs]

    def _pair(self, name: str, rows: Placed, location: Tensor) -> Pair:
        modality = self._embed(name, self.towers[name], rows, rows.features)
        second = None
        if self.second_view:
            second = self._of_all(self.shared(self._located(f"view of {name}", rows)), rows)
        return Pair(
            name,
            self._of_all(self.shared(location), rows),
            self._of_all(modality, rows),
            second,
            lonlat=rows.everywhere,
            part=None if rows.whole is None else self.together.share(len(rows.everywhere)),
        )

    def _located(self, what: str, rows: Placed) -> Tensor:
        """The location vectors of rows, by their columns of the basis where these were computed before."""
        return self._embed(what, self.location, rows, rows.lonlat, None, rows.basis)

    def _embed(self, what: str, network: nn.Module, rows: Placed, inputs: Tensor, *beside: Tensor | None) -> Tensor:
        """What a network makes of the own rows of a modality."""
        count = len(rows.everywhere)
        return self._among(what, network, self.together.share(count), count, inputs, *beside)

    def _among(
        self, what: str, network: nn.Module, own: slice | Tensor, rows: int, inputs: Tensor, *beside: Tensor | None
    ) -> Tensor:
        """What a network makes of the own ones of so many rows, with the dropout that they have among all of them."""
        drawing = self.together.own_draws(what) if self.rows_at_once else self.together.drawing_for(own, rows)
        with drawing:
            return in_pieces(network, self.rows_at_once, inputs, *beside)

    def _of_all(self, vectors: Tensor, rows: Placed) -> Tensor:
        return self.together.gather(vectors, len(rows.everywhere))

    def _weighed(self, mean: Tensor, rows: Placed) -> Tensor:
        return self.together.weighed(mean, len(rows), len(rows.everywhere))

    def _on_the_sphere(self, batch: Batch, locations: Mapping[str, Tensor]) -> dict[str, tuple[float, Tensor]]:
        """The terms of the batch's own places beside the objective, with their weights."""
        terms: dict[str, tuple[float, Tensor]] = {}
        if not self.uniformity and not self.consistency:
            return terms
        vectors = torch.cat(list(locations.values()))
        if self.uniformity:
            of_all = [self._of_all(part, batch[name]) for name, part in locations.items()]
            every = vectors if self.together.size == 1 else torch.cat(of_all)
            terms["uniformity"] = self.uniformity, uniformity(every)
        if self.consistency:
            places = torch.cat([rows.everywhere for rows in batch.values()])
            own = self.together.shares([len(rows.everywhere) for rows in batch.values()]).to(places.device)
            moved = displaced(places, 0, self.consistency_km)[own]
            beside = self._among("places beside", self.location, own, len(places), moved)
            part = alignment(vectors, beside)
            terms["consistency"] = self.consistency, self.together.weighed(part, len(own), len(places))
        return terms

    def networks(self) -> list[nn.Module]:
        """The location encoder and the towers that have weights."""
        return [self.location, *(tower for tower in self.towers.values() if any(True for _ in tower.parameters()))]

    def after_step(self, progress: float) -> None:
        """Let the queue of places, where there is one, remember the batch."""
        for places in self.other_places:
            if self._seen is not None:
                cast(PlaceQueue, places).remember(self._seen)

    def diagnose(self) -> dict[str, Tensor]:
        """Effective rank and mean standard deviation of the location vectors on an even lattice of 1,024 places."""
        device = next(self.parameters()).device
        vectors = self.location(torch.as_tensor(fibonacci_lattice(1024), device=device)).float()
        return {"rank": effective_rank(vectors), "spread": vectors.std(dim=0).mean()}
