"""What recipes are put together from: the learner, its phases, and the options of an objective, all by the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graticule.encoders.location import LocationEncoder
from graticule.encoders.towers import Tower
from graticule.errors import SettingError, unknown
from graticule.learners.contrastive import ContrastiveLearner
from graticule.learners.places import PlaceQueue, RandomPlaces, RingPlaces
from graticule.learners.teacher import TEACHER
from graticule.objectives.geography import Nearness
from graticule.settings import Settings, names, prefix_lengths
from graticule.training.trainer import Phase


def _not_fitted(name: str) -> float:
    raise SettingError(f"Nothing can be fitted to {name!r} here: give kilometres.")


@dataclass(frozen=True)
class Parts:
    """What a recipe puts together: encoders, how many rows each modality has, how far these resemble each other."""

    location: LocationEncoder
    towers: dict[str, Tower]
    rows: dict[str, int]
    settings: Settings
    fitted_km: Callable[[str], float] = _not_fitted  # of a modality, for soft_km and mask_km

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Lengths at which the vectors may be cut."""
        return prefix_lengths(self.settings.prefixes, self.location.dim)


def learner(parts: Parts, objective: Any, *, negatives: str = "", **options: Any) -> ContrastiveLearner:
    """The learner of an objective, with the `negatives` of the settings, or else those of the recipe."""
    settings = parts.settings
    if settings.shared and parts.prefixes:
        raise SettingError(
            f"Prefixes are of the vector that the objective compares: leave shared at 0, got {settings.shared}."
        )
    return ContrastiveLearner(
        parts.location, parts.towers, objective,
        contrast=settings.contrast, regression=settings.regression, distil=settings.distil,
        uniformity=settings.uniformity, consistency=settings.consistency, consistency_km=settings.consistency_km,
        other_places=[_other_places(name, settings) for name in names(settings.negatives or negatives)],
        prefixes=parts.prefixes, shared=settings.shared if parts.towers else 0,
        rows_at_once=settings.rows_at_once, **options,
    )  # fmt: skip


def _other_places(name: str, settings: Settings) -> RandomPlaces | RingPlaces | PlaceQueue:
    if name == "random":
        return RandomPlaces(settings.random_places)
    if name == "ring":
        return RingPlaces(settings.ring_places, settings.ring_km)
    if name == "queue":
        return PlaceQueue(settings.queue)
    raise unknown("kind of negatives", name, ("random", "ring", "queue"))


def phase(parts: Parts, *names: str, **options: Any) -> Phase:
    """Rows of these modalities, and beside them those of the teacher where one is asked for."""
    return Phase((*names, TEACHER) if parts.settings.distil else names, **options)


def temperature(parts: Parts) -> dict[str, Any]:
    """Options that every objective has."""
    return {"temperature": parts.settings.temperature, "learn_temperature": parts.settings.learn_temperature}


def softmax(parts: Parts) -> dict[str, Any]:
    """Options of an objective in which rows look for their places."""
    settings = parts.settings
    soft = _kilometres(parts, "soft_km", settings.soft_km, settings.soft_km_of)
    mask = _kilometres(parts, "mask_km", settings.mask_km, settings.mask_km_of)
    if settings.coarse and not (parts.prefixes and any(soft.values())):
        raise SettingError(
            "coarse widens the soft targets of shorter prefixes, but there are none: "
            f"got coarse={settings.coarse:g} with soft_km={settings.soft_km} and prefixes={settings.prefixes!r}."
        )
    near = Nearness(soft, mask, settings.soft_kernel, settings.coarse)
    asked = any([*soft.values(), *mask.values()])
    return {**temperature(parts), "near": near if asked else None, "prefixes": parts.prefixes}


def _kilometres(parts: Parts, key: str, common: float | str, own: Mapping[str, float | str]) -> dict[str, float]:
    """The setting `key` of every modality; "fitted" becomes how far its rows resemble each other."""
    for name in own:
        if name not in parts.towers:
            raise unknown(f"modality in {key}.NAME", name, parts.towers)
    found = {}
    for name in parts.towers:
        asked = own.get(name, common)
        if asked == "fitted":
            found[name] = parts.fitted_km(name)
        elif isinstance(asked, str | bool):
            raise SettingError(f"{key} of {name!r} must be a number of km or fitted, got {asked!r}.")
        else:
            found[name] = float(asked)
    return found


def refuse_distance(parts: Parts, recipe: str) -> None:
    """Refuse settings that the objective of a recipe does not know."""
    for key, value in (
        ("soft_km", parts.settings.soft_km or parts.settings.soft_km_of),
        ("mask_km", parts.settings.mask_km or parts.settings.mask_km_of),
        ("prefixes", parts.settings.prefixes),
    ):
        if value:
            raise SettingError(f"The recipe {recipe} has no {key}, got {value!r}; imagebind, cyclic and melt have.")


def rows_a_step(rows: Mapping[str, int], settings: Settings) -> dict[str, int]:
    """How many rows of each modality a step draws: as many of each, or as many in all, shared by how many there are."""
    if settings.balance not in ("even", "rows"):
        raise SettingError(f"balance must be even or rows, got {settings.balance!r}.")
    if settings.balance == "even":
        return dict.fromkeys(rows, settings.batch_size)
    drawn, all_rows = settings.batch_size * len(rows), max(1, sum(rows.values()))
    return {name: max(1, round(drawn * n / all_rows)) for name, n in rows.items()}
