"""A trained run as a function: coordinates, texts or images in, vectors out; and vectors as GeoParquet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.errors import DataError, SettingError, unknown
from graticule.files import atomic_write
from graticule.finished import about_run, origin
from graticule.geo.coords import Points, lonlat
from graticule.geo.geoparquet import box_column, file_metadata, vector_column

if TYPE_CHECKING:
    from graticule.encoders.location import LocationEncoder
    from graticule.encoders.towers import Tower
    from graticule.encoders.trunk import Trunk

logger = logging.getLogger(__name__)
INSIDE = Path(__file__).parent / "model"  # the released model
Vectors = NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class Model:
    """A location encoder and the towers it was tied to.

    `embed` gives the vectors that downstream models use; `embed_contents` gives texts or images in the
    same space, to be compared with places by cosine similarity.
    """

    folder: Path
    about: dict[str, Any]
    location: LocationEncoder
    towers: dict[str, Tower]

    def __repr__(self) -> str:
        return f"Model({self.about['name']!r}, {self.about['recipe']}, {self.dim}-d, {', '.join(self.modalities)})"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.location.dim)

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities that can be embedded beside places."""
        return sorted(self.towers)

    def embed(self, *, lon: ArrayLike, lat: ArrayLike, batch_size: int = 16_384) -> Vectors:
        """Degrees (WGS84, longitudes to 360 are wrapped) -> (n, dim) float32 vectors, in the order given."""
        return self.embed_points(lonlat(lon=lon, lat=lat), batch_size)

    def embed_points(self, points: Points, batch_size: int = 16_384) -> Vectors:
        """(n, 2) lon/lat degrees of `lonlat` -> (n, dim) float32."""
        return _in_batches(self.location, points, batch_size, self.dim)

    def save(self, path: str | Path, *, lon: ArrayLike, lat: ArrayLike, **columns: Sequence[Any]) -> int:
        """Embed places given as arrays and write them, with further columns, as GeoParquet; returns the rows."""
        import pyarrow as pa

        points = lonlat(lon=lon, lat=lat)
        given = {"lon": points[:, 0], "lat": points[:, 1], **columns}
        rows = pa.RecordBatch.from_pydict({name: pa.array(values) for name, values in given.items()})
        return write_geoparquet(Path(path), [(rows, points, self.embed_points(points))], about=origin(self.about))

    def embed_features(self, modality: str, features: NDArray[Any], batch_size: int = 4096) -> Vectors:
        """(n, ...) features of the modality's trunk -> (n, dim) float32."""
        return _in_batches(self._tower(modality), features, batch_size, self.dim)

    def embed_contents(self, modality: str, contents: Sequence[Any]) -> Vectors:
        """Texts, image arrays or encoded photos -> (n, dim) float32, through the modality's trunk and head."""
        trunk = self.trunk(modality)
        features = np.stack([np.asarray(c) for c in contents]) if trunk is None else trunk(contents)
        return self.embed_features(modality, features)

    def trunk(self, modality: str) -> Trunk | None:
        """The frozen trunk of a modality, made anew; None when the trunk is part of the tower."""
        from graticule.encoders.towers import trunk

        self._tower(modality)
        config = self.about["towers"][modality]["trunk"]
        return None if config is None else trunk(**config)

    def _tower(self, modality: str) -> Tower:
        if not self.towers:
            raise SettingError(
                f"{self.about['name']!r} embeds places alone, it was tied to no {modality}: train another recipe with "
                f"start={self.folder} to tie it."
            )
        if modality not in self.towers:
            raise unknown("modality of this model", modality, self.towers)
        return self.towers[modality]


def _in_batches(module: Any, rows: NDArray[Any], batch_size: int, dim: int) -> Vectors:
    import torch

    device = next(module.parameters()).device
    vectors = np.empty((len(rows), dim), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            batch = torch.from_numpy(np.array(rows[start : start + batch_size])).to(device)
            vectors[start : start + batch_size] = module(batch).float().cpu().numpy()
    return vectors


def load(run: str | Path | None = None) -> Model:
    """The trained model in the folder `run`, or without one the small model that ships inside the package.

    Raises DataError when the folder holds no finished run, CacheError when its weights are damaged.
    """
    from graticule.encoders.location import location_encoder
    from graticule.encoders.towers import tower
    from graticule.tensors import fill, load_tensors

    folder = INSIDE if run is None else Path(run)
    about = about_run(folder, "location", "it embeds maps, not places. Use graticule.load_map or `graticule osm`.")
    tensors, _ = load_tensors(folder / "model.safetensors")
    location = location_encoder(**about["location"])
    fill(location, tensors, "location.", folder)
    towers = {name: tower(**entry["tower"]) for name, entry in about["towers"].items()}
    for name, one in towers.items():
        fill(one, tensors, f"towers.{name}.", folder)
    return Model(folder, about, location.eval(), {name: one.eval() for name, one in towers.items()})


def write_geoparquet(path: Path, batches: Iterable[tuple[Any, Points, Vectors]], *, about: dict[str, Any]) -> int:
    """Write batches of (pyarrow record batch, points, vectors) as GeoParquet 1.1; returns the number of rows.

    Columns: those of the input in their order, then `geometry` (WKB points), `bbox` (covering) and
    `embedding` (fixed-size list of float32); row groups as the batches come; `geo` and `emb` metadata.
    """
    import pyarrow.parquet as pq

    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        writer = None
        for rows, points, vectors in batches:
            table = _geo_table(rows, points, vectors, about)
            writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
            writer.write_table(table.cast(writer.schema), row_group_size=100_000)
            count += len(points)
        if writer is None:
            raise DataError(f"Nothing to write to {path}: the input has no rows.")
        writer.close()

    atomic_write(path, write)
    return count


def _geo_table(rows: Any, points: Points, vectors: Vectors, about: dict[str, Any]) -> Any:
    import pyarrow as pa

    names = set(rows.schema.names)
    if clash := names & {"embedding", "bbox", *(["geometry_input"] if "geometry" in names else [])}:
        raise DataError(f"The input already has a column {sorted(clash)[0]!r}, which the output needs: rename it.")
    renamed = ["geometry_input" if name == "geometry" else name for name in rows.schema.names]
    box = box_column(np.hstack([points, points]))
    columns = [*rows.columns, pa.array(_wkb(points), pa.binary()), box, vector_column(vectors)]
    table = pa.table(columns, names=[*renamed, "geometry", "bbox", "embedding"])
    return table.replace_schema_metadata(file_metadata(["Point"], vectors.shape[1], about))


def _wkb(points: Points) -> list[bytes]:
    """Little-endian WKB of points: byte order 1, type 1, x, y."""
    record = np.zeros(len(points), dtype=[("order", "u1"), ("type", "<u4"), ("x", "<f8"), ("y", "<f8")])
    record["order"], record["type"], record["x"], record["y"] = 1, 1, points[:, 0], points[:, 1]
    raw = record.tobytes()
    return [raw[i : i + 21] for i in range(0, len(raw), 21)]


def embed_table(model: Model, path: Path, out: Path, *, lon: str | None = None, lat: str | None = None) -> int:
    """Embed every row of a table (CSV, Parquet, JSONL, GeoJSON) into a GeoParquet file, order and rows kept."""
    from graticule.data.tables import read_points
    from graticule.progress import Progress

    def batches() -> Iterator[tuple[Any, Points, Vectors]]:
        with Progress(f"embed {path.name}") as progress:
            for rows, points in read_points(path, lon=lon, lat=lat):
                yield rows, points, model.embed_points(points)
                progress.advance(len(points))
            if not progress.done:
                yield _no_rows(path), lonlat(lon=[], lat=[]), np.empty((0, model.dim), dtype=np.float32)

    return write_geoparquet(out, batches(), about=origin(model.about))


def _no_rows(path: Path) -> Any:
    """A batch of no rows with the columns of a table that has none; of strings where only their names are known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from graticule.data.formats import open_table

    if path.suffix == ".parquet":
        return pa.RecordBatch.from_pylist([], schema=pq.read_schema(path))
    return pa.RecordBatch.from_pylist([], schema=pa.schema([(name, pa.string()) for name in open_table(path).columns]))
