"""Files of vectors, as `graticule embed` writes them, read piece by piece and row by row, never as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graticule.data.columns import wkb_points
from graticule.errors import DataError
from graticule.geo.coords import Points, lonlat
from graticule.geo.geoparquet import table_vectors

NAMES = ("name", "title", "id")  # columns that name a row, the first that is there
ROWS = 16_384  # read at a time


def parquet_files(path: Path) -> list[Path]:
    """The files of a table: those in a folder by their names, or the one file that it is."""
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


@dataclass(frozen=True)
class VectorTable:
    """A GeoParquet of vectors, or a folder of such files of one model, as one table of numbered rows."""

    path: Path

    @cached_property
    def _files(self) -> list[pq.ParquetFile]:
        paths = parquet_files(self.path)
        if not paths:
            raise DataError(f"{self.path} holds no .parquet file: write vectors by `graticule embed`.")
        try:
            return [pq.ParquetFile(path) for path in paths]
        except pa.ArrowInvalid as error:
            raise DataError(f"{self.path} is no Parquet file of vectors: write one by `graticule embed`.") from error

    @cached_property
    def emb(self) -> dict[str, Any]:
        """What the file says about its vectors: the model, its hash, the space, the dimensions, the scales of int8."""
        found = []
        for file in self._files:
            about = (file.schema_arrow.metadata or {}).get(b"emb")
            if about is None:
                raise DataError(
                    f"{self.path} does not say which model made its vectors: write it by `graticule embed`."
                )
            found.append(json.loads(about))
        if any(about != found[0] for about in found):
            raise DataError(f"The files in {self.path} hold vectors of different models: they cannot be compared.")
        emb: dict[str, Any] = found[0]
        return emb

    def __len__(self) -> int:
        return sum(file.metadata.num_rows for file in self._files)

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self.emb["dimensions"])

    def batches(self, start: int = 0) -> Iterator[tuple[Points, NDArray[np.float32]]]:
        """The (n, 2) places and (n, dim) float32 vectors of all rows from number `start` on, in order."""
        for file in self._files:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if start >= rows:
                    start -= rows
                    continue
                for batch in file.iter_batches(ROWS, [group], ["geometry", self.emb["column"]]):
                    cut = batch.slice(min(start, len(batch)))
                    start -= len(batch) - len(cut)
                    if len(cut):
                        yield _places(cut), table_vectors(pa.Table.from_batches([cut]))

    def names(self, rows: Sequence[int]) -> list[str]:
        """What the rows with these numbers are called; only the row groups they lie in are read."""
        column = next((name for name in NAMES if name in self._files[0].schema_arrow.names), None)
        found = {row: f"row {row}" for row in rows}
        if column is None:
            return [found[row] for row in rows]
        first = 0
        for file in self._files:
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                if inside := [row for row in found if first <= row < last]:
                    values = file.read_row_group(group, columns=[column])[column]
                    found |= {row: str(values[row - first].as_py()) for row in inside}
                first = last
        return [found[row] for row in rows]


def _places(batch: pa.RecordBatch) -> Points:
    column = batch.column(batch.schema.get_field_index("geometry"))
    points = wkb_points(getattr(column, "storage", column).to_pylist())
    return lonlat(lon=points[:, 0], lat=points[:, 1], where="row of vectors")
