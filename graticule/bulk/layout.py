"""How the rows of a table become shards: which rows stand in which file, and where they are read from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from graticule.bulk import curve, staged
from graticule.bulk.job import Shard
from graticule.bulk.staged import Located
from graticule.data.batches import is_parquet, parquet_points, read_points
from graticule.data.formats import open_table
from graticule.geo.coords import Points, lonlat
from graticule.geo.geoparquet import refuse_columns
from graticule.progress import Progress

ORDERS = ("input", "hilbert")
LARGEST_GROUP = 2  # row groups of a Parquet file may be so many times as long as a shard
SORTED_BYTES = 128 << 20  # of a shard that is sorted in memory
HELD_BYTES = 32 << 20  # of rows on their way to such shards


def part(number: int) -> str:
    """File name of a shard."""
    return f"part-{number:05d}.parquet"


def lay_out(path: Path, folder: Path, *, lon: str | None, lat: str | None, order: str, shard_rows: int) -> list[Shard]:
    """The shards of a table, all of whose coordinates are checked now; the same for the same table.

    In the order of the input a Parquet file is read where it is, a run of row groups a shard; other tables, row groups
    of more than LARGEST_GROUP shards, and any table in Hilbert order are first written to `folder` by shards.
    Raises what `read_points` raises, and DataError for a column that the output needs.
    """
    refuse_columns(open_table(path).columns, *(["row"] if order == "hilbert" else []))
    folder.mkdir(parents=True, exist_ok=True)
    for stray in folder.iterdir():
        stray.unlink()
    groups = _groups(path) if is_parquet(path) else None
    if order == "hilbert":
        return _by_curve(path, folder, lon, lat, shard_rows)
    if not groups or not any(groups) or max(groups) > LARGEST_GROUP * shard_rows:
        return _by_rows(path, folder, lon, lat, shard_rows)
    _checked(path, lon, lat, sum(groups))
    return list(_runs(path, groups, shard_rows))


def _groups(path: Path) -> list[int]:
    with pq.ParquetFile(path) as file:
        return [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]


def _checked(path: Path, lon: str | None, lat: str | None, rows: int) -> None:
    with Progress(f"check {path.name}", rows) as progress:
        for _, points in parquet_points(path, lon, lat, bare=True):
            progress.advance(len(points))


def _runs(path: Path, groups: Sequence[int], shard_rows: int) -> Iterator[Shard]:
    """Runs of whole row groups of `shard_rows` rows at most, or of one group that is longer."""
    number, row, first = 0, 0, 0
    for end in range(1, len(groups) + 1):
        rows = sum(groups[first:end])
        if end == len(groups) or rows + groups[end] > shard_rows:
            yield Shard(part(number), str(path.resolve()), rows, tuple(range(first, end)), row)
            number, row, first = number + 1, row + rows, end


def _by_rows(path: Path, folder: Path, lon: str | None, lat: str | None, shard_rows: int) -> list[Shard]:
    rows: list[int] = []
    with Progress(f"read {path.name}") as progress:
        for batch, points in read_points(path, lon, lat):
            at = 0
            while at < len(batch):
                if not rows or rows[-1] == shard_rows:
                    rows.append(0)
                taken = slice(at, at + shard_rows - rows[-1])
                here = batch[taken], points[taken]
                staged.append(folder / f"{len(rows) - 1:05d}.arrow", [here])
                rows[-1] += len(here[0])
                at += len(here[0])
            progress.advance(len(batch))
    if not rows:
        staged.append(folder / "00000.arrow", [(no_rows(path), lonlat(lon=[], lat=[]))])
        rows = [0]
    firsts = range(0, shard_rows * len(rows), shard_rows)
    return [
        Shard(part(i), str(folder.resolve() / f"{i:05d}.arrow"), n, row=row)
        for i, (n, row) in enumerate(zip(rows, firsts, strict=True))
    ]


def _by_curve(path: Path, folder: Path, lon: str | None, lat: str | None, shard_rows: int) -> list[Shard]:
    """Shards of rows that are neighbours on the curve, each with the column `row`, not yet sorted."""
    whole = folder / "whole.arrow"
    if not is_parquet(path):
        with Progress(f"read {path.name}") as progress:
            for located in read_points(path, lon, lat):
                staged.append(whole, [located])
                progress.advance(len(located[1]))

    def rows() -> Iterator[Located]:
        if is_parquet(path):
            return parquet_points(path, lon, lat)
        return staged.read(whole) if whole.exists() else iter(())

    def places() -> Iterator[Points]:
        stream = parquet_points(path, lon, lat, bare=True) if is_parquet(path) else rows()
        with Progress(f"order {path.name}") as progress:
            for _, points in stream:
                yield points
                progress.advance(len(points))

    first = next(rows(), None)
    if first is None:
        numbered = curve.numbered(no_rows(path), 0)
        staged.append(folder / "00000.arrow", [(numbered, lonlat(lon=[], lat=[]))])
        counts = [0]
    else:
        at_most = max(1, min(shard_rows, SORTED_BYTES * len(first[1]) // max(first[0].nbytes, 1)))
        runs = curve.runs(places, at_most)
        with Progress(f"sort {path.name}", sum(runs.rows)) as progress:
            curve.distribute(rows(), runs, folder, HELD_BYTES, progress)
        counts = runs.rows
    whole.unlink(missing_ok=True)
    return [Shard(part(i), str(folder.resolve() / f"{i:05d}.arrow"), n) for i, n in enumerate(counts)]


def no_rows(path: Path) -> Any:
    """A batch of no rows with the columns of a table that has none; of strings where only their names are known."""
    schema = (
        pq.read_schema(path)
        if is_parquet(path)
        else pa.schema([(name, pa.string()) for name in open_table(path).columns])
    )
    return pa.RecordBatch.from_pylist([], schema=schema)
