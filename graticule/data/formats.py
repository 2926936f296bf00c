"""Raw records of the table formats: cheap to step over, decoded into columns only when wanted."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graticule.data.columns import GEOMETRY
from graticule.data.compressed import form, opened
from graticule.errors import DataError

CELL_CHARACTERS = 1 << 27  # longest cell of a CSV file; Python's own limit cuts at 131,072
SAMPLE = 200  # records looked at for the column names of a file without a header
CHUNK = 1 << 20

Fields = dict[str, Any]


@dataclass(frozen=True)
class RawTable:
    """One file of rows.

    `raw()` streams undecoded records in order; `decode` turns one into its fields, or into a short
    reason why it cannot; `geometries` are the columns that hold WKB or GeoJSON geometries.
    """

    path: Path
    columns: tuple[str, ...]
    raw: Callable[[], Iterator[Any]]
    decode: Callable[[Any], Fields | str]
    geometries: tuple[str, ...] = ()
    length: int | None = None


def open_table(path: Path) -> RawTable:
    """Look at the head of a table file; its format follows from its ending. Raises DataError."""
    ending = form(path)
    if ending not in FORMATS:
        raise DataError(
            f"{path} is no table this library reads. Endings: {', '.join(FORMATS)}; all but .parquet also .gz."
        )
    return FORMATS[ending](path)


def _csv(path: Path) -> RawTable:
    dialect = delimiter(path)
    header = next(_csv_rows(path, dialect), None)
    if not header:
        raise DataError(f"{path} is empty: expected a header line with the names of the columns.")
    columns = tuple(header)

    def decode(row: list[str]) -> Fields | str:
        return dict(zip(columns, row, strict=True)) if len(row) == len(columns) else "ragged row"

    return RawTable(path, columns, lambda: islice(_csv_rows(path, dialect), 1, None), decode)


def delimiter(path: Path) -> str:
    """Tab for .tsv; else whichever of comma, semicolon, tab and bar is most frequent in the header."""
    if form(path) in (".tsv", ".tab"):
        return "\t"
    with opened(path) as file:
        header = file.readline(CHUNK).decode("utf-8", errors="replace")
    return max(",;\t|", key=header.count)


def _csv_rows(path: Path, dialect: str) -> Iterator[list[str]]:
    csv.field_size_limit(CELL_CHARACTERS)
    with opened(path) as file:
        reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), delimiter=dialect)
        try:
            yield from filter(None, reader)
        except csv.Error as error:
            raise DataError(f"{path}:line {reader.line_num} is not CSV: {error}.") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 after line {reader.line_num}: save it as UTF-8.") from error


def _parquet(path: Path) -> RawTable:
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}. Is it damaged?") from error

    def raw() -> Iterator[tuple[pa.RecordBatch, int]]:
        for batch in parquet_batches(path):
            yield from ((batch, row) for row in range(len(batch)))

    def decode(at: tuple[pa.RecordBatch, int]) -> Fields | str:
        batch, row = at
        return {name: column[row].as_py() for name, column in zip(schema.names, batch.columns, strict=True)}

    return RawTable(path, tuple(schema.names), raw, decode, wkb_columns(path, schema), rows)


def wkb_columns(path: Path, schema: pa.Schema) -> tuple[str, ...]:
    """The columns that hold WKB geometries in degrees. Raises DataError for a projected GeoParquet."""
    described = json.loads((schema.metadata or {}).get(b"geo", b"{}")).get("columns", {})
    stored = {field.name: getattr(field.type, "storage_type", field.type) for field in schema}
    names = [name for name, kind in stored.items() if pa.types.is_binary(kind) or pa.types.is_large_binary(kind)]
    usual = [name for name in names if name in described or name.lower() in GEOMETRY]
    for name in usual:
        crs = described.get(name, {}).get("crs") or {}
        if crs.get("type") == "ProjectedCRS":
            raise DataError(f"{path}: {name} is in {crs.get('name')}; expected degrees. Convert it to EPSG:4326.")
    return tuple(usual)


def parquet_batches(
    path: Path, rows: int = 16384, *, groups: Sequence[int] | None = None, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """All or these columns of all or these row groups, `rows` rows at a time; DataError when the file is damaged."""
    try:
        with pq.ParquetFile(path, buffer_size=CHUNK) as file:
            yield from file.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}. Is it damaged?") from error


def _jsonl(path: Path) -> RawTable:
    def raw() -> Iterator[bytes]:
        with opened(path) as file:
            yield from (line for line in file if not line.isspace())

    def decode(line: bytes) -> Fields | str:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return "not JSON"
        return _flat(value) if isinstance(value, dict) else "not a JSON object"

    return _described(path, raw, decode)


def _geojson(path: Path) -> RawTable:
    def decode(feature: Any) -> Fields | str:
        return _flat(feature) if isinstance(feature, dict) else "not a feature"

    return _described(path, lambda: _features(path), decode)


def _described(path: Path, raw: Callable[[], Iterator[Any]], decode: Callable[[Any], Fields | str]) -> RawTable:
    """A format without a header: the columns are those of its first records."""
    sample = [fields for fields in map(decode, islice(raw(), SAMPLE)) if isinstance(fields, dict)]
    if not sample:
        raise DataError(f"{path} holds no rows that can be read as {form(path)}.")
    columns = tuple(dict.fromkeys(name for fields in sample for name in fields))
    shapes = tuple(c for c in columns if c.lower() in GEOMETRY and any(isinstance(f.get(c), dict) for f in sample))
    return RawTable(path, columns, raw, decode, shapes)


def _flat(value: Fields) -> Fields:
    """A GeoJSON feature as one level of columns; anything else as it is."""
    if value.get("type") != "Feature":
        return value
    own = {"id": value["id"]} if "id" in value else {}
    properties = value.get("properties")
    return {**own, **(properties if isinstance(properties, dict) else {}), "geometry": value.get("geometry")}


def _features(path: Path) -> Iterator[Any]:
    """The members of the "features" array, one after the other, without holding the file in memory."""
    decoder, buffer, at = json.JSONDecoder(), "", 0
    with opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig")
        try:
            while not (head := re.search(r'"features"\s*:\s*\[', buffer)):
                if not (chunk := text.read(CHUNK)):
                    raise DataError(f'{path} is no GeoJSON FeatureCollection: it has no "features" array.')
                buffer += chunk
            at = head.end()
            while True:
                at += len(buffer[at : at + CHUNK]) - len(buffer[at : at + CHUNK].lstrip(", \t\r\n"))
                if buffer[at : at + 1] == "]":
                    return
                try:
                    value, at = decoder.raw_decode(buffer, at)
                except ValueError as error:
                    if not (chunk := text.read(max(CHUNK, len(buffer) - at))):
                        raise DataError(f"{path} is truncated or not JSON: {error.args[0]}.") from error
                    buffer, at = buffer[at:] + chunk, 0
                else:
                    yield value
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8: {error.reason}.") from error


FORMATS: dict[str, Callable[[Path], RawTable]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".tab": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".geojsonl": _jsonl,
    ".geojson": _geojson,
    ".json": _geojson,
    ".parquet": _parquet,
    ".geoparquet": _parquet,
}
