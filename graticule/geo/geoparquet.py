"""Columns and metadata of GeoParquet 1.1 files that hold vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def vector_column(vectors: NDArray[np.float32]) -> Any:
    """(n, d) float32 -> a pyarrow array of fixed-size lists."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), vectors.shape[1])


def vectors_of(column: Any) -> NDArray[np.float32]:
    """The inverse of `vector_column`, also for a chunked column."""
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    out: NDArray[np.float32] = values.reshape(len(column), column.type.list_size)
    return out


def box_column(bounds: NDArray[np.float64]) -> Any:
    """(n, 4) west, south, east, north in degrees -> the covering column `bbox`."""
    import pyarrow as pa

    return pa.StructArray.from_arrays([pa.array(side) for side in bounds.reshape(-1, 4).T], names=list(CORNERS))


def file_metadata(geometry_types: Sequence[str], dimensions: int, about: Mapping[str, Any]) -> dict[str, str]:
    """`geo` of a column `geometry` in WKB with the covering `bbox`, `emb` of a column `embedding` and its origin."""
    covering = {corner: ["bbox", corner] for corner in CORNERS}
    geometry = {"encoding": "WKB", "geometry_types": list(geometry_types), "covering": {"bbox": covering}}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    emb = {"column": "embedding", "dimensions": dimensions, "quantization": None, **about}
    return {"geo": json.dumps(geo), "emb": json.dumps(emb)}
