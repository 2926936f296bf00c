"""A user's table in whole batches with every column kept: the way millions of rows enter `embed`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from graticule.data.columns import MISSING, Place, geometry_point, number, place, refuse, wkb_points
from graticule.data.compressed import form, opened
from graticule.data.formats import Fields, RawTable, delimiter, open_table, parquet_batches
from graticule.errors import CoordinateError, DataError
from graticule.geo.coords import Points, lonlat

BLOCK_BYTES = 4 << 20
LEADING_ZERO = r"^[+-]?0[0-9]"
LONG_CODE = r"|^[0-9]{16,}$"  # more digits than a float64 holds
ROWS = 16384
NULLS = [spelling for word in MISSING for spelling in dict.fromkeys((word, word.upper(), word.title(), "NaN"))]


def read_points(
    path: str | Path, lon: str | None = None, lat: str | None = None
) -> Iterator[tuple[pa.RecordBatch, Points]]:
    """Stream a table as (all its columns, its (n, 2) validated lon/lat), in order, nothing dropped, one schema.

    CSV and TSV (also .gz) are read twice: a column is int64 or float64 only if all of its values are
    (codes such as "007" stay strings). JSONL and GeoJSON are read twice too, to know all their columns;
    a GeoJSON geometry becomes a column of its text.
    Raises CoordinateError with `file:row` (from 0) for the first missing or impossible coordinate,
    DataError for a damaged file or unknown columns.
    """
    file = open_table(Path(path))
    where = place(file.columns, file.geometries, lon, lat, str(path))
    if is_parquet(file.path):
        batches = parquet_batches(file.path)
    else:
        batches = _csv_batches(file) if form(file.path) in (".csv", ".tsv", ".tab") else _json_batches(file)
    yield from _located(batches, where, file.path, 0)


def is_parquet(path: Path) -> bool:
    """Whether the file's name says that it is Parquet."""
    return form(path) in (".parquet", ".geoparquet")


def parquet_points(
    path: Path,
    lon: str | None = None,
    lat: str | None = None,
    *,
    groups: Sequence[int] | None = None,
    row: int = 0,
    bare: bool = False,
) -> Iterator[tuple[pa.RecordBatch, Points]]:
    """As `read_points`, for these row groups of a Parquet file, of which the first begins with row number `row`.

    bare: no other columns than those of the coordinate are read.
    """
    file = open_table(path)
    where = place(file.columns, file.geometries, lon, lat, str(path))
    columns = [name for name in (where.lon, where.lat, where.geometry) if name] if bare else None
    yield from _located(parquet_batches(path, groups=groups, columns=columns), where, path, row)


def _located(
    batches: Iterable[pa.RecordBatch], where: Place, path: Path, row: int
) -> Iterator[tuple[pa.RecordBatch, Points]]:
    for batch in batches:
        if len(batch):
            x, y = _degrees(batch, where, path, row)
            ok = (np.abs(x) <= 360) & (np.abs(y) <= 90)  # False for NaN
            if not ok.all():
                bad = int(np.argmin(ok))
                refuse(float(x[bad]), float(y[bad]), f"{path}:{row + bad}")
            yield batch, lonlat(lon=x, lat=y)
            row += len(batch)


def table_places(path: str | Path) -> Points:
    """(n, 2) validated lon/lat of all rows of a table."""
    parts = [points for _, points in read_points(path)]
    return np.concatenate(parts) if parts else lonlat(lon=[], lat=[])


def _degrees(
    batch: pa.RecordBatch, where: Place, path: Path, row: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes and latitudes of a batch, NaN where missing."""
    if where.geometry is None:
        return _floats(batch, where.lon or "", path, row), _floats(batch, where.lat or "", path, row)
    column = batch.column(where.geometry)
    column = getattr(column, "storage", column)
    try:
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            points = wkb_points(column.to_pylist())
        else:
            points = np.array([geometry_point(json.loads(value or "null")) for value in column.to_pylist()])
    except ValueError as error:
        raise DataError(f"{path}, rows {row} to {row + len(batch) - 1}: {error}.") from error
    return points[:, 0], points[:, 1]


def _floats(batch: pa.RecordBatch, name: str, path: Path, row: int) -> NDArray[np.float64]:
    column = batch.column(name)
    try:
        return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    except pa.ArrowInvalid:
        pass
    values = np.empty(len(column))
    for i, value in enumerate(column.to_pylist()):
        try:
            values[i] = number(value)
        except ValueError as error:
            raise CoordinateError(f"{name} must be a number in degrees; {path}:{row + i} has {value!r}.") from error
    return values


def _csv_batches(file: RawTable) -> Iterator[pa.RecordBatch]:
    if len(set(file.columns)) < len(file.columns):
        raise DataError(f"{file.path} names a column twice: {', '.join(file.columns)}.")
    kinds = dict.fromkeys(file.columns, pa.int64())
    for batch in _csv_pass(file.path, dict.fromkeys(file.columns, pa.string())):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            kinds[name] = _narrowest(column, kinds[name])
    yield from _csv_pass(file.path, kinds)


def _narrowest(column: pa.Array, kind: pa.DataType) -> pa.DataType:
    """The first of `kind`, float64 and string that holds every value of a column of strings."""
    if kind == pa.string():
        return kind
    values = column.filter(pc.invert(pc.is_in(column, pa.array(NULLS))))
    for narrower, code in ((kind, LEADING_ZERO), (pa.float64(), LEADING_ZERO + LONG_CODE)):
        try:
            values.cast(narrower)
        except pa.ArrowInvalid:
            continue
        return pa.string() if pc.any(pc.match_substring_regex(values, code)).as_py() else narrower
    return pa.string()


def _csv_pass(path: Path, kinds: dict[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """One reading of a CSV file with the columns of these kinds."""
    options = {
        "read_options": pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        "parse_options": pa.csv.ParseOptions(delimiter=delimiter(path), newlines_in_values=True),
        "convert_options": pa.csv.ConvertOptions(column_types=kinds, null_values=NULLS, strings_can_be_null=False),
    }
    with opened(path) as file:
        try:
            yield from pa.csv.open_csv(file, **options)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path} is not a clean CSV file: {error}.") from error


def _json_batches(file: RawTable) -> Iterator[pa.RecordBatch]:
    try:
        schema = pa.schema([])
        for rows in _json_rows(file):
            names = dict.fromkeys(name for row in rows for name in row)
            here = pa.RecordBatch.from_pydict({name: [row.get(name) for row in rows] for name in names}).schema
            schema = pa.unify_schemas([schema, here], promote_options="permissive")
        for rows in _json_rows(file):
            yield pa.RecordBatch.from_pylist(rows, schema=schema)
    except pa.ArrowException as error:
        raise DataError(f"{file.path} has a column whose values differ in kind: {error}.") from error


def _json_rows(file: RawTable) -> Iterator[list[Fields]]:
    rows = (_decoded(file, row, raw) for row, raw in enumerate(file.raw()))
    while batch := list(islice(rows, ROWS)):
        yield batch


def _decoded(file: RawTable, row: int, raw: Any) -> Fields:
    fields = file.decode(raw)
    if isinstance(fields, str):
        raise DataError(f"{file.path}:{row} is {fields}; expected one object a row.")
    return {name: json.dumps(value) if name in file.geometries else value for name, value in fields.items()}
