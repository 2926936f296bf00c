"""Rows that wait on disk: Arrow streams one after the other in one file, places in the last two columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from graticule.errors import CacheError
from graticule.geo.coords import Points

Located = tuple[pa.RecordBatch, Points]


def append(path: Path, batches: Sequence[Located]) -> None:
    """Add rows of one schema to the end of a file, which is made where it is not there."""
    joined = [_with_places(*located) for located in batches]
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with path.open("ab") as file, pa.ipc.new_stream(file, joined[0].schema, options=options) as stream:
        for batch in joined:
            stream.write_batch(batch)


def _with_places(rows: pa.RecordBatch, points: Points) -> pa.RecordBatch:
    columns = [*rows.columns, pa.array(points[:, 0]), pa.array(points[:, 1])]
    return pa.RecordBatch.from_arrays(columns, names=[*rows.schema.names, "lon", "lat"])


def read(path: Path) -> Iterator[Located]:
    """The rows of a file and their places, as they were written. Raises CacheError for a missing or damaged file."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            while file.tell() < size:
                for batch in pa.ipc.open_stream(file):
                    points = np.stack([batch.column(-2).to_numpy(), batch.column(-1).to_numpy()], axis=-1)
                    yield batch.select(list(range(batch.num_columns - 2))), points
    except (OSError, pa.ArrowException) as error:
        raise CacheError(
            f"{path} is missing or damaged ({error}). Delete {path.parent.parent} and run again."
        ) from error
