"""An external sort along the Hilbert curve: runs of keys that fit in memory, and the rows of each in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graticule.bulk import staged
from graticule.bulk.staged import Located
from graticule.geo.coords import Points
from graticule.geo.hilbert import KEYS, hilbert_keys
from graticule.progress import Progress

Ints = NDArray[np.int64]
COARSE = 1 << 20  # equal pieces of the curve whose rows are counted first
FINE = 1 << 14  # into so many is a piece cut that holds too many rows


@dataclass(frozen=True)
class Runs:
    """Pieces of the curve and the shards that hold their rows.

    A piece has one shard; only where a single key has more rows than fit has it several, in the order of the input,
    and the last of them may also hold the next piece.
    """

    starts: Ints  # (pieces,) first key of each
    shard: Ints  # (pieces,) the first shard of each
    at_most: int  # rows of a shard
    rows: list[int]  # of each shard


def runs(places: Callable[[], Iterator[Points]], at_most: int) -> Runs:
    """Cut the curve so that no shard has more than `at_most` rows: counts, and counts again where rows are dense.

    `places()` streams all places; it is asked for once, and once more for each refinement, three times in all at most.
    """
    starts = np.arange(COARSE, dtype=np.int64) * (KEYS // COARSE)
    while True:
        counts = np.zeros(len(starts), dtype=np.int64)
        for points in places():
            keys = hilbert_keys(points)
            np.add.at(counts, keys // (KEYS // COARSE) if len(starts) == COARSE else _pieces(starts, keys), 1)
        widths = np.diff(starts, append=KEYS)
        dense = (counts > at_most) & (widths > 1)
        if not dense.any():
            return _runs(starts, counts, at_most)
        cuts = [starts[i] + np.arange(1, FINE) * (widths[i] // FINE) for i in np.flatnonzero(dense)]
        starts = np.sort(np.concatenate([starts, *cuts]))


def _pieces(starts: Ints, keys: Ints) -> Ints:
    return np.searchsorted(starts, keys, side="right") - 1


def _runs(starts: Ints, counts: Ints, at_most: int) -> Runs:
    """Neighbouring pieces gathered into one, shards about equally full."""
    total = int(counts.sum())
    full = -(-total // max(1, -(-total // at_most)))  # rows of a shard if all were equal
    rows, first, shard = [0], [0], [0]
    for i, count in zip(np.flatnonzero(counts).tolist(), counts[counts > 0].tolist(), strict=True):
        if rows[-1] >= full or (rows[-1] and rows[-1] + count > at_most):
            rows.append(0)
        if shard[-1] != len(rows) - 1:
            first.append(int(starts[i]))
            shard.append(len(rows) - 1)
        rows[-1] += count
        while rows[-1] > at_most:
            rows[-1:] = [at_most, rows[-1] - at_most]
    return Runs(np.array(first), np.array(shard), at_most, rows)


def distribute(rows: Iterator[Located], runs: Runs, folder: Path, held_bytes: int, progress: Progress) -> None:
    """Write the rows of each shard, with their number in the column `row`, to FOLDER/00000.arrow and so on.

    Within a file they stand in the order of the input. Some `held_bytes` of rows are held at a time.
    """
    seen = np.zeros(len(runs.starts), dtype=np.int64)
    number = 0
    for batch, points in _gathered(rows, held_bytes):
        piece = _pieces(runs.starts, hilbert_keys(points))
        order = np.argsort(piece, kind="stable")
        piece, counts = piece[order], np.bincount(piece, minlength=len(seen))
        rank = np.arange(len(order)) - (np.cumsum(counts) - counts - seen)[piece]  # of a row among those of its piece
        shard = runs.shard[piece] + rank // runs.at_most
        seen += counts
        batch, points = numbered(batch, number).take(pa.array(order)), points[order]
        cuts = (np.flatnonzero(np.diff(shard)) + 1).tolist()
        for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
            here = batch.slice(start, end - start), points[start:end]
            staged.append(folder / f"{shard[start]:05d}.arrow", [here])
        number += len(order)
        progress.advance(len(order))


def _gathered(rows: Iterator[Located], held_bytes: int) -> Iterator[Located]:
    """Batches joined to some `held_bytes` each."""
    held: list[Located] = []
    for located in rows:
        held.append(located)
        if sum(batch.nbytes + points.nbytes for batch, points in held) >= held_bytes:
            yield joined(held)
            held = []
    if held:
        yield joined(held)


def joined(held: list[Located]) -> Located:
    """Batches of one schema as one."""
    whole = pa.Table.from_batches([batch for batch, _ in held]).combine_chunks().to_batches()
    return (whole or [held[0][0]])[0], np.concatenate([points for _, points in held])


def numbered(batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """The batch with the column `row`: numbers from `first` on."""
    return batch.append_column("row", pa.array(np.arange(first, first + len(batch))))


def sorted_rows(located: list[Located]) -> Located:
    """The rows of a shard along the curve, those of one key in the order of the input."""
    batch, points = joined(located)
    order = np.argsort(hilbert_keys(points), kind="stable")
    return batch.take(pa.array(order)), points[order]
