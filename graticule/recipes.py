"""Named runs. The architectures differ HERE: an objective and a list of phases, on the same data and encoders.

imagebind   one symmetric InfoNCE a modality against location, all modalities every step
cyclic      the modalities take turns; location trains throughout, or stays frozen
melt        all pairs of all modalities in one softmax
distil      no contrast: the location encoder learns the teacher's vectors, all modalities in closed form
all-to-all  every two of {location, modalities}, for rows that are co-located
satclip, geoclip, csp   the binary baselines: one modality, their encoder, loss and negatives
geojepa, geojepa-paper  prediction in latent space over regions of maps, without negatives: the default, and the
                        settings of the paper (arXiv 2503.05774) with its masks repaired
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from graticule.errors import SettingError, unknown
from graticule.learners.contrastive import ContrastiveLearner
from graticule.learners.jepa import GEOJEPA, GEOJEPA_PAPER
from graticule.objectives.contrastive import AllToAllInfoNCE, CspLoss, MultiPairNTXent, PairwiseInfoNCE
from graticule.parts import Parts, learner, phase, refuse_distance, rows_a_step, softmax, temperature
from graticule.settings import Settings
from graticule.training.trainer import Phase

Recipe = Callable[[Parts], tuple[ContrastiveLearner, list[Phase]]]


def imagebind(parts: Parts) -> tuple[ContrastiveLearner, list[Phase]]:
    """Adapted ImageBind: every modality, every step, each bound to location by its own InfoNCE.

    `graticule train imagebind DATA --to RUN`
    """
    objective = PairwiseInfoNCE(list(parts.towers), symmetric=parts.settings.symmetric, **softmax(parts))
    return learner(parts, objective), [phase(parts, *parts.towers)]


def cyclic(parts: Parts) -> tuple[ContrastiveLearner, list[Phase]]:
    """Cyclic training: one modality at a time, by turns of `every` steps or epochs; location is the fixed point.

    `freeze_location=true` is the second reading: the position weights stand still, at their random
    initialisation or as another run (`start=RUN`) left them, and only the towers move.

    `graticule train cyclic DATA --to RUN --set every=20`
    """
    settings = parts.settings
    if settings.cycle not in ("steps", "epochs") or settings.every < 1:
        raise SettingError(
            f"cycle must be steps or epochs and every at least 1, got {settings.cycle!r}, {settings.every}."
        )

    drawn = rows_a_step(parts.rows, settings)

    def length(name: str) -> int:
        epoch = max(1, parts.rows[name] // drawn[name])
        return settings.every * (epoch if settings.cycle == "epochs" else 1)

    frozen = (r"location\.",) if settings.freeze_location else ()
    objective = PairwiseInfoNCE(list(parts.towers), symmetric=settings.symmetric, **softmax(parts))
    return learner(parts, objective), [phase(parts, name, steps=length(name), frozen=frozen) for name in parts.towers]


def melt(parts: Parts) -> tuple[ContrastiveLearner, list[Phase]]:
    """Modified NT-Xent: every modality, every step, the pairs of all modalities in one softmax.

    `graticule train melt DATA --to RUN`
    """
    objective = MultiPairNTXent(list(parts.towers), symmetric=parts.settings.symmetric, **softmax(parts))
    return learner(parts, objective), [phase(parts, *parts.towers)]


def distil(parts: Parts) -> tuple[ContrastiveLearner, list[Phase]]:
    """Distillation alone: all modalities of the data in one closed-form vector a place, which location learns.

    Then its vectors get the teacher's spectrum back. The finished run has no towers; another recipe goes on from it
    with `start=RUN`.

    `graticule train distil DATA --to RUN --set neighbours.text=32`
    """
    if not parts.settings.distil:
        raise SettingError("The recipe distil needs a weight of the teacher above 0, got distil=0.")
    return learner(replace(parts, towers={}), PairwiseInfoNCE([])), [phase(parts)]


def all_to_all(parts: Parts) -> tuple[ContrastiveLearner, list[Phase]]:
    """All-to-all InfoNCE over location and modalities, for rows that share their place (within `within_km`).

    `graticule train all-to-all DATA --to RUN --set within_km=1`
    """
    if parts.settings.distil:
        raise SettingError(
            "The recipe all-to-all draws rows of one place together and has no teacher: leave distil at 0."
        )
    refuse_distance(parts, "all-to-all")
    if parts.settings.negatives or parts.settings.balance != "even":
        raise SettingError(
            "The recipe all-to-all draws rows of one place together: it has no other negatives, and balance is even."
        )
    objective = AllToAllInfoNCE(list(parts.towers), **temperature(parts))
    return learner(parts, objective), [Phase(tuple(parts.towers), paired=True)]


def satclip(parts: Parts) -> tuple[ContrastiveLearner, list[Phase]]:
    """SatCLIP (Klemmer 2023): harmonics and SIREN, symmetric InfoNCE, one image modality.

    `graticule train satclip DATA --to RUN --set modalities=image`
    """
    objective = PairwiseInfoNCE(_one(parts), **softmax(parts))
    return learner(parts, objective), [phase(parts, *parts.towers)]


def geoclip(parts: Parts) -> tuple[ContrastiveLearner, list[Phase]]:
    """GeoCLIP (Vivanco Cepeda 2023): Equal Earth Fourier features, image finds place, a queue of earlier places.

    `graticule train geoclip DATA --to RUN --set modalities=image`
    """
    objective = PairwiseInfoNCE(_one(parts), symmetric=False, **softmax(parts))
    return learner(parts, objective, negatives="queue"), [phase(parts, *parts.towers)]


def csp(parts: Parts) -> tuple[ContrastiveLearner, list[Phase]]:
    """CSP (Mai 2023): in-batch, random-place and dropout-view negatives, one image modality.

    `graticule train csp DATA --to RUN --set modalities=image`
    """
    refuse_distance(parts, "csp")
    objective = CspLoss(_one(parts), **temperature(parts))
    return learner(parts, objective, negatives="random", second_view=True), [phase(parts, *parts.towers)]


def _one(parts: Parts) -> list[str]:
    if len(parts.towers) != 1:
        names = ", ".join(parts.towers)
        raise SettingError(
            f"A binary recipe ties one modality to location, got {names}: choose by --set modalities=NAME."
        )
    return list(parts.towers)


RECIPES: dict[str, Recipe] = {
    "imagebind": imagebind,
    "cyclic": cyclic,
    "melt": melt,
    "distil": distil,
    "all-to-all": all_to_all,
    "satclip": satclip,
    "geoclip": geoclip,
    "csp": csp,
}
JEPA_RECIPES: dict[str, dict[str, Any]] = {  # options of JepaLearner, and of the tokens that it learns from
    "geojepa": {"tag_dim": 128, "frequent": 500, **GEOJEPA},
    "geojepa-paper": GEOJEPA_PAPER,
}
AS_PUBLISHED: dict[str, Any] = {"temperature": 0.07, "learn_temperature": True}
DEFAULTS: dict[str, Settings] = {
    "distil": Settings(distil=1.0),
    "satclip": Settings(location="satclip", **AS_PUBLISHED),
    "geoclip": Settings(location="geoclip", batch_size=256, queue=1024, **AS_PUBLISHED),
    "csp": Settings(location="csp", location_options={"dropout": 0.5}, **AS_PUBLISHED),
    "geojepa": Settings(steps=150, row_tokens=128, weight_decay=0.05, beta2=0.95, clip=10.0, warmup=0.1),
    "geojepa-paper": Settings(
        steps=100_000, batch_tokens=48 * 9 * 64, row_tokens=1250, learning_rate=1e-3, last_learning_rate=1e-6,
        warmup=0.1, weight_decay=0.05, last_weight_decay=0.1, beta2=0.95, clip=10.0,
    ),
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """A recipe by its name; unknown names are answered with the nearest valid ones."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
