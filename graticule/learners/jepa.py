"""GeoJEPA: predict what hidden tokens of a region mean from the tokens that are left, in latent space."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from graticule.encoders.region_encoder import Encoded, RegionEncoder, owners, region_encoder, token_widths
from graticule.errors import DataError, SettingError, unknown
from graticule.geo.placed import Batch
from graticule.geo.tokens import Tokens
from graticule.learners.base import Learner
from graticule.learners.masking import LEFT_OUT, Masking, Masks, part, sampled
from graticule.learners.predictor import Predictor
from graticule.objectives.latent import (
    across_modalities,
    prediction_losses,
    rank_about_zero,
    sketched_normality,
    variance_and_covariance,
)

GEOJEPA: dict[str, Any] = {
    "width": 128, "depth": 2, "heads": 4, "feedforward": 2, "dropout": 0.0, "position": "keys", "predictor_width": 96,
    "predictor_depth": 1, "masks": {"random": 0.1, "area": 0.1, "modality": 0.1, "attribute": 0.2, "alike": 0.5},
    "target_share": 0.5, "targets": "ema", "regulariser": "vicreg", "beta": 0.01, "ema": (0.99, 0.999),
}  # fmt: skip
"""Options of `JepaLearner.of` for one core; the optimiser's settings stand in `graticule.recipes`."""

GEOJEPA_PAPER: dict[str, Any] = {
    "width": 384, "depth": 12, "heads": 8, "feedforward": 4, "dropout": 0.1, "position": "added",
    "predictor_width": 192,
    "predictor_depth": 4, "masks": {"random": 0.2, "area": 0.6, "modality": 0.2},
    "target_share": 0.9,  # 4 blocks of 45 % leave .55^4 = 9 % to the context
    "targets": "ema", "regulariser": "vicreg", "beta": 0.01, "ema": (0.99, 0.99999),
}  # fmt: skip
"""Sizes, masks and weights of the paper (arXiv 2503.05774), its masks without the leak."""

TARGETS = ("ema", "frozen-random", "stopgrad")
REGULARISERS: dict[str, Callable[[Tensor], dict[str, Tensor]]] = {
    "vicreg": lambda means: dict(zip(("variance", "covariance"), variance_and_covariance(means), strict=True)),
    "sigreg": lambda means: {"sigreg": sketched_normality(means)},
    "none": lambda means: {},
}
EVALUATION_REGIONS = 256


class JepaLearner(Learner):
    """Context encoder, predictor and targets (I-JEPA, Assran 2023; for maps: GeoJEPA, arXiv 2503.05774).

    loss = prediction + beta (variance_weight variance + covariance) with "vicreg", or + beta sigreg with "sigreg".
    The regulariser looks at the mean-pooled vectors of the CONTEXT, of entities and of patches, and takes the mean
    of its terms. They need no projector: means can have deviation 1 and be normal around 0.

    targets          what makes the targets from all tokens: "ema", a moving average of the encoder, "frozen-random",
                     the encoder as it was at the start (OlmoEarth's latent MIM lite), or "stopgrad", the encoder
                     itself. `target_layers` > 1 averages so many last layers (data2vec)
    ema              decay of the moving average at the start and the end, linear in between
    stop_gradient    False, with targets "stopgrad", lets targets learn along: without a regulariser all vectors
                     become one (kept as a control)
    masks            chances of the kinds of masks, see `Masking`
    modality_dropout chance that a region's context goes without one of its modalities, tags, geometry or image, while
                     another is left
    cross_modal      weight of InfoNCE between a region's entities and its image, each encoded alone
    max_tokens       as many entities of a region are drawn each step at most
    location         frozen encoder of lon/lat places into the encoder's place token
    evaluation       regions on which `diagnose` looks; without it those of the last batch

    Where processes learn together, each draws the masks of all regions, encodes and predicts those of its own, and
    the regularisers look at the means of all. Dropout inside the transformers is the process's own.
    """

    likeness: Tensor
    whole_batches = True

    def __init__(
        self,
        encoder: RegionEncoder,
        *,
        predictor_width: int = 96,
        predictor_depth: int = 1,
        predictor_heads: int | None = None,
        targets: str = "ema",
        target_layers: int = 1,
        stop_gradient: bool = True,
        ema: tuple[float, float] = (0.99, 0.999),
        regulariser: str = "vicreg",
        beta: float = 0.01,
        variance_weight: float = 25.0,
        masks: Mapping[str, float] = GEOJEPA["masks"],
        target_share: float = 0.5,
        least_context: float = 0.1,
        modality_dropout: float = 0.0,
        cross_modal: float = 0.0,
        max_tokens: int = 256,
        location: nn.Module | None = None,
        evaluation: Tokens | None = None,
    ) -> None:
        super().__init__()
        for what, name, valid in (("targets", targets, TARGETS), ("regulariser", regulariser, REGULARISERS)):
            if name not in valid:
                raise unknown(what, name, valid)
        if not (0 <= modality_dropout < 1 and max_tokens > 1 and all(0 <= decay <= 1 for decay in ema)):
            raise SettingError(
                "Expected 0 <= modality_dropout < 1, max_tokens > 1 and decays from 0 to 1, got "
                f"{modality_dropout}, {max_tokens} and {tuple(ema)}."
            )
        if not stop_gradient and targets != "stopgrad":
            raise SettingError(f'stop_gradient=False needs targets="stopgrad": {targets!r} targets have no gradient.')
        if cross_modal and (not (encoder.has_entities and encoder.has_patches) or encoder.place_dim):
            raise SettingError(
                "cross_modal needs entities and an image, and no place token that would tell them apart, got "
                f"modalities {encoder.modalities!r} and place_dim={encoder.place_dim}."
            )
        self.encoder, self.ema, self.regulariser, self.beta = encoder, tuple(ema), regulariser, beta
        self.variance_weight, self.target_layers, self.stop_gradient = variance_weight, target_layers, stop_gradient
        self.modality_dropout, self.cross_modal, self.max_tokens = modality_dropout, cross_modal, max_tokens
        self.masking = Masking(dict(masks), encoder.modalities, target_share, least_context)
        text = normalize(encoder.frequent_text - encoder.frequent_text.mean(dim=0), dim=1)
        self.register_buffer("likeness", text @ text.T, persistent=False)
        self.targets = targets
        self.predictor = Predictor(
            encoder, predictor_width, predictor_depth, predictor_heads or int(encoder.config["heads"])
        )
        if cross_modal:
            self.of_entities, self.of_patches = (nn.Linear(encoder.width, encoder.width) for _ in range(2))
        if targets != "stopgrad":
            self.target = copy.deepcopy(encoder).requires_grad_(False)
        self.location = None if location is None else location.requires_grad_(False)
        self.evaluation = evaluation
        self._last: tuple[Tokens, Tensor | None] | None = None
        self._left_out = torch.zeros(())

    @classmethod
    def of(cls, tokens: Tokens, *, max_tokens: int = 256, **options: Any) -> JepaLearner:
        """A learner with a new encoder for tokens like these (numpy): widths and statistics are taken from them.

        `options` are those of `RegionEncoder` and of `JepaLearner`; see GEOJEPA and GEOJEPA_PAPER.
        """
        own, of_encoder = _keywords(cls), _keywords(RegionEncoder) - {"frequent"}
        for name in options:
            if name not in own | of_encoder:
                raise unknown("option of geojepa", name, own | of_encoder)
        encoder = region_encoder(**token_widths(tokens), **{n: v for n, v in options.items() if n in of_encoder})
        encoder.fit_statistics(tokens)
        chosen = np.unique(np.linspace(0, len(tokens) - 1, EVALUATION_REGIONS).astype(np.int64))
        if options.get("location") is None:
            options.setdefault("evaluation", sampled(tokens.take(chosen).to("cpu"), max_tokens))
        return cls(encoder, max_tokens=max_tokens, **{n: v for n, v in options.items() if n in own})

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of one batch of one modality, whose features are `Tokens` (tensors)."""
        if len(batch) != 1:
            raise DataError(f"GeoJEPA learns from one modality of regions, got {', '.join(batch) or 'none'}.")
        (rows,) = batch.values()
        every = sampled(rows.features, self.max_tokens)
        of_all = self._without_modalities(every, self.masking(every, self.encoder.grid, self.likeness))
        own = self.together.share(len(every))
        tokens, place = part(every, own), self._place(rows.lonlat[own])
        masks = of_all.part(own, slice(*every.offsets[[own.start, own.stop]].tolist()))
        with self.together.own_draws("masks"):
            context = self._context(tokens, masks, place)
            predicted = self.predictor(self.encoder, tokens, context, masks)
            full = self._full(tokens, place)
        targets = {name: _chosen(full, masks, name) for name in predicted}
        asked = {name: int(_targets(of_all, name).sum()) for name in predicted}
        parts = prediction_losses(predicted, targets, stop_gradient=self.stop_gradient, of=asked)
        losses = self.together.sums(parts)
        total = losses["prediction"]
        if self.regulariser != "none":
            terms = [REGULARISERS[self.regulariser](means) for means in self._means(context, len(every))]
            losses |= {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}
            weights = {"variance": self.variance_weight}
            total = total + self.beta * sum(weights.get(name, 1.0) * losses[name] for name in terms[0])
        if self.cross_modal:
            losses["cross_modal"] = self._cross_modal(tokens, place, every)
            total = total + self.cross_modal * losses["cross_modal"]
        self._last, self._left_out = (tokens, place), (of_all.kinds == LEFT_OUT).float().mean()
        return {"loss": total, **losses}

    def networks(self) -> list[nn.Module]:
        """The encoder, that of the targets, and the predictor."""
        return [self.encoder, *([] if self.targets == "stopgrad" else [self.target]), self.predictor]

    def _means(self, context: Encoded, regions: int) -> list[Tensor]:
        every = self.together.gather(context.means, regions).unbind(dim=1)
        return [means[(means != 0).any(dim=1)] for means in every]  # zeros: a region without such tokens

    def _place(self, lonlat: Tensor) -> Tensor | None:
        if self.location is None:
            return None
        with torch.no_grad():
            place: Tensor = self.location.eval()(lonlat)
        return place

    def _without_modalities(self, tokens: Tokens, masks: Masks) -> Masks:
        """The same masks with `modality_dropout`."""
        if not self.modality_dropout or not self.training:
            return masks
        tags, geometry, (entities, patches) = masks.hide_tags, masks.hide_geometry, masks.context
        draw = torch.rand(len(tokens), device=tags.device) < self.modality_dropout
        which = torch.randint(len(self.encoder.modalities), draw.shape, device=tags.device)
        goes = {m: draw & (which == i) for i, m in enumerate(self.encoder.modalities)}
        owner = owners(tokens.offsets)
        if "T" in goes and "G" in goes:
            tags = tags | (goes["T"][owner] & ~geometry)
            geometry = geometry | (goes["G"][owner] & ~tags)
        if patches is not None and self.encoder.has_entities:
            left = torch.zeros_like(draw).index_put((owner[entities],), torch.tensor(True, device=draw.device))
            patches = patches & ~(goes["I"] & left)[:, None]
        return replace(masks, hide_tags=tags, hide_geometry=geometry, context=(entities, patches))

    def _context(self, tokens: Tokens, masks: Masks, place: Tensor | None) -> Encoded:
        context: Encoded = self.encoder(
            tokens, masks.hide_tags, masks.hide_geometry, masks.context, place, hide_frequent=masks.hide_frequent
        )
        return context

    def _full(self, tokens: Tokens, place: Tensor | None) -> Encoded:
        teacher = self.encoder if self.targets == "stopgrad" else self.target
        training = teacher.training
        teacher.eval()
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.stop_gradient):
            full: Encoded = teacher(tokens, place=place, layers=self.target_layers)
        teacher.train(training)
        return full

    def _cross_modal(self, tokens: Tokens, place: Tensor | None, every: Tokens) -> Tensor:
        entities = torch.ones_like(tokens.tags, dtype=torch.bool)
        both = (every.offsets.diff() > 0) & every.seen.any(dim=1)
        with self.together.own_draws("modalities"):
            means = self.encoder(tokens, keep=(entities, torch.zeros_like(tokens.seen)), place=place).means
            first = self.together.gather(means, len(every))[both, 0]
            means = self.encoder(tokens, keep=(~entities, tokens.seen), place=place).means
            second = self.together.gather(means, len(every))[both, 1]
        return across_modalities(self.of_entities(first), self.of_patches(second))

    def after_step(self, progress: float) -> None:
        """Move the targets' encoder towards the encoder."""
        if self.targets == "ema":
            decay = self.ema[0] + (self.ema[1] - self.ema[0]) * progress
            with torch.no_grad():
                torch._foreach_lerp_(list(self.target.parameters()), list(self.encoder.parameters()), 1 - decay)

    def diagnose(self) -> dict[str, Tensor]:
        """Rank of what is learned of the region vectors, the means, as a share of their width, their mean deviation,
        and the share of regions left out.

        The rank is `rank_about_zero`, by which checkpoints can be chosen: the loss under moving targets
        is no measure of progress. Regions that are left out have one token, and no attribute to ask for.
        """
        device = self.encoder.grid.device
        shown = {"left_out": self._left_out}
        tokens, place = (self.evaluation, None) if self.evaluation is not None else self._last or (None, None)
        if tokens is None:
            return shown
        vectors = self.encoder(_on(tokens, device), place=place).means.flatten(1).float()
        rank = rank_about_zero(vectors) / vectors.shape[1]
        return {"rank": rank, "spread": vectors.std(dim=0).mean(), **shown}


def _keywords(kind: type) -> set[str]:
    parameters = inspect.signature(kind).parameters.values()
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _targets(masks: Masks, name: str) -> Tensor:
    found = masks.targets[0 if name == "entities" else 1]
    if found is None:
        raise DataError(f"The targets of {name} are missing.")
    return found


def _chosen(full: Encoded, masks: Masks, name: str) -> Tensor:
    values, targets = full.entities if name == "entities" else full.patches, _targets(masks, name)
    if values is None:
        raise DataError(f"The vectors of {name} are missing.")
    return values[targets]


def _on(tokens: Tokens, device: torch.device) -> Tokens:
    return Tokens(**{name: torch.as_tensor(values).to(device) for name, values in tokens.arrays().items()})
