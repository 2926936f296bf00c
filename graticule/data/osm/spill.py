"""Rows grouped by a key in bounded memory: sorted runs on disk, merged."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import chain, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

RUN_BYTES = 128 << 20  # rows held in memory before they are sorted and written
BATCH_ROWS = 4096  # rows of a run that are read at a time

Group = tuple[int, list[tuple[Any, ...]]]


def grouped(tables: Iterator[pa.Table], folder: Path) -> Iterator[Group]:
    """Tables of one schema, an int64 column "key" first -> (key, its rows as tuples of the rest) in order of the keys.

    Rows of a key keep the order they came in. Up to RUN_BYTES stay in memory; more goes to sorted runs in `folder`
    (Arrow IPC files, left there), and the groups are the same. A group itself is held in memory.
    """
    runs: list[Path] = []
    held: list[pa.Table] = []
    size = 0
    for table in tables:
        held.append(table)
        size += table.nbytes
        if size >= RUN_BYTES:
            runs.append(_write(_sorted(held), folder / f"run-{len(runs):05d}.arrow"))
            held, size = [], 0
    last = [_groups(iter(_sorted(held).to_batches(BATCH_ROWS)))] if held else []
    merged = heapq.merge(*map(_read, runs), *last, key=itemgetter(0))
    for key, group in groupby(merged, key=itemgetter(0)):
        yield key, list(chain.from_iterable(rows for _, rows in group))


def _sorted(tables: list[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables).combine_chunks()
    return table.take(pa.array(np.argsort(table["key"].to_numpy(), kind="stable")))


def _write(table: pa.Table, path: Path) -> Path:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH_ROWS)
    return path


def _read(path: Path) -> Iterator[Group]:
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        yield from _groups(reader.get_batch(i) for i in range(reader.num_record_batches))


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[Group]:
    """The stretches of equal keys in sorted batches; a key may come again at the start of the next batch."""
    for batch in batches:
        keys = batch["key"].to_numpy()
        rows = list(zip(*(column.to_pylist() for column in batch.columns[1:]), strict=True))
        starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
        for start, end in pairwise([*starts.tolist(), len(keys)]):
            yield int(keys[start]), rows[start:end]
