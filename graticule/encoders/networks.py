"""The networks of a model: as they lie in a run's folder, ready to embed in numpy, or as torch modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
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

    def places(self, points: Points) -> Vectors:
        """(n, 2) lon/lat degrees of one batch -> (n, dim)."""

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

    def places(self, points: Points) -> Vectors:
        return in_torch(self.location, points)

    def share(self, vectors: Vectors) -> Vectors:
        return vectors if self.shared is None else in_torch(self.shared, vectors)


class StoredNetworks:
    """The networks of a finished run: places are embedded in numpy until someone asks for the module `location`.

    From then on by that module, wherever it was moved and whatever was done to it. CacheError when the weights are
    damaged or do not fit what run.json says.
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

    def places(self, points: Points) -> Vectors:
        made = "location" in vars(self)
        return in_torch(self.location, points) if made else self._places(points)

    def share(self, vectors: Vectors) -> Vectors:
        return vectors if self._shared is None else self._shared(vectors, Scratch())


def in_torch(module: Any, rows: NDArray[Any]) -> Vectors:
    """(n, ...) rows through a module, on its device -> (n, k) float32."""
    import torch

    device = next(chain(module.parameters(), module.buffers())).device
    with torch.inference_mode():
        vectors: Vectors = module(torch.from_numpy(np.array(rows)).to(device)).float().cpu().numpy()
    return vectors
