"""Building an index: graph by graph, in bounded memory; killed at any moment it goes on after the last whole graph.

The folder of an index holds

    manifest.json        what the vectors are of, how many are in, and what the other files were when they were written
    graph-00000.usearch  a million rows as int8 in a graph of neighbours (HNSW, Malkov & Yashunin 2018), and so on
    rows.int16           all rows more finely, to compare the few that the graphs propose
    places.float64       where the rows lie, lon/lat degrees

Graphs of a million rows are built faster than one of all: memory and what a kill costs stay the same however many rows
there are. A search asks each of them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from graticule.data.vectors import VectorTable, parquet_files
from graticule.errors import CacheError, DataError, SettingError, need
from graticule.files import atomic_write, digest_json, is_as_stamped, opened_at, read_json, stamp, write_json
from graticule.geo.coords import Points
from graticule.geo.directions import coarse, fine
from graticule.progress import Progress

logger = logging.getLogger(__name__)
FORMAT = 1
MANIFEST, ROWS, PLACES = "manifest.json", "rows.int16", "places.float64"
GRAPH_ROWS = 1_000_000  # of a graph: what a kill costs at most
BATCH = 16_384
CONNECTIVITY, EXPANSION = 16, 128  # edges of a row in the graph, rows looked at to find them
Pieces = Iterator[tuple[Points, NDArray[Any]]]


@dataclass(frozen=True)
class VectorRows:
    """What an index is made of: `count` vectors of `dim` numbers with their places, read from any row on."""

    count: int
    dim: int
    batches: Callable[[int], Pieces]
    about: dict[str, Any] = field(default_factory=dict)  # in JSON types: where they come from and which model made them


def table_rows(path: str | Path) -> VectorRows:
    """The rows of a GeoParquet of vectors, or of a folder of them, as `graticule embed` writes it."""
    table = VectorTable(Path(path))
    keys = ("model", "model_hash", "space", "dimensions")
    about = {key: table.emb.get(key) for key in keys} | {"table": table_stamp(Path(path))}
    return VectorRows(len(table), table.dim, table.batches, about)


def array_rows(points: Points, vectors: NDArray[Any], **about: Any) -> VectorRows:
    """(n, 2) places of `lonlat` and their (n, d) vectors, also memory-mapped; `about` says whose they are.

    `about` may hold `model`, `model_hash` and `space`. Integers are taken as they are, the same unit in every column.
    """
    if vectors.ndim != 2 or len(points) != len(vectors):
        raise DataError(f"An index needs one vector a place: {len(points)} places, vectors {vectors.shape}.")
    state = hashlib.blake2b(digest_size=16)
    for start in range(0, len(vectors), BATCH):
        state.update(np.ascontiguousarray(points[start : start + BATCH]).tobytes())
        state.update(np.ascontiguousarray(vectors[start : start + BATCH]).tobytes())

    def batches(first: int) -> Pieces:
        for start in range(first, len(vectors), BATCH):
            yield points[start : start + BATCH], vectors[start : start + BATCH]

    return VectorRows(len(vectors), vectors.shape[1], batches, {**about, "blake2b": state.hexdigest()})


def table_stamp(path: Path) -> dict[str, Any]:
    """Where a table is and what its files are, so that a changed one is noticed."""
    return {"path": str(path.resolve()), "files": [stamp(file) for file in parquet_files(path)]}


def build_index(
    rows: VectorRows,
    out: str | Path,
    *,
    connectivity: int = CONNECTIVITY,
    expansion: int = EXPANSION,
    graph_rows: int = GRAPH_ROWS,
    threads: int = 0,
) -> Path:
    """Put all rows into an index in the folder `out`, which is returned.

    A finished index of the same rows is left alone, an unfinished one goes on. `connectivity` and `expansion` are
    those of HNSW (M, efConstruction): more of them finds more and takes longer. 0 `threads` are one a core.

    Raises SettingError for an impossible setting or a folder that holds another index, DataError for vectors that are
    not finite, CacheError for an unfinished index that is damaged.
    """
    if connectivity < 2 or expansion < 1 or graph_rows < 1:
        raise SettingError(
            "An index needs connectivity >= 2, expansion >= 1 and graph_rows >= 1, "
            f"got {connectivity}, {expansion} and {graph_rows}."
        )
    folder = Path(out)
    about = {
        "format": FORMAT, "rows": rows.count, "dim": rows.dim, "metric": "cos", "numbers": "int8",
        "connectivity": connectivity, "expansion": expansion, "graph_rows": graph_rows, "of": rows.about,
    }  # fmt: skip
    manifest = _begun(folder, about)
    if manifest["complete"]:
        return folder
    done = graph_rows * len(manifest["graphs"])
    with (
        opened_at(folder / ROWS, done * rows.dim * 2) as numbers,
        opened_at(folder / PLACES, done * 16) as places,
        Progress(f"index {folder.name}", rows.count, start=done) as progress,
    ):
        waiting: list[NDArray[np.int8]] = []
        for points, vectors in _cut(rows.batches(done), done, graph_rows):
            values = _checked(vectors, rows.dim, done)
            numbers.write(values.tobytes())
            places.write(np.ascontiguousarray(points, dtype=np.float64).tobytes())
            waiting.append(coarse(values))
            done += len(values)
            if done % graph_rows == 0 or done == rows.count:
                together = np.concatenate(waiting)
                waiting.clear()
                graph = empty_graph(rows.dim, connectivity, expansion)
                _fill(graph, together, done - len(together), threads, progress)
                _keep(folder, manifest, graph, (numbers, places))
    if done != rows.count:
        raise DataError(f"The vectors for {folder} end after {done:,} rows, {rows.count:,} were announced.")
    manifest["files"] |= {name: stamp(folder / name) for name in (ROWS, PLACES)}
    write_json(folder / MANIFEST, {**manifest, "complete": True})
    return folder


def _cut(pieces: Pieces, first: int, graph_rows: int) -> Pieces:
    """The same pieces, none of which reaches from the rows of one graph into those of the next."""
    for points, vectors in pieces:
        start = 0
        while start < len(points):
            stop = min(len(points), start + graph_rows - first % graph_rows)
            yield points[start:stop], vectors[start:stop]
            first += stop - start
            start = stop


def _fill(graph: Any, numbers: NDArray[np.int8], first: int, threads: int, progress: Progress) -> None:
    """Put the rows from number `first` on into a graph, in random order: tables often come sorted by place, and edges
    to far regions come from the time when a graph has few rows.
    """
    order = np.random.default_rng(first).permutation(len(numbers))
    for start in range(0, len(numbers), BATCH):
        chosen = order[start : start + BATCH]
        directed = chosen[numbers[chosen].any(axis=1)]  # zeros have no direction: nothing is near them
        graph.add((first + directed).astype(np.uint64), numbers[directed], threads=threads)
        progress.advance(len(chosen))


def _keep(folder: Path, manifest: dict[str, Any], graph: Any, files: tuple[BinaryIO, BinaryIO]) -> None:
    """One graph more: its file, then the manifest that names it."""
    for file in files:
        file.flush()
        os.fsync(file.fileno())
    name = f"graph-{len(manifest['graphs']):05d}.usearch"
    atomic_write(folder / name, lambda temporary: graph.save(str(temporary)))
    manifest["graphs"].append(name)
    manifest["files"][name] = stamp(folder / name)
    write_json(folder / MANIFEST, manifest)


def empty_graph(dim: int, connectivity: int, expansion: int) -> Any:
    """A usearch index of int8 by cosine, without the table of keys that only a look-up by key needs."""
    index = need("usearch.index", "index").Index
    options = {"connectivity": connectivity, "expansion_add": expansion, "enable_key_lookups": False}
    return index(ndim=dim, metric="cos", dtype="i8", **options)


def _begun(folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the folder's index of the same rows and settings, or that of a new one."""
    if not (folder / MANIFEST).exists():
        return {**about, "graphs": [], "files": {}, "complete": False}
    there: dict[str, Any] = read_json(folder / MANIFEST)
    if _identity(there) != _identity(about):
        raise SettingError(f"{folder} holds an index of other rows or settings. Choose another folder or delete it.")
    if not there["complete"]:
        refuse_damaged(folder, there)
        logger.info("%s goes on at row %s", folder, f"{len(there['graphs']) * there['graph_rows']:,}")
    return there


def refuse_damaged(folder: Path, manifest: dict[str, Any]) -> None:
    """CacheError for the first file that is not what the manifest says."""
    for name, stamped in manifest["files"].items():
        if not is_as_stamped(folder / name, stamped):
            raise CacheError(f"{folder / name} is missing or damaged. Delete {folder} and build it again.")


def _identity(manifest: dict[str, Any]) -> str:
    """What must be equal for an index to go on; a table may have moved."""
    parts = {key: manifest[key] for key in ("format", "rows", "dim", "connectivity", "expansion", "graph_rows")}
    of = dict(manifest["of"])
    if "table" in of:
        of["table"] = [file["blake2b"] for file in of["table"]["files"]]
    return digest_json({**parts, "of": of})


def _checked(vectors: NDArray[Any], dim: int, first: int) -> NDArray[np.int16]:
    if vectors.shape[1:] != (dim,):
        raise DataError(f"Expected vectors of {dim} numbers, got {vectors.shape[1:]} from row {first} on.")
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise DataError(f"Vectors must be finite, row {first + int(np.argmin(finite)):,} is not.")
    return fine(vectors)
