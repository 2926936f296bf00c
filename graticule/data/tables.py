"""Tables of places: CSV, TSV, JSONL, Parquet and GeoJSON, one file or several as one source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from graticule.data.batches import read_points
from graticule.data.columns import ID, TEXT, Place, geometry_point, guess, number, place, possible, refuse, wrapped
from graticule.data.compressed import stem
from graticule.data.formats import RawTable, open_table
from graticule.data.source import Row, Skip, Source
from graticule.errors import DataError

__all__ = ["located", "read_points", "table"]

HEADINGS = ("title", "name")


@dataclass(frozen=True)
class Columns:
    """What is taken from one file: where a row stands, what names it and its text columns, in order."""

    place: Place
    id: str | None
    text: tuple[str, ...]
    prefix: str = ""

    @property
    def body(self) -> set[str]:
        """The text columns that are more than a heading."""
        return {name for name in self.text if name.strip().lower() not in HEADINGS}


def table(
    path: str | Path | Sequence[str | Path],
    *,
    text: str | Sequence[str] | None = None,
    lon: str | None = None,
    lat: str | None = None,
    id: str | None = None,
    licence: str = "unknown",
) -> Source:
    """The rows of one table, or of several chained into one source: CSV, TSV, JSONL (all also .gz), Parquet, GeoJSON.

    text: one column, or several joined by ". " (those that a file lacks are left out); by default the first
    of text, description, byline, abstract, name, title; a table that has none of them gives kind "point".
    lon, lat, id: by default columns with the usual names, or a geometry (GeoJSON, WKB) whose point is taken;
    without an id the number of the row, from 0. Ids of chained files are prefixed by the file's name.

    A row without coordinates or text is skipped (where other columns were asked for, a title or name alone is
    no text); an impossible coordinate is a CoordinateError, because then
    the whole file is suspicious. Raises DataError for a damaged file, and with the columns that are there
    when the asked or guessed ones are not.
    """
    paths = [Path(p) for p in ([path] if isinstance(path, str | Path) else path)]
    if not paths:
        raise DataError("A table needs at least one file, got an empty list.")
    wanted = [text] if isinstance(text, str) else None if text is None else list(text)
    files = [open_table(p) for p in paths]
    prefixes = _prefixes(paths)
    columns = [_columns(file, wanted, lon, lat, id, prefix) for file, prefix in zip(files, prefixes, strict=True)]
    worded = [bool(c.text) for c in columns]
    if any(worded) and not all(worded):
        bare = files[worded.index(False)]
        raise DataError(f"{bare.path} has no text column but other files have one. Say which: text=NAME.")
    for name in wanted or ():
        if all(name not in c.text for c in columns):
            raise DataError(
                f"No file has the text column {name!r}. Columns of {paths[0]}: {', '.join(files[0].columns)}."
            )
    chain = list(zip(files, columns, strict=True))

    def records(start: int) -> Iterator[Row | Skip]:
        raws = ((file, taken, row, raw) for file, taken in chain for row, raw in enumerate(file.raw()))
        return (_record(*raw) for raw in islice(raws, start, None))

    about = {"reader": "table", "files": [p.name for p in paths], "text": wanted, "lon": lon, "lat": lat, "id": id}
    lengths = [file.length for file in files]
    total = None if None in lengths else sum(n for n in lengths if n is not None)
    return Source("text" if any(worded) else "point", records, about, tuple(paths), licence, total)


def _prefixes(paths: list[Path]) -> list[str]:
    if len(paths) == 1:
        return [""]
    stems = Counter(map(stem, paths))
    return [f"{stem(p)}:" if stems[stem(p)] == 1 else f"{stem(p)}.{i}:" for i, p in enumerate(paths)]


def _columns(
    file: RawTable, text: list[str] | None, lon: str | None, lat: str | None, id: str | None, prefix: str
) -> Columns:
    where = place(file.columns, file.geometries, lon, lat, str(file.path))
    if id is not None and id not in file.columns:
        raise DataError(f"{file.path} has no column {id!r}. Its columns: {', '.join(file.columns)}.")
    if text is None:
        guessed = guess([c for c in file.columns if c not in (where.lon, where.lat, where.geometry)], TEXT)
        chosen: tuple[str, ...] = (guessed,) if guessed else ()
    else:
        chosen = tuple(name for name in text if name in file.columns)
        if not chosen:
            raise DataError(f"{file.path} has no column {' or '.join(text)}. Its columns: {', '.join(file.columns)}.")
    return Columns(where, id or guess(file.columns, ID), chosen, prefix)


def located(fields: dict[str, Any], where: Place, at: str) -> tuple[float, float] | Skip:
    """The (lon, lat) of one row, longitude wrapped, or why it has none; CoordinateError for impossible degrees."""
    try:
        if where.geometry is not None:
            lon, lat = geometry_point(fields.get(where.geometry))
        else:
            lon, lat = number(fields.get(where.lon or "")), number(fields.get(where.lat or ""))
    except ValueError:
        return Skip("coordinates are not numbers", at)
    if math.isnan(lon) or math.isnan(lat):
        return Skip("no coordinates", at)
    if not possible(lon, lat):
        refuse(lon, lat, at)
    return wrapped(lon), lat


def _words(cell: Any) -> str:
    return "" if cell is None or cell != cell else str(cell).strip()


def _record(file: RawTable, columns: Columns, row: int, raw: Any) -> Row | Skip:
    at = f"{file.path}:{row}"
    fields = file.decode(raw)
    if isinstance(fields, str):
        return Skip(fields, at)
    point = located(fields, columns.place, at)
    if isinstance(point, Skip):
        return point
    content = None
    if columns.text:
        given = {name: word for name in columns.text if (word := _words(fields.get(name)))}
        if not given.keys() & (columns.body or set(columns.text)):
            return Skip("empty text", at)
        content = ". ".join(given.values())
    own = fields.get(columns.id) if columns.id else None
    name = str(row if own is None or own == "" else own)
    return Row(columns.prefix + name, *point, content)
