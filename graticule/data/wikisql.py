"""MediaWiki SQL dumps: rows of one table streamed from mysqldump text, and the geo_tags joined to pages."""

from __future__ import annotations

import logging
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graticule.data.columns import wrapped
from graticule.data.compressed import opened
from graticule.errors import DataError
from graticule.geo.coords import Points

logger = logging.getLogger(__name__)

Value = str | None
SECONDARY = "not primary"

_STRING = rb"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'"
_TUPLE = re.compile(rb"\s*\(([^'()]*(?:" + _STRING + rb"[^'()]*)*)\)\s*([,;]|$)\s*", re.DOTALL)
_FIELD = re.compile(rb"(?:_binary\s*)?(" + _STRING + rb")|([^,'\s][^,']*)", re.DOTALL)
_INSERT = re.compile(rb"\s*INSERT\s+(?:IGNORE\s+)?INTO\s+`?(\w+)`?\s*(?:\(([^()]*)\))?\s*VALUES\s*", re.IGNORECASE)
_CREATE = re.compile(rb"\s*CREATE\s+TABLE\b", re.IGNORECASE)
_CREATE_NAME = re.compile(r"CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?`?(\w+)`?\s*\(", re.IGNORECASE)
_KEYS = {"PRIMARY", "KEY", "INDEX", "UNIQUE", "CONSTRAINT", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK"}
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "Z": "\x1a"}


def table_columns(statement: str) -> tuple[str, list[str]]:
    """Name and column names, in order, of a CREATE TABLE statement; keys and comments are left out."""
    plain = re.sub(r"/\*.*?\*/|--[^\n]*|'(?:[^'\\]|\\.)*'", "", statement, flags=re.DOTALL)
    head = _CREATE_NAME.search(plain)
    if head is None:
        raise DataError(f"Expected CREATE TABLE name (...), got {statement[:60]!r}.")
    body, depth, items = plain[head.end() :], 0, [""]
    for character in body:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    words = [item.split()[0] for item in items if item.split()]
    return head[1], [word.strip("`") for word in words if word.split("(")[0].upper() not in _KEYS]


def sql_rows(path: Path, table: str, columns: Sequence[str]) -> Iterator[tuple[Value, ...]]:
    """The values of `columns` of every row of `table` in a mysqldump file (.sql, .sql.gz), as strings; NULL is None.

    Positions come from the file's own CREATE TABLE (or the INSERT's own list). Tuples may all stand on
    the INSERT line or one a line after VALUES. Raises DataError when the table or a column is missing,
    when a row does not have as many values as the table columns, and when the file is truncated or
    holds no rows.
    """
    order: list[str] = []
    width, wanted, inside, rows = 0, [0], False, 0
    with opened(path, lambda: f"after {rows:,} rows") as file:
        lines = enumerate(file, start=1)
        for number, line in lines:
            at = 0
            if not inside:
                if _CREATE.match(line):
                    name, names = table_columns(_statement(line, lines))
                    order = names if name == table else order
                head = _INSERT.match(line)
                if head is None or head[1].decode() != table:
                    continue
                listed = [word.strip().strip("`") for word in head[2].decode().split(",")] if head[2] else order
                width, wanted, inside, at = len(listed), _positions(path, table, listed, columns), True, head.end()
            while inside and at < len(line):
                found = _TUPLE.match(line, at)
                if found is None and line[at:].strip() in (b";", b""):
                    inside = not line[at:].strip()
                    break
                values = _FIELD.findall(found[1]) if found else []
                if found is None or len(values) != width:
                    raise DataError(f"{path}:line {number} is not a row of {width} SQL values: is the file truncated?")
                rows += 1
                yield tuple(_value(*values[i]) for i in wanted)
                inside, at = found[2] != b";", found.end()
    if inside or not rows:
        state = "ends inside an INSERT statement" if inside else f"holds no rows of the table {table!r}"
        raise DataError(f"{path} {state}: is it truncated, or another file?")


def _statement(first: bytes, lines: Iterator[tuple[int, bytes]]) -> str:
    """The text from the line `first` to the line that ends in a semicolon."""
    parts = [first]
    while not parts[-1].rstrip().endswith(b";") and (following := next(lines, None)):
        parts.append(following[1])
    return b"".join(parts).decode("utf-8", errors="replace")


def _positions(path: Path, table: str, order: list[str], columns: Sequence[str]) -> list[int]:
    if not order:
        raise DataError(f"{path} has INSERT but no CREATE TABLE {table}: the order of its columns is unknown.")
    if absent := [name for name in columns if name not in order]:
        raise DataError(f"{path}: table {table} has no column {', '.join(absent)}. Its columns: {', '.join(order)}.")
    return [order.index(name) for name in columns]


def _value(quoted: bytes, bare: bytes) -> Value:
    if not quoted:
        return None if bare == b"NULL" else bare.decode("ascii", errors="replace").strip()
    text = quoted[1:-1].decode("utf-8", errors="replace")
    if "\\" not in text and "'" not in text:
        return text
    return _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]) if m[1] else "'", text)


@dataclass(frozen=True)
class GeoTags:
    """Primary coordinates on Earth by page: `pages` (n,) sorted page ids, `lonlat` (n, 2) degrees.

    `dropped` tells for pages whose primary tag was not taken why; `counts` the tags dropped for each reason.
    """

    pages: NDArray[np.int64]
    lonlat: Points
    dropped: dict[int, str]
    counts: dict[str, int]

    def get(self, page: int) -> tuple[float, float] | None:
        """(lon, lat) of a page, or None."""
        i = int(np.searchsorted(self.pages, page))
        if i == len(self.pages) or self.pages[i] != page:
            return None
        return float(self.lonlat[i, 0]), float(self.lonlat[i, 1])


def geo_tags(path: Path, page: Path | None = None, max_dim_km: float | None = None) -> GeoTags:
    """Read geo_tags.sql(.gz): primary tags on Earth, in range, not (0, 0); of several the first counts.

    `page`: keep only pages that page.sql(.gz) lists in namespace 0 and not as redirects.
    `max_dim_km`: drop tags whose gt_dim (the size of the thing, in metres) is larger: a country's point is no place.
    """
    pages, lons, lats = array("q"), array("d"), array("d")
    dropped: dict[int, str] = {}
    counts: Counter[str] = Counter()
    columns = ("gt_page_id", "gt_primary", "gt_globe", "gt_lat", "gt_lon", "gt_dim")
    for identity, primary, globe, lat, lon, dim in sql_rows(path, "geo_tags", columns):
        y, x, size_m = map(_number, (lat, lon, dim))
        reason = _fault(primary, globe, x, y, size_m, max_dim_km)
        if reason:
            counts[reason] += 1
            if reason != SECONDARY:
                dropped[int(identity or 0)] = reason
        else:
            pages.append(int(identity or 0))
            lons.append(wrapped(x))
            lats.append(y)
    ids, first = np.unique(np.array(pages, dtype=np.int64), return_index=True)
    places = np.stack([np.array(lons), np.array(lats)], axis=-1)[first]
    if len(pages) > len(ids):
        counts["a second primary tag of the page"] = len(pages) - len(ids)
    if page is not None:
        kept = np.isin(ids, articles(page, ids))
        counts["not an article in page.sql"] = int((~kept).sum())
        ids, places = ids[kept], places[kept]
    logger.info("%s: %d pages with primary coordinates on Earth; dropped: %s", path, len(ids), dict(counts))
    return GeoTags(ids, places, dropped, dict(counts))


def _fault(primary: Value, globe: Value, lon: float, lat: float, size_m: float, max_dim_km: float | None) -> str:
    """Why a tag is not taken; empty when it is."""
    if primary != "1":
        return SECONDARY
    if globe != "earth":
        return "not on Earth"
    if lon == 0 and lat == 0:
        return "coordinates 0, 0"
    if not (abs(lat) <= 90 and abs(lon) <= 360):
        return "coordinates out of range"
    return "larger than max_dim_km" if max_dim_km is not None and size_m > max_dim_km * 1000 else ""


def _number(value: Value) -> float:
    try:
        return float(value or "nan")
    except ValueError:
        return math.nan


def articles(path: Path, among: NDArray[np.int64]) -> NDArray[np.int64]:
    """The page ids of `among` that page.sql(.gz) lists in namespace 0 and not as redirects."""
    wanted = frozenset(among.tolist())
    rows = sql_rows(path, "page", ("page_id", "page_namespace", "page_is_redirect"))
    found = (int(page or 0) for page, namespace, redirect in rows if namespace == "0" and redirect == "0")
    return np.fromiter((page for page in found if page in wanted), dtype=np.int64)
