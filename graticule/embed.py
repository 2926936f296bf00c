"""A trained run as a function: coordinates, texts or images in, vectors out; and vectors as GeoParquet.

Places need numpy alone; texts, images and features of a tower need torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.encoders.networks import Networks, StoredNetworks, in_torch
from graticule.encoders.networks import Vectors as Vectors
from graticule.errors import SettingError, unknown
from graticule.finished import about_run, origin
from graticule.geo.coords import Points, fibonacci_lattice, lonlat
from graticule.geo.geoparquet import Rows, write_geoparquet
from graticule.geo.int8 import column_scales, to_int8

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

    def __repr__(self) -> str:
        return f"Model({self.about['name']!r}, {self.about['recipe']}, {self.dim}-d, {', '.join(self.modalities)})"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.networks.dim if self.length is None else self.length

    @property
    def location(self) -> LocationEncoder:
        """The torch module that maps (n, 2) lon/lat degrees float64 to (n, d) vectors, uncut."""
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

    def embed(self, *, lon: ArrayLike, lat: ArrayLike, batch_size: int = 16_384) -> Vectors:
        """Degrees (WGS84, longitudes to 360 are wrapped) -> (n, dim) float32 vectors, in the order given."""
        return self.embed_points(lonlat(lon=lon, lat=lat), batch_size)

    def embed_points(self, points: Points, batch_size: int = 16_384) -> Vectors:
        """(n, 2) lon/lat degrees of `lonlat` -> (n, dim) float32."""
        return _in_batches(self.networks.places, points, batch_size, self.dim)

    def share(self, vectors: Vectors) -> Vectors:
        """(n, dim) vectors of places -> (n, k) in the space of texts and images, where cosines tell likeness."""
        return self.networks.share(vectors)

    def save(
        self, path: str | Path, *, lon: ArrayLike, lat: ArrayLike, int8: bool = False, **columns: Sequence[Any]
    ) -> int:
        """Embed places given as arrays and write them, with further columns, as GeoParquet; returns the rows.

        With `int8` the vectors are kept in a quarter of the space (`geo.geoparquet.table_vectors` reads them).
        """
        import pyarrow as pa

        points = lonlat(lon=lon, lat=lat)
        given = {"lon": points[:, 0], "lat": points[:, 1], **columns}
        rows = pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in given.items()})
        embed, about = _kept(self, int8)
        return write_geoparquet(Path(path), [(rows, points, embed(points))], about=about)

    def embed_features(self, modality: str, features: NDArray[Any], batch_size: int = 4096) -> Vectors:
        """(n, ...) features of the modality's trunk -> (n, k) float32 in the shared space."""
        tower = self._tower(modality)
        return _in_batches(partial(in_torch, tower), features, batch_size, self.length or tower.dim)

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


def _in_batches(network: Callable[[Any], Vectors], rows: NDArray[Any], batch_size: int, dim: int) -> Vectors:
    vectors = np.empty((len(rows), dim), dtype=np.float32)
    for start in range(0, len(rows), batch_size):
        vectors[start : start + batch_size] = network(rows[start : start + batch_size])[:, :dim]
    return vectors


def load(run: str | Path | None = None) -> Model:
    """The trained model in the folder `run`, or without one the small model that ships inside the package.

    Raises DataError when the folder holds no finished run, CacheError when its weights are damaged.
    """
    folder = INSIDE if run is None else Path(run)
    about = about_run(folder, "location", "it embeds maps, not places. Use graticule.load_map or `graticule osm`.")
    return Model(folder, about, StoredNetworks(folder, about))


def _kept(
    model: Model, int8: bool, space: str = "own"
) -> tuple[Callable[[Points], Vectors | NDArray[np.int8]], dict[str, Any]]:
    """How a file keeps the vectors of places in their own or the shared space, and what it says about them.

    The scales of int8 are those of the model on an even lattice of the Earth, so that files of one model fit together.
    """
    if space not in SPACES:
        raise unknown("space", space, SPACES)

    def vectors(points: Points) -> Vectors:
        own = model.embed_points(points)
        return model.share(own) if space == "shared" else own

    about = origin(model.about) | {"space": space}
    if not int8:
        return vectors, about
    scales = column_scales(vectors(fibonacci_lattice(LATTICE)))

    def embed(points: Points) -> NDArray[np.int8]:
        return to_int8(vectors(points), scales)

    return embed, about | {"quantization": {"type": "int8", "scale": scales.tolist()}}


def embed_table(
    model: Model, path: Path, out: Path, *, lon: str | None = None, lat: str | None = None, int8: bool = False,
    space: str = "own",
) -> int:  # fmt: skip
    """Embed every row of a table (CSV, Parquet, JSONL, GeoJSON) into a GeoParquet file, order and rows kept.

    With `int8` as in `Model.save`. `space` "shared" writes the vectors of `Model.share` instead of the places' own.
    """
    from graticule.data.tables import read_points
    from graticule.progress import Progress

    embed, about = _kept(model, int8, space)

    def batches() -> Iterator[Rows]:
        nowhere = lonlat(lon=[], lat=[])
        with Progress(f"embed {path.name}") as progress:
            for rows, points in read_points(path, lon=lon, lat=lat):
                yield rows, points, embed(points)
                progress.advance(len(points))
            if not progress.done:
                yield _no_rows(path), nowhere, embed(nowhere)

    return write_geoparquet(out, batches(), about=about)


def _no_rows(path: Path) -> Any:
    """A batch of no rows with the columns of a table that has none; of strings where only their names are known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from graticule.data.formats import open_table

    if path.suffix == ".parquet":
        return pa.RecordBatch.from_pylist([], schema=pq.read_schema(path))
    return pa.RecordBatch.from_pylist([], schema=pa.schema([(name, pa.string()) for name in open_table(path).columns]))
