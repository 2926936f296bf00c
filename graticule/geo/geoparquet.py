"""GeoParquet 1.1 files that hold vectors: their columns and metadata, and files of points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError
from graticule.files import atomic_write
from graticule.geo.coords import Points

GROUP_ROWS = 100_000  # of a row group
CORNERS = ("xmin", "ymin", "xmax", "ymax")
Vectors = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]
Rows = tuple[Any, Points, Vectors]  # a pyarrow record batch of other columns, its places and their vectors


def vector_column(vectors: Vectors) -> Any:
    """(n, d) vectors -> a pyarrow array of fixed-size lists: of int8 or float16 where they are that, else float32."""
    import pyarrow as pa

    kind = {np.dtype(np.int8): pa.int8(), np.dtype(np.float16): pa.float16()}.get(vectors.dtype, pa.float32())
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), kind), vectors.shape[1])


def vectors_of(column: Any) -> NDArray[np.float32]:
    """The inverse of `vector_column`, also for a chunked column; int8 and float16 stay, see `table_vectors`."""
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    out: NDArray[np.float32] = values.reshape(len(column), column.type.list_size)
    return out


def table_vectors(table: Any) -> NDArray[np.float32]:
    """(n, d) float32 vectors of a pyarrow table of such a file; those kept as int8 times their scales."""
    emb = json.loads(table.schema.metadata[b"emb"])
    vectors = vectors_of(table[emb["column"]])
    scales = (emb["quantization"] or {}).get("scale", 1)
    return (vectors * np.asarray(scales, dtype=np.float32)).astype(np.float32)


def box_column(bounds: NDArray[np.float64]) -> Any:
    """(n, 4) west, south, east, north in degrees -> the covering column `bbox`."""
    import pyarrow as pa

    return pa.StructArray.from_arrays([pa.array(side) for side in bounds.reshape(-1, 4).T], names=list(CORNERS))


def file_metadata(geometry_types: Sequence[str], dimensions: int, about: Mapping[str, Any]) -> dict[str, str]:
    """`geo` of a column `geometry` in WKB with the covering `bbox`, `emb` of a column `embedding` and its origin.

    `about` says where vectors come from, and of int8 ones how they are read: "quantization", with a scale a column.
    """
    covering = {corner: ["bbox", corner] for corner in CORNERS}
    geometry = {"encoding": "WKB", "geometry_types": list(geometry_types), "covering": {"bbox": covering}}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    emb = {"column": "embedding", "dimensions": dimensions, "quantization": None, **about}
    return {"geo": json.dumps(geo), "emb": json.dumps(emb)}


def write_geoparquet(path: Path, batches: Iterable[Rows], *, about: Mapping[str, Any]) -> int:
    """Write batches of (pyarrow record batch, points, vectors) as GeoParquet 1.1; returns the number of rows.

    Columns: those of the input in their order, then `geometry` (WKB points), `bbox` (covering) and
    `embedding` (fixed-size list of float32, float16 or int8); row groups of 50,000 to 150,000 rows, zstd; `geo` and
    `emb` metadata, the latter with `about`.
    """
    return write_tables(path, (geo_table(*rows, about) for rows in batches))


def write_tables(path: Path, tables: Iterable[Any]) -> int:
    """Write tables of one kind as one file, as `write_geoparquet` does; returns the number of rows."""
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        writer = None
        for group in _row_groups(tables):
            writer = writer or _writer(temporary, group.schema)
            writer.write_table(group.cast(writer.schema), row_group_size=max(len(group), 1))
            count += len(group)
        if writer is None:
            raise DataError(f"Nothing to write to {path}: the input has no rows.")
        writer.close()

    atomic_write(path, write)
    return count


def _row_groups(tables: Iterable[Any]) -> Iterator[Any]:
    """Tables joined and cut so that each has GROUP_ROWS rows, the last half to one and a half of that."""
    import pyarrow as pa

    held: list[Any] = []
    for table in tables:
        held.append(table)
        while sum(map(len, held)) >= GROUP_ROWS * 3 // 2:
            joined = pa.concat_tables(held)
            yield joined.slice(0, GROUP_ROWS)
            held = [joined.slice(GROUP_ROWS)]
    if held:
        yield pa.concat_tables(held)


def _writer(path: Path, schema: Any) -> Any:
    """A writer that looks for repeated values where there may be some: in int8 vectors, texts, whole numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    columns = pq.ParquetFile(sink.getvalue()).schema
    leaves = [columns.column(i) for i in range(len(columns))]
    repeated = [
        leaf.path
        for leaf in leaves
        if leaf.physical_type not in ("DOUBLE", "FLOAT", "FIXED_LEN_BYTE_ARRAY") and leaf.path != "geometry"
    ]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeated)


def geo_table(rows: Any, points: Points, vectors: Vectors, about: Mapping[str, Any]) -> Any:
    """One batch as the pyarrow table that is written; DataError where the input has a column that the output needs."""
    import pyarrow as pa

    refuse_columns(rows.schema.names)
    renamed = ["geometry_input" if name == "geometry" else name for name in rows.schema.names]
    box = box_column(np.hstack([points, points]))
    columns = [*rows.columns, _wkb(points), box, vector_column(vectors)]
    table = pa.table(columns, names=[*renamed, "geometry", "bbox", "embedding"])
    return table.replace_schema_metadata(file_metadata(["Point"], vectors.shape[1], about))


def refuse_columns(names: Sequence[str], *more: str) -> None:
    """DataError where an input with columns of these names has one that the output needs, `more` among them."""
    needed = {"embedding", "bbox", *more, *(["geometry_input"] if "geometry" in names else [])}
    if clash := set(names) & needed:
        raise DataError(f"The input already has a column {sorted(clash)[0]!r}, which the output needs: rename it.")


def _wkb(points: Points) -> Any:
    """Little-endian WKB of points as a pyarrow column: byte order 1, type 1, x, y."""
    import pyarrow as pa

    record = np.zeros(len(points), dtype=[("order", "u1"), ("type", "<u4"), ("x", "<f8"), ("y", "<f8")])
    record["order"], record["type"], record["x"], record["y"] = 1, 1, points[:, 0], points[:, 1]
    ends = np.arange(len(points) + 1, dtype=np.int32) * record.itemsize
    return pa.Array.from_buffers(pa.binary(), len(points), [None, pa.py_buffer(ends), pa.py_buffer(record)])
