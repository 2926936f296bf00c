"""Entities put together from their parts in several regions: one row an entity."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import need
from graticule.geo.antimeridian import moved
from graticule.geo.geoparquet import vector_column, vectors_of
from graticule.geo.region import Region

if TYPE_CHECKING:
    from graticule.embed_map.model import Vectors

BUCKETS = 64  # files that parts wait in; one of them at a time is read into memory
BUFFER = 20_000  # parts held before they go to their files
LEAST_SHARE = 1e-12  # so that an entity whose shares are all 0 still has a mean
Part = tuple[str, Region, "Vectors"]  # region id, region, (entities, width)


def parts_table(parts: Sequence[Part], width: int) -> Any:
    """One row for every entity of every region, a pyarrow table: id, tags, geometry, region, share, embedding."""
    import pyarrow as pa

    regions = [region for _, region, _ in parts]
    tags = [list(one.items()) for region in regions for one in region.tags]
    vectors = np.concatenate([np.zeros((0, width), np.float32), *(v for _, _, v in parts)])
    return pa.table(
        {
            "id": pa.array([i for region in regions for i in region.ids], pa.string()),
            "tags": pa.array(tags, pa.map_(pa.string(), pa.string())),
            "geometry": pa.array([g for region in regions for g in region.geometries], pa.binary()),
            "region": pa.array([name for name, region, _ in parts for _ in region.ids], pa.string()),
            "share": pa.array([s for region in regions for s in region.shares], pa.float64()),
            "embedding": vector_column(vectors),
        }
    )


def whole_entities(parts: Any) -> Any:
    """A table of `parts_table` -> one row an entity, nodes before ways before relations, by number.

    Columns: id, kind, tags, geometry (WKB, the union of the parts), regions and shares (lists, in order of
    arrival), embedding (mean of the parts' vectors, weighted by their shares).
    """
    import pyarrow as pa

    ids = np.array(parts["id"].to_pylist(), dtype=object)
    order = np.array(sorted(range(len(ids)), key=lambda i: by_number(str(ids[i]))), dtype=np.int64)
    start = np.flatnonzero(np.concatenate([[True], ids[order][1:] != ids[order][:-1]])[: len(ids)])
    first = order[start]
    shares = parts["share"].to_numpy()[order]
    offsets = pa.array(np.concatenate([start, [len(ids)]]), pa.int32())
    geometry = np.array(parts["geometry"].to_pylist(), dtype=object)
    return pa.table(
        {
            "id": pa.array(ids[first], pa.string()),
            "kind": pa.array([str(i).partition("/")[0] for i in ids[first]], pa.string()),
            "tags": parts["tags"].take(pa.array(first)).combine_chunks(),
            "geometry": pa.array(_united(geometry[order], start), pa.binary()),
            "regions": pa.ListArray.from_arrays(offsets, parts["region"].take(pa.array(order)).combine_chunks()),
            "shares": pa.ListArray.from_arrays(offsets, pa.array(shares)),
            "embedding": vector_column(_means(vectors_of(parts["embedding"])[order], shares, start)),
        }
    )


def by_number(identity: str) -> tuple[int, str, int, str]:
    """Sorts "node/9" before "node/10" before "way/1" before "relation/1"."""
    kind, _, number = identity.partition("/")
    known = ("node", "way", "relation")
    return known.index(kind) if kind in known else len(known), kind, len(number), number


def _means(vectors: NDArray[np.float32], shares: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.float32]:
    if not len(start):
        return vectors
    weights = shares + LEAST_SHARE
    sums = np.add.reduceat(vectors * weights[:, None], start, axis=0)
    means: NDArray[np.float32] = (sums / np.add.reduceat(weights, start)[:, None]).astype(np.float32)
    return means


def _united(geometry: NDArray[np.object_], start: NDArray[np.int64]) -> list[bytes]:
    """The union of each run of WKB parts; a part that is alone stays as it is."""
    shapely = need("shapely", "osm")
    parts = wrapped(geometry)
    out = [parts[i] for i in start]
    counts = np.diff(np.concatenate([start, [len(parts)]]))
    for i in np.flatnonzero(counts > 1):
        out[i] = shapely.to_wkb(_union(shapely.from_wkb(parts[start[i] : start[i] + counts[i]])))
    return out


def _union(shapes: NDArray[np.object_]) -> Any:
    shapely = need("shapely", "osm")
    try:
        union = shapely.union_all(shapes)
    except shapely.errors.GEOSException:
        union = shapely.union_all(shapely.make_valid(shapes))
    return shapely.line_merge(union) if shapely.get_dimensions(union) == 1 else union


def wrapped(geometry: Sequence[bytes] | NDArray[np.object_]) -> list[bytes]:
    """WKB whose longitudes run on past 180 -> within [-180, 180], cut at the antimeridian; others stay as they are."""
    shapely = need("shapely", "osm")
    out = list(geometry)
    shapes = shapely.from_wkb(out)
    for i in np.flatnonzero(shapely.bounds(shapes)[:, 2] > 180):
        west = shapely.intersection(shapes[i], shapely.box(-180, -90, 180, 90))
        east = moved(np.array([shapely.intersection(shapes[i], shapely.box(180, -90, 540, 90))]), -360.0)[0]
        of_its_kind = [s for s in (west, east) if shapely.get_dimensions(s) == shapely.get_dimensions(shapes[i])]
        out[i] = shapely.to_wkb(shapely.union_all(of_its_kind))
    return out


class Parts:
    """Parts of entities waiting on disk, spread by entity over files, to be put together file by file."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        self.waiting: list[Part] = []
        self.rows = 0
        self.writers: dict[int, Any] = {}

    def add(self, parts: Iterable[Part]) -> None:
        """Keep the entities of some regions."""
        for part in parts:
            self.waiting.append(part)
            self.rows += len(part[1])
        if self.rows >= BUFFER:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        table = parts_table(self.waiting, self.width)
        bucket = np.array([zlib.crc32(str(i).encode()) % BUCKETS for i in table["id"].to_pylist()], dtype=np.int64)
        for number in np.unique(bucket).tolist():
            if number not in self.writers:
                self.writers[number] = pa.ipc.new_stream(self._path(number), table.schema)
            self.writers[number].write_table(table.take(pa.array(np.flatnonzero(bucket == number))))
        self.waiting, self.rows = [], 0

    def _path(self, number: int) -> Path:
        return self.folder / f"parts-{number:02d}.arrow"

    def entities(self) -> Iterator[Any]:
        """Tables of `whole_entities`: every entity once; nothing can be added afterwards."""
        import pyarrow as pa

        self._flush()
        for writer in self.writers.values():
            writer.close()
        for number in sorted(self.writers):
            with pa.ipc.open_stream(self._path(number)) as stream:
                yield whole_entities(stream.read_all())
            self._path(number).unlink()
