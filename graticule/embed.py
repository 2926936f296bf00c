"""A trained run as a function: coordinates, texts or images in, vectors out.

Places need numpy alone; texts, images and features of a tower need torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.encoders.networks import PRECISIONS, Networks, StoredNetworks, in_batches, in_torch
from graticule.encoders.networks import Vectors as Vectors
from graticule.errors import SettingError, need, unknown
from graticule.finished import about_run, origin
from graticule.geo.coords import Points, fibonacci_lattice, lonlat
from graticule.geo.geoparquet import write_geoparquet
from graticule.geo.grid import Axes
from graticule.geo.int8 import NUMBERS, column_scales, stored

if TYPE_CHECKING:
    from torch.nn import Linear

    from graticule.encoders.location import LocationEncoder
    from graticule.encoders.towers import Tower
    from graticule.encoders.trunk import Trunk

logger = logging.getLogger(__name__)
INSIDE = Path(__file__).parent / "model"  # the released model
SPACES = ("own", "shared")  # of the vectors of places
LATTICE = 16_384  # places, some 180 km apart


@dataclass(frozen=True, repr=False)
class Model:
    """A location encoder and the towers it was tied to: torch modules, made when they are first used.

    `embed` gives the vectors that downstream models use; `embed_contents` gives texts or images, and `share` such
    vectors, in the space in which places and contents are compared by cosine similarity. `length`, where
    not None, cuts all vectors, as `prefix` does.
    """

    folder: Path
    about: dict[str, Any]
    networks: Networks
    length: int | None = None
    precision: str = "float32"

    def __repr__(self) -> str:
        return f"Model({self.about['name']!r}, {self.about['recipe']}, {self.dim}-d, {', '.join(self.modalities)})"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.networks.dim if self.length is None else self.length

    @property
    def location(self) -> LocationEncoder:
        """The torch module that maps (n, 2) lon/lat degrees float64 to (n, d) vectors, uncut; of a run, a copy."""
        return self.networks.location

    @property
    def towers(self) -> Mapping[str, Tower]:
        """The torch modules of the modalities, by name."""
        return self.networks.towers

    @property
    def shared(self) -> Linear | None:
        """The torch module that maps vectors of places to the space of the towers; None: they are in it."""
        return self.networks.shared

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities that can be embedded beside places."""
        return self.networks.modalities

    def prefix(self, dim: int) -> Model:
        """The same model with vectors of the first `dim` numbers, named "NAME[:dim]".

        SettingError for a length that the run was not trained for (its setting `prefixes`): the first numbers of other
        vectors are no summary of them.
        """
        if dim == self.dim:
            return self
        name = self.about["name"].removesuffix(f"[:{self.dim}]")
        trained = [length for length in self.about.get("prefixes", []) if length < self.dim]
        if dim not in trained:
            known = f"to be cut to {', '.join(map(str, trained))}" if trained else "not to be cut"
            raise SettingError(
                f"The {self.dim} numbers of {name!r} were trained {known}, got dim={dim}. "
                "The setting prefixes of `train` names the lengths."
            )
        return replace(self, about={**self.about, "name": f"{name}[:{dim}]"}, length=dim)

    def in_precision(self, precision: str) -> Model:
        """The same model that computes in "float32" or in "bfloat16".

        bfloat16 is several times as fast where the processor multiplies it, and rounded: the cosine to the float32
        vector is at least .9999 for the model inside, .9998 through sixteen sine layers. It needs
        torch. SettingError for another precision.
        """
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        return replace(self, precision=precision)

    def embed(self, *, lon: ArrayLike, lat: ArrayLike, batch_size: int = 16_384) -> Vectors:
        """Degrees (WGS84, longitudes to 360 are wrapped) -> (n, dim) float32 vectors, in the order given.

        A large raster given row after row (a flattened meshgrid) is faster than scattered places where torch is
        installed; the vectors are the same to rounding,
        1e-5 of their largest number to degree 40.
        """
        return self.embed_points(lonlat(lon=lon, lat=lat), batch_size)

    def embed_points(self, points: Points, batch_size: int = 16_384) -> Vectors:
        """(n, 2) lon/lat degrees of `lonlat` -> (n, dim) float32, as `embed`; `batch_size` is for accelerators."""
        return self.networks.places(points, precision=self.precision, dim=self.dim, batch_size=batch_size)

    def embed_grid(self, *, lon: ArrayLike, lat: ArrayLike) -> Iterator[Vectors]:
        """A raster, from degrees of columns and of rows: bands of (rows, columns, dim) float32, the first row first.

        A few bands are in memory at once, however many rows there are. Vectors are those of `embed`; needs torch.
        """
        need("torch", "train")
        from graticule.encoders.fast import embed_grid

        columns = lonlat(lon=lon, lat=np.zeros(np.size(lon)), where="column")
        rows = lonlat(lon=np.zeros(np.size(lat)), lat=lat)
        axes = Axes(columns[:, 0], rows[:, 1])
        return embed_grid(self.location, axes, precision=self.precision, dim=self.dim)

    def share(self, vectors: Vectors) -> Vectors:
        """(n, dim) vectors of places -> (n, k) in the space of texts and images, where cosines tell likeness."""
        return self.networks.share(vectors)

    def save(
        self,
        path: str | Path,
        *,
        lon: ArrayLike,
        lat: ArrayLike,
        int8: bool = False,
        **columns: Sequence[Any],
    ) -> int:
        """Embed places given as arrays and write them, with further columns, as GeoParquet; returns the rows.

        With `int8` the vectors are kept in a quarter of the space (`geo.geoparquet.table_vectors` reads them).
        """
        import pyarrow as pa

        points = lonlat(lon=lon, lat=lat)
        given = {"lon": points[:, 0], "lat": points[:, 1], **columns}
        rows = pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in given.items()})
        kept = quantization(self, "int8" if int8 else "float32")
        vectors = stored(self.embed_points(points), kept)
        return write_geoparquet(
            Path(path), [(rows, points, vectors)], about=origin(self.about) | {"space": "own", "quantization": kept}
        )

    def embed_features(self, modality: str, features: NDArray[Any], batch_size: int = 4096) -> Vectors:
        """(n, ...) features of the modality's trunk -> (n, k) float32 in the shared space."""
        tower = self._tower(modality)
        return in_batches(partial(in_torch, tower), features, batch_size, self.length or tower.dim)

    def embed_contents(self, modality: str, contents: Sequence[Any]) -> Vectors:
        """Texts, image arrays or encoded photos -> (n, k) float32 in the shared space, by trunk and head."""
        trunk = self.trunk(modality)
        features = np.stack([np.asarray(c) for c in contents]) if trunk is None else trunk(contents)
        return self.embed_features(modality, features)

    def trunk(self, modality: str) -> Trunk | None:
        """The frozen trunk of a modality, made anew; None when the trunk is part of the tower."""
        self._tower(modality)
        from graticule.encoders.towers import trunk

        config = self.about["towers"][modality]["trunk"]
        return None if config is None else trunk(**config)

    def _tower(self, modality: str) -> Tower:
        if not self.modalities:
            raise SettingError(
                f"{self.about['name']!r} embeds places alone, it was tied to no {modality}: train another recipe with "
                f"start={self.folder} to tie it."
            )
        if modality not in self.modalities:
            raise unknown("modality of this model", modality, self.modalities)
        return self.towers[modality]


def load(run: str | Path | None = None) -> Model:
    """The trained model in the folder `run`, or without one the small model that ships inside the package.

    Raises DataError when the folder holds no finished run, CacheError when its weights are damaged.
    """
    folder = INSIDE if run is None else Path(run)
    about = about_run(folder, "location", "it embeds maps, not places. Use graticule.load_map or `graticule osm`.")
    return Model(folder, about, StoredNetworks(folder, about))


def place_vectors(model: Model, points: Points, space: str) -> Vectors:
    """(n, 2) lon/lat degrees -> the vectors of places in their own space, or in that shared with texts and pictures.

    SettingError for what is not one of SPACES, and for the shared space of vectors that were cut.
    """
    if space not in SPACES:
        raise unknown("space", space, SPACES)
    if space == "own":
        return model.embed_points(points)
    if model.length is not None:
        raise SettingError(f"{model.about['name']!r} has no shared space: whole vectors lead to it, these are cut.")
    return model.share(model.embed_points(points))


def quantization(model: Model, numbers: str, space: str = "own") -> dict[str, Any] | None:
    """What a file that keeps vectors as `numbers` says of them, and `geo.int8.stored` makes of them.

    The scales of int8 are those of the model on an even lattice of the Earth, so that files of one model fit together.
    SettingError for what is not one of NUMBERS.
    """
    if numbers not in NUMBERS:
        raise unknown("kind of numbers", numbers, NUMBERS)
    if numbers != "int8":
        return None if numbers == "float32" else {"type": numbers}
    return {"type": "int8", "scale": column_scales(place_vectors(model, fibonacci_lattice(LATTICE), space)).tolist()}
