"""GeoParquet 1.1 files that hold vectors: their columns and metadata, and files of points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError
from graticule.files import atomic_write
from graticule.geo.coords import Points

CORNERS = ("xmin", "ymin", "xmax", "ymax")
Vectors = NDArray[np.float32] | NDArray[np.int8]
Rows = tuple[Any, Points, Vectors]  # a pyarrow record batch of other columns, its places and their vectors


def vector_column(vectors: Vectors) -> Any:
    """(n, d) vectors -> a pyarrow array of fixed-size lists: of int8 where they are int8, else of float32."""
    import pyarrow as pa

    kind = pa.int8() if vectors.dtype == np.int8 else pa.float32()
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), kind), vectors.shape[1])


def vectors_of(column: Any) -> NDArray[np.float32]:
    """The inverse of `vector_column`, also for a chunked column; int8 stays, see `table_vectors`."""
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


def write_geoparquet(path: Path, batches: Iterable[Rows], *, about: dict[str, Any]) -> int:
    """Write batches of (pyarrow record batch, points, vectors) as GeoParquet 1.1; returns the number of rows.

    Columns: those of the input in their order, then `geometry` (WKB points), `bbox` (covering) and
    `embedding` (fixed-size list of float32, or int8); row groups as the batches come; `geo` and `emb` metadata.
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
