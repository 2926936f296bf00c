"""Tables in the layout of CoordBench: places, times, a split and several label columns in one file.

CoordBench (2026, part of torchgeo-bench) keeps every source in `data/NAME/data.parquet` with the columns lon, lat,
timestamp, timestamp_end, split and id; all others are labels or belong to the source.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from graticule.errors import DataError
from graticule.evaluation.tables import (
    Table,
    codes,
    demand_columns,
    demand_variety,
    given_sides,
    is_missing,
    numbers,
    read_table,
)
from graticule.evaluation.tasks import Kind, Task, folds_of, kind_of
from graticule.geo.coords import lonlat

logger = logging.getLogger(__name__)

COMMON_COLUMNS = ("lon", "lat", "timestamp", "timestamp_end", "split", "id")


def coordbench_columns(path: str | Path) -> list[str]:
    """The columns of a table that may be labels: all but those common to every table."""
    return [name for name in read_table(Path(path)) if name not in COMMON_COLUMNS]


def load_coordbench(
    path: str | Path,
    label: str,
    *,
    kind: Kind | None = None,
    split: str = "split",
    missing: float | str | None = None,
) -> Task:
    """One label column of a CoordBench table as a task, called NAME-label.

    kind      numbers make a regression and text a classification unless said otherwise
    split     the column of the split "given": train, trainval and val train, test tests, rows without a word do neither
    missing   the value that stands for no label, such as -999; null, NaN and infinite numbers always do

    Rows without a label are left out and counted in the log; so are timestamps, as tasks here have no time.
    Raises DataError for missing columns, ids that occur twice, other words in the split, and a label that is
    constant or of the wrong kind; CoordinateError for impossible coordinates.
    """
    path = Path(path)
    table = read_table(path)
    demand_columns(path, table, "lon", "lat", label)
    _demand_unique(path, table)
    points = lonlat(lon=table["lon"], lat=table["lat"], where=f"{path}:row")
    folds = folds_of(path, {name: values for name, values in table.items() if name not in (label, "split")})
    if split in table and not is_missing(table[split]).all():
        folds["given"] = given_sides(path, split, table[split])
    elif split != "split":
        raise DataError(f"{path}: expected a column {split} of train, val and test, found {', '.join(table)}.")
    kind = kind or kind_of(table[label])
    values = numbers(path, label, table[label]) if kind == "regression" else table[label]
    known = np.isfinite(values) if kind == "regression" else ~is_missing(values)
    rows = np.flatnonzero(known if missing is None else known & (values != missing))
    if not len(rows):
        raise DataError(f"{path}: column {label} is empty in all {len(values)} rows.")
    labels, classes = (values[rows], ()) if kind == "regression" else codes(values[rows])
    demand_variety(path, label, labels, classes)
    name = path.parent.name if path.stem == "data" else path.stem
    if len(rows) < len(values):
        logger.info("%s: %d of %d rows have no %s and are left out", path, len(values) - len(rows), len(values), label)
    if "timestamp" in table and not is_missing(table["timestamp"]).all():
        logger.info("%s: its timestamps are not used", path)
    own = {column: fold[rows] for column, fold in folds.items()}
    return Task(f"{name}-{label}", points[rows], labels, kind, classes, source=path.name, folds=own)


def _demand_unique(path: Path, table: Table) -> None:
    if "id" not in table:
        return
    _, first, number = np.unique(table["id"].astype(str), return_index=True, return_inverse=True)
    if len(again := np.flatnonzero(first[number] != np.arange(len(number)))):
        row = again[0]
        raise DataError(
            f"{path}:row {row}: id {table['id'][row]!r} is also that of row {first[number[row]]};"
            f" {len(again)} of {len(number)} rows repeat one."
        )
