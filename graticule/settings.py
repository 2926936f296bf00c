"""The settings of a run: one flat dataclass whose comments are the manual, and `--set key=value` on top of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from graticule.errors import SettingError, unknown


@dataclass(frozen=True)
class Settings:
    """Everything that can be set in a run; the comments are the manual. Dotted keys reach into the dictionaries."""

    steps: int = 600
    batch_size: int = 1024  # rows a modality and step
    rows_at_once: int = 0  # that encoders embed, and again in the backward pass, to save memory; 0: the whole batch
    batch_tokens: int = 8192  # geojepa: tokens a step, instead of rows
    row_tokens: int = 256  # geojepa: as many tokens of a region are drawn at most
    learning_rate: float = 1e-3
    last_learning_rate: float = 0.0  # at the last step
    weight_decay: float = 0.01
    last_weight_decay: float | None = None  # at the last step; None: it stays
    beta2: float = 0.999  # of AdamW
    warmup: float = 0.05  # share of the steps
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.0  # decay of a moving average of the weights; 0 for none
    precision: str = "auto"  # float32, bfloat16, or auto: bfloat16 on CUDA only
    fused: bool | None = None  # AdamW in one kernel; None: on CUDA only
    compile: bool = False  # torch.compile of encoders and towers: worth it for long runs
    shard: bool = False  # with several processes each holds a part of the weights (FSDP2): for large towers
    seed: int = 0
    device: str = "auto"  # cpu, cuda, or auto
    threads: int = 0  # torch's threads on the CPU; 0 leaves them alone
    log_every: int = 50
    checkpoint_every: int = 200

    modalities: str = ""  # comma-separated; empty for all in the data
    dim: int = 256  # of the vectors that come out
    shared: int = 0  # of the space shared with the towers, which a linear map leads to; 0: the vectors are in it
    location: str = "graticule"  # a preset (graticule, satclip, geoclip, csp) or a basis, several joined by +
    location_options: dict[str, Any] = field(default_factory=dict)  # location.max_degree=40, location.body=siren, ...
    cache_basis: bool = False  # keep the location basis of the rows' places on disk: pays for slow ones, as slepian
    trunks: dict[str, str] = field(default_factory=dict)  # trunk.text=ngram, trunk.photo=photo:FOLDER, ...
    train_trunks: str = ""  # image modalities whose multispectral trunk trains with the run
    head: str = "mlp"  # linear, mlp, or none: standardised features are in the shared space as they are
    head_of: dict[str, str] = field(default_factory=dict)  # head.text=none: of one modality
    dropout: float = 0.0  # in the towers' heads
    whiten: int = 96  # principal components that a tower keeps of its features; 0 for all, standardised

    temperature: float = 0.4  # fixed and high: a learned one falls until every place has a code of its own
    learn_temperature: bool = False
    symmetric: bool | None = None  # None: imagebind and cyclic yes, melt no (a row finds its place)
    contrast: float = 1.0  # weight of the contrastive loss
    regression: float = 0.0  # weight of regressing the towers' features from the location vector
    distil: float = 0.0  # weight of a teacher's vectors: all modalities in closed form, or those of the run `start`
    neighbours: dict[str, int] = field(default_factory=dict)  # neighbours.text=32: rows that speak for a place to it
    teacher_places: str = ""  # a table of places at which it speaks; without one the places of all rows
    prefixes: str = ""  # comma-separated lengths at which a vector may be cut, 16,32,64,128; the whole one always may
    uniformity: float = 0.0  # weight of spreading the vectors of a batch's places over the unit sphere
    consistency: float = 0.0  # weight of the same vector for a place and one up to consistency_km away
    consistency_km: float = 5.0

    soft_km: float | str = 0.0  # targets by distance, of this scale; fitted: the range of each modality's semivariogram
    soft_km_of: dict[str, float | str] = field(default_factory=dict)  # soft_km.text=300: of one modality
    soft_kernel: str = "gaussian"  # or exponential, or ball: everything within soft_km is a positive alike
    coarse: float = 0.0  # soft_km of the first m of n numbers is (n / m)^coarse times as wide; .5 follows the sphere
    mask_km: float | str = 0.0  # places nearer than that are no negatives; fitted: the same range
    mask_km_of: dict[str, float | str] = field(default_factory=dict)  # mask_km.text=100: of one modality
    negatives: str = ""  # places of no row: random, queue, ring; empty: geoclip a queue, csp random ones, others none
    queue: int = 4096  # places of earlier batches
    random_places: int = 1024  # random places a step, uniform by area
    ring_places: int = 1024  # places a step around random rows of the batch,
    ring_km: float = 100.0  # so far or up to twice as far away

    sampler: str = "rows"  # rows: each once an epoch; area, density: by weight; stratified: evenly over cells
    cell_km: float = 100.0  # side of the equal-area cells in which rows are counted
    debias: float = 0.5  # density: a row weighs (rows in its cell)^-debias, from 0 to 2; area is 1
    balance: str = "even"  # batch_size rows of each modality, or rows: as many in all, shared by their rows
    cycle: str = "steps"  # cyclic: what `every` counts, steps or epochs of the modality
    every: int = 20  # cyclic: length of a modality's turn
    freeze_location: bool = False  # cyclic: the second reading, position weights stand still
    start: str = ""  # folder of a run whose location encoder is taken over
    within_km: float = 1.0  # all-to-all: rows so close are one place

    jepa: dict[str, Any] = field(default_factory=dict)  # geojepa: jepa.width=384, jepa.targets=frozen-random, ...

    holdout: str = ""  # a table of places that no row may be near
    holdout_km: float = 100.0
    shuffle: bool = False  # control: permute the places among the rows of each modality


DOTTED = {
    "location": "location_options",
    "trunk": "trunks",
    "head": "head_of",
    "jepa": "jepa",
    "neighbours": "neighbours",
    "soft_km": "soft_km_of",
    "mask_km": "mask_km_of",
}
LEAST = {
    **dict.fromkeys(("batch_size", "batch_tokens", "row_tokens", "checkpoint_every", "dim", "every", "log_every"), 1),
    **dict.fromkeys(("clip", "ema", "holdout_km", "learning_rate", "steps", "warmup", "weight_decay", "within_km"), 0),
    **dict.fromkeys(
        ("contrast", "distil", "dropout", "regression", "seed", "threads", "whiten", "last_learning_rate", "beta2"), 0
    ),
    **dict.fromkeys(("uniformity", "consistency", "consistency_km", "coarse", "debias", "shared", "rows_at_once"), 0),
}
ACCEPTED: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "float | str": (int, float, str),
    "bool": (bool,),
    "bool | None": (bool, type(None)),
    "str": (str,),
}
BELOW_ONE = ("beta2", "dropout", "ema", "warmup")


def parse_settings(pairs: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Settings from keyword arguments or `--set key=value` texts; unknown keys and wrong types are refused by name."""
    settings = base or Settings()
    types = {f.name: str(f.type) for f in fields(Settings)}
    changes: dict[str, Any] = {}
    for key, value in pairs.items():
        group, _, inner = key.partition(".")
        if inner and group in DOTTED:
            name = DOTTED[group]
            changes[name] = {**changes.get(name, getattr(settings, name)), inner: literal(value)}
        elif key in DOTTED.values() and isinstance(value, Mapping):
            changes[key] = {**changes.get(key, getattr(settings, key)), **value}
        elif key not in types or key in DOTTED.values():
            raise unknown("setting", key, [*(set(types) - set(DOTTED.values())), *(f"{g}.OPTION" for g in DOTTED)])
        else:
            changes[key] = _typed(key, types[key], value)
    return replace(settings, **changes)


def literal(value: Any) -> Any:
    """A text as int, float, bool or itself; other values as they are."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(value.lower(), value)


def _typed(key: str, kind: str, value: Any) -> Any:
    value = os.fspath(value) if isinstance(value, os.PathLike) else value
    plain: Any = value if kind == "str" else literal(value)
    if not isinstance(plain, ACCEPTED[kind]) or (isinstance(plain, bool) and "bool" not in kind):
        raise SettingError(f"Setting {key!r} must be of type {kind}, got {value!r}.")
    if key in BELOW_ONE and not float(str(plain)) < 1:
        raise SettingError(f"Setting {key!r} must be below 1, got {value!r}.")
    if key in LEAST and not float(str(plain)) >= LEAST[key]:
        raise SettingError(f"Setting {key!r} must be at least {LEAST[key]}, got {value!r}.")
    return float(plain) if kind.startswith("float") and isinstance(plain, (int, float)) else plain


def names(text: str) -> list[str]:
    """The words of a comma-separated setting."""
    return [name for name in text.replace(" ", "").split(",") if name]


def prefix_lengths(text: str, dim: int) -> tuple[int, ...]:
    """The lengths of the setting `prefixes` in order, with the whole length `dim`; none of an empty text.

    Raises SettingError for what is not a whole number from 1 to `dim`.
    """
    lengths = [literal(word) for word in names(text)]
    for length in lengths:
        if not isinstance(length, int) or not 1 <= length <= dim:
            raise SettingError(
                f"A prefix must be a whole number from 1 to {dim}, the length of the vector, got {length!r}."
            )
    return tuple(sorted({*lengths, dim})) if lengths else ()
