"""Columns of a table of places: what is read from them, and what is refused with the file and the row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, SettingError

Table = dict[str, NDArray[Any]]
TRAINING_NAMES = frozenset({"train", "training", "trainval", "val", "valid", "validation", "dev"})
TEST_NAMES = frozenset({"test", "testing"})


def read_table(path: Path) -> Table:
    """All columns of a Parquet or CSV file as arrays. DataError when it cannot be read or has no rows."""
    from pyarrow import ArrowException, csv, parquet

    readers: dict[str, Callable[[Path], Any]] = {".parquet": parquet.read_table, ".csv": csv.read_csv}
    if path.suffix not in readers:
        raise SettingError(f"{path}: a task is a .parquet or .csv file, got {path.suffix or 'no ending'!r}.")
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        table = readers[path.suffix](path)
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable {path.suffix[1:]} table: {error}") from error
    if not len(table):
        raise DataError(f"{path}: the table has no rows.")
    return {name: table[name].to_numpy() for name in table.column_names}


def demand_columns(where: Path, table: Table, *columns: str) -> None:
    """DataError naming the columns that a table lacks and those it has."""
    if missing := [column for column in columns if column not in table]:
        raise DataError(
            f"{where}: expected columns {', '.join(columns)}; missing {', '.join(missing)}; found {', '.join(table)}."
        )


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """True where a value is null, NaN, no time or no text (as an empty field of a CSV file is read)."""
    if values.dtype == object:
        return np.array([v is None or v != v or v == "" for v in values], dtype=bool)
    return np.isnan(values) if values.dtype.kind in "fmM" else np.zeros(len(values), dtype=bool)


def numbers(where: Path, column: str, values: NDArray[Any]) -> NDArray[np.float64]:
    """A column as float64, NaN where there is none. DataError names the first row that holds something else."""
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        bad = [i for i in np.flatnonzero(~is_missing(values)) if not _is_number(values[i])]
        raise DataError(
            f"{where}:row {bad[0]}: column {column} of a regression must hold numbers, got {values[bad[0]]!r}."
        ) from error


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def codes(values: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Numbers 0, 1, ... for the sorted different values, -1 where there is none; and the values as text."""
    code = np.full(len(values), -1, dtype=np.int64)
    known = ~is_missing(values)
    present = values[known]
    if np.issubdtype(present.dtype, np.floating) and (present == np.round(present)).all():
        present = present.astype(np.int64)  # whole numbers that a gap elsewhere turned into floats
    names, code[known] = np.unique(present.astype(str), return_inverse=True)
    return code, tuple(str(name) for name in names)


def fold_numbers(where: Path, name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """A column of whole fold numbers."""
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"{where}: column {name} must hold whole fold numbers without gaps, got {values.dtype}.")
    return values.astype(np.int64)


def given_sides(where: Path, name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    """The split a table brings: 0 for train, val and trainval, 1 for test, -1 where there is nothing."""
    side = np.full(len(values), -1, dtype=np.int64)
    for row in np.flatnonzero(~is_missing(values)):
        word = str(values[row]).strip().lower()
        if word not in TRAINING_NAMES | TEST_NAMES:
            raise DataError(f"{where}:row {row}: column {name} must hold train, val or test, got {values[row]!r}.")
        side[row] = word in TEST_NAMES
    return side


def demand_variety(where: Path | str, column: str, label: NDArray[Any], classes: tuple[str, ...]) -> None:
    """DataError when all labels are the same, with that label."""
    if len(label) and (label == label[0]).all():
        what = f"class {classes[label[0]]!r}" if classes else f"{label[0]:g}"
        raise DataError(
            f"{where}: column {column} is {what} in all {len(label)} rows from row 0 on: there is nothing to predict."
        )
