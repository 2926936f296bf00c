"""Towers: one modality's features, cached or from a trunk that trains along, into the shared space."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from graticule.encoders.trunk import Trunk
from graticule.errors import DataError, SettingError, unknown

CHUNK = 65_536  # rows summed at once in float64
FLOOR = 1e-6  # a standard deviation below it is a constant column, which is centred but not scaled


def _factory(module: str, name: str) -> Callable[..., Trunk]:
    """A trunk's class, imported when it is first called; an unknown option is a SettingError."""

    def make(**options: Any) -> Trunk:
        kind = getattr(importlib.import_module(f"graticule.encoders.{module}"), name)
        valid = list(inspect.signature(kind).parameters)
        for option in options:
            if option not in valid:
                raise unknown(f"option of {name}", option, valid)
        return cast(Trunk, kind(**options))

    return make


TRUNKS: dict[str, Callable[..., Trunk]] = {
    "sentence": _factory("text", "SentenceTrunk"),
    "ngram": _factory("text", "NgramTrunk"),
    "statistics": _factory("image", "StatisticsTrunk"),
    "multispectral": _factory("image", "MultispectralTrunk"),
    "photo": _factory("photo", "PhotoTrunk"),
    "regions": _factory("region_vectors", "RegionVectorsTrunk"),
}


def trunk(name: str, **options: Any) -> Trunk:
    """A frozen trunk by name; `trunk(**t.config)` rebuilds the trunk `t`."""
    if name not in TRUNKS:
        raise unknown("trunk", name, TRUNKS)
    return TRUNKS[name](**options)


class Tower(nn.Module):
    """Features (n, in_dim), or raw content of a trainable `body`, -> (n, dim) vectors, not normalised.

    Cached features are first standardised, and with `whiten=k` projected on their (at most) k leading
    principal components, each divided by the square root of its standard deviation, which softens the spectrum; both
    by `fit_statistics` on the training rows. Then a head: "linear", "mlp" with one hidden GELU layer, or "none": the
    features are in the shared space as they are, and only location learns (locked tuning, Zhai 2022).
    """

    mean: Tensor
    deviation: Tensor
    components: Tensor

    def __init__(
        self,
        in_dim: int,
        dim: int = 256,
        head: str = "mlp",
        hidden: int = 512,
        dropout: float = 0.0,
        whiten: int = 0,
        body: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if whiten < 0 or (whiten and body is not None):
            raise SettingError(f"Expected whiten >= 0, and 0 for a trainable trunk, got {whiten}.")
        self.in_dim, self.dim, self.whiten = in_dim, dim, min(whiten, in_dim)
        self.config: dict[str, Any] = {"in_dim": in_dim, "dim": dim, "head": head, "hidden": hidden}
        self.config |= {"dropout": dropout, "whiten": self.whiten}
        self.body = body
        self.register_buffer("mean", torch.zeros(in_dim))
        self.register_buffer("deviation", torch.ones(in_dim))
        self.register_buffer("components", torch.eye(in_dim)[:, : self.whiten], persistent=whiten > 0)
        if head not in HEADS:
            raise unknown("head", head, HEADS)
        self.head = HEADS[head](self.whiten or in_dim, dim, hidden, dropout)

    @property
    def targets_dim(self) -> int:
        """Width of `targets`: 0 for a trainable trunk, whose features stand for nothing yet."""
        return 0 if self.body is not None else self.whiten or self.in_dim

    def fit_statistics(self, features: NDArray[Any] | Tensor) -> Tower:
        """Set mean, deviation and components from (n, in_dim) training features; a trainable trunk has none to set."""
        if self.body is None:
            mean, deviation, components = statistics(features, self.in_dim, self.whiten)
            for buffer, value in ((self.mean, mean), (self.deviation, deviation), (self.components, components)):
                buffer.copy_(torch.from_numpy(value))
        return self

    def targets(self, features: Tensor) -> Tensor:
        """(n, in_dim) cached features -> (n, targets_dim) standardised, and where asked for whitened."""
        if features.ndim != 2 or features.shape[1] != self.in_dim:
            raise DataError(f"Expected features of shape (n, {self.in_dim}), got {tuple(features.shape)}.")
        standard = (features.to(self.mean.dtype) - self.mean) / self.deviation
        return standard @ self.components if self.whiten else standard

    def forward(self, features: Tensor) -> Tensor:
        """(n, in_dim) features, or raw content for a trainable trunk, -> (n, dim)."""
        vectors: Tensor = self.head(self.targets(features) if self.body is None else self.body(features))
        return vectors


def _linear(inside: int, dim: int, hidden: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(inside, dim))


def _mlp(inside: int, dim: int, hidden: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Linear(inside, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))


def _none(inside: int, dim: int, hidden: int, dropout: float) -> nn.Module:
    if inside != dim:
        raise SettingError(
            f"A tower without a head has {inside} features, as many as the shared space must have numbers, got {dim}: "
            f"shared={inside}."
        )
    return nn.Identity()


HEADS: dict[str, Callable[[int, int, int, float], nn.Module]] = {"linear": _linear, "mlp": _mlp, "none": _none}


def tower(
    in_dim: int | None = None,
    dim: int = 256,
    head: str = "mlp",
    hidden: int = 512,
    dropout: float = 0.0,
    whiten: int = 0,
    trunk: Literal["multispectral"] | None = None,
    bands: int = 12,
) -> Tower:
    """A tower over cached features of width `in_dim`, or over raw Sentinel-2 pixels with a trunk that trains along.

    Beside a trainable trunk `in_dim`, when given, is the number of bands. `tower(**t.config)` rebuilds the tower
    `t`, to load its weights into.
    """
    if trunk is None:
        if in_dim is None:
            raise SettingError("A tower without a trainable trunk needs in_dim, the width of its cached features.")
        return Tower(in_dim, dim, head, hidden, dropout, whiten)
    if trunk != "multispectral":
        raise unknown("trainable trunk", trunk, ["multispectral"])
    from graticule.encoders.image import multispectral_network

    body = multispectral_network("small", in_dim or bands)
    built = Tower(body.dim, dim, head, hidden, dropout, whiten, body)
    built.config |= {"in_dim": None, "trunk": trunk, "bands": body.bands}
    return built


Array = NDArray[np.float64]


def statistics(features: NDArray[Any] | Tensor, in_dim: int, whiten: int) -> tuple[Array, Array, Array]:
    """Mean (d,), standard deviation (d,) and softened principal components (d, k) of (n, d) features, in float64."""
    if len(features) == 0 or tuple(features.shape) != (len(features), in_dim):
        raise DataError(f"Expected training features of shape (n, {in_dim}) with n > 0, got {tuple(features.shape)}.")
    rows = len(features)
    mean = sum((part.sum(axis=0) for part in _chunks(features)), np.zeros(in_dim)) / rows
    if not np.isfinite(mean).all():
        column = int(np.argmin(np.isfinite(mean)))
        raise DataError(f"Expected finite training features, got NaN or infinity in column {column}.")
    squares = sum((np.square(part - mean).sum(axis=0) for part in _chunks(features)), np.zeros(in_dim))
    deviation = np.sqrt(squares / rows)
    deviation = np.where(deviation < FLOOR, 1.0, deviation)
    if not whiten:
        return mean, deviation, np.zeros((in_dim, 0))
    standard = ((part - mean) / deviation for part in _chunks(features))
    covariance = sum((part.T @ part for part in standard), np.zeros((in_dim, in_dim))) / rows
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:whiten], vectors[:, ::-1][:, :whiten]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(whiten)])
    alive = values > 1e-10 * max(float(values[0]), FLOOR)
    scale = np.where(alive, np.where(alive, values, 1.0) ** -0.25, 0.0)
    return mean, deviation, vectors * signs * scale


def _chunks(features: NDArray[Any] | Tensor) -> Iterator[Array]:
    for start in range(0, len(features), CHUNK):
        part = features[start : start + CHUNK]
        yield (part.detach().cpu().double().numpy() if isinstance(part, Tensor) else part.astype(np.float64))
