"""The networks of a model: as they lie in a run's folder, ready to embed in numpy, or as torch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.activations import Scratch
from graticule.encoders.numpy_bodies import dense
from graticule.encoders.numpy_location import NumpyLocation
from graticule.errors import need
from graticule.geo.coords import Points
from graticule.weights import Weights, read_weights

if TYPE_CHECKING:
    from torch.nn import Linear

    from graticule.encoders.location import LocationEncoder
    from graticule.encoders.towers import Tower

Vectors = NDArray[np.float32]
PRECISIONS = ("float32", "bfloat16")  # in which places are embedded
MANY = 100_000  # places whose embedding is worth the second in which torch is imported


class Networks(Protocol):
    """What a model embeds with. `location`, `towers` and `shared` are torch modules, made when they are first used."""

    @property
    def dim(self) -> int:
        """Length of the vector of a place."""

    @property
    def modalities(self) -> list[str]:
        """Names of the towers, sorted."""

    @property
    def location(self) -> LocationEncoder:
        """Places to vectors."""

    @property
    def towers(self) -> Mapping[str, Tower]:
        """Features of a modality to vectors of the shared space."""

    @property
    def shared(self) -> Linear | None:
        """Vectors of places to the space of the towers; None: they are in it."""

    def places(self, points: Points, *, precision: str, dim: int, batch_size: int) -> Vectors:
        """(n, 2) lon/lat degrees -> (n, dim), the first numbers of each vector."""

    def share(self, vectors: Vectors) -> Vectors:
        """(n, dim) -> (n, k) vectors of the space of the towers."""


@dataclass(frozen=True)
class TorchNetworks:
    """Modules that are there."""

    location: LocationEncoder
    towers: Mapping[str, Tower] = field(default_factory=dict)
    shared: Linear | None = None

    @property
    def dim(self) -> int:
        return int(self.location.dim)

    @property
    def modalities(self) -> list[str]:
        return sorted(self.towers)

    def places(self, points: Points, *, precision: str, dim: int, batch_size: int) -> Vectors:
        return places_in_torch(self.location, points, precision, dim, batch_size)

    def share(self, vectors: Vectors) -> Vectors:
        return vectors if self.shared is None else in_torch(self.shared, vectors)


class StoredNetworks:
    """The networks of a finished run. Places are embedded in numpy, whether torch is installed or not.

    The modules are copies: what is done to them changes nothing here (`TorchNetworks` embeds with a module). CacheError
    when the weights are damaged or do not fit what run.json says.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self._folder, self._about = folder, about
        self._arrays, _ = read_weights(folder / "model.safetensors")
        weights = Weights(folder, self._arrays)
        self._places = NumpyLocation(about["location"], weights.under("location."))
        width = about.get("shared")
        self._shared = dense(weights.under("shared."), self.dim, width) if width else None

    @property
    def dim(self) -> int:
        return self._places.dim

    @property
    def modalities(self) -> list[str]:
        return sorted(self._about["towers"])

    @cached_property
    def location(self) -> LocationEncoder:
        need("torch", "train")
        from graticule.encoders.location import location_encoder

        location: LocationEncoder = self._filled(location_encoder(**self._about["location"]), "location.")
        return location

    @cached_property
    def towers(self) -> Mapping[str, Tower]:
        need("torch", "train")
        from graticule.encoders.towers import tower

        made = {name: tower(**entry["tower"]) for name, entry in self._about["towers"].items()}
        return {name: self._filled(one, f"towers.{name}.") for name, one in made.items()}

    @cached_property
    def shared(self) -> Linear | None:
        width = self._about.get("shared")
        if not width:
            return None
        need("torch", "train")
        from torch.nn import Linear

        linear: Linear = self._filled(Linear(self.dim, width), "shared.")
        return linear

    def _filled(self, module: Any, prefix: str) -> Any:
        import torch

        from graticule.tensors import fill

        tensors = {name: torch.from_numpy(array) for name, array in self._arrays.items() if name.startswith(prefix)}
        fill(module, tensors, prefix, self._folder)
        return module.eval()

    def places(self, points: Points, *, precision: str, dim: int, batch_size: int) -> Vectors:
        if precision == "float32" and (len(points) < MANY or not find_spec("torch")):
            return self._places(points)[:, :dim]
        return places_in_torch(self.location, points, precision, dim, batch_size)

    def share(self, vectors: Vectors) -> Vectors:
        return vectors if self._shared is None else self._shared(vectors, Scratch())


def places_in_torch(location: LocationEncoder, points: Points, precision: str, dim: int, batch_size: int) -> Vectors:
    """(n, 2) lon/lat degrees through a location encoder, by all threads, or on its device -> (n, dim)."""
    import torch

    from graticule.encoders.fast import as_dtype, embed

    dtype, device = as_dtype(precision), next(location.parameters()).device.type
    if device == "cpu":
        return embed(location, points, precision=precision, dim=dim)
    with torch.autocast(device, dtype, enabled=precision != "float32"):
        return in_batches(partial(in_torch, location), points, batch_size, dim)


def in_batches(network: Callable[[Any], Vectors], rows: NDArray[Any], batch_size: int, dim: int) -> Vectors:
    """(n, ...) rows -> (n, dim), the first numbers of what a network gives, so many rows at a time."""
    vectors = np.empty((len(rows), dim), dtype=np.float32)
    for start in range(0, len(rows), batch_size):
        vectors[start : start + batch_size] = network(rows[start : start + batch_size])[:, :dim]
    return vectors


def in_torch(module: Any, rows: NDArray[Any]) -> Vectors:
    """(n, ...) rows through a module, on its device -> (n, k) float32."""
    import torch

    device = next(chain(module.parameters(), module.buffers())).device
    with torch.inference_mode():
        vectors: Vectors = module(torch.from_numpy(np.array(rows)).to(device)).float().cpu().numpy()
    return vectors
