"""Folds on disk, to be used again for the same task and no other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graticule.errors import DataError
from graticule.evaluation.splits import Folds, demand_sides
from graticule.evaluation.tasks import Task
from graticule.files import atomic_write

METADATA = b"graticule folds"
SIDES = ("train", "test")


def save_folds(path: str | Path, task: Task, splits: Mapping[str, Folds]) -> None:
    """Write the folds of some splits as Parquet with columns split, fold, row and side (train or test).

    The task's name, its number of rows and a digest of its points go into the metadata.
    """
    import pyarrow as pa
    from pyarrow import parquet

    parts = [
        (i, k, side, rows)
        for i, (name, pairs) in enumerate(splits.items())
        for k, pair in enumerate(demand_sides(f"Task {task.name}, split {name}", pairs))
        for side, rows in enumerate(pair)
    ]
    if not parts:
        raise DataError(f"Task {task.name}: there are no folds to keep.")
    counts = [len(rows) for *_, rows in parts]
    split, fold, side = np.repeat(np.array([part[:3] for part in parts], dtype=np.int32), counts, axis=0).T
    table = pa.table(
        {
            "split": pa.DictionaryArray.from_arrays(split, list(splits)),
            "fold": fold,
            "row": np.concatenate([rows for *_, rows in parts]).astype(np.int64),
            "side": pa.DictionaryArray.from_arrays(side, list(SIDES)),
        }
    )
    table = table.replace_schema_metadata({METADATA: json.dumps(_about(task))})
    atomic_write(Path(path), lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


def load_folds(path: str | Path, task: Task) -> dict[str, Folds]:
    """The folds of every split in a file of `save_folds`. DataError when they are another task's, or damaged."""
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(Path(path))
        about = json.loads(table.schema.metadata[METADATA])
        split, fold, row, side = (np.asarray(table[name].to_numpy()) for name in ("split", "fold", "row", "side"))
    except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: expected a Parquet file written by save_folds: {error}") from error
    expected = _about(task)
    if wrong := [key for key, value in expected.items() if about.get(key) != value]:
        told = "; ".join(f"{key} {about.get(key)!r}, not {expected[key]!r}" for key in wrong)
        raise DataError(f"{path}: these folds belong to other rows than those of task {task.name}: {told}.")
    if len(row) and not 0 <= row.min() <= row.max() < len(task):
        raise DataError(f"{path}: rows must lie in [0, {len(task)}), got {row.min()} to {row.max()}.")
    found: dict[str, Folds] = {}
    for name in dict.fromkeys(split):
        own = split == name
        found[str(name)] = [
            (row[own & (fold == k) & (side == SIDES[0])], row[own & (fold == k) & (side == SIDES[1])])
            for k in np.unique(fold[own])
        ]
    return found


def _about(task: Task) -> dict[str, Any]:
    digest = hashlib.blake2b(np.ascontiguousarray(task.points, dtype="<f8").tobytes(), digest_size=16).hexdigest()
    return {"task": task.name, "rows": len(task), "points": digest}
