"""Labels of regions that do not come from the map: night light, population, jobs, schools, health care.

Each reader gives a `Joined`: labels and how the regions make up the labelled rows, so that an embedding of regions
(n, d) becomes one of rows by `joined.of(vectors)`. Not fair: night light of a model that saw a night-light image.
The columns of Blue Marble in the file of night light are no labels here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need, unknown
from graticule.evaluation.predictors import Array
from graticule.evaluation.regions.places import centres, outlines
from graticule.evaluation.tables import Table, demand_columns, is_missing, numbers, read_table
from graticule.geo.cells import slippy_tiles
from graticule.geo.coords import Points, lonlat
from graticule.geo.region import Region

NIGHT_ZOOM, HEXAGON_RESOLUTION = 16, 9
GRID, CELL_M = "EPSG:3035", 1000.0
LEAST_COVER = 0.5  # of a 1 km cell, by regions
NEWEST_FIRST = ("pop2021", "pop2018", "pop2011", "pop2006")
HEXAGON_FILES = {"porto-alegre": "porto-alegre-hexgrid.csv", "saopaulo": "saopaulo_hexgrid_h3r9.csv"}
HEXAGON_COLUMNS = ("population", "jobs", "schools", "healthcare")


@dataclass(frozen=True)
class Joined:
    """m labelled rows made up of n regions: label (m,), points (m, 2), and triples of row, region and weight.

    The weights of a row sum to 1.
    """

    label: NDArray[np.float64]
    points: Points
    row: NDArray[np.int64]
    region: NDArray[np.int64]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.label)

    def of(self, vectors: Array) -> Array:
        """(n, d) vectors of regions -> (m, d) of the rows: weighted means."""
        out = np.zeros((len(self), vectors.shape[1]))
        np.add.at(out, self.row, self.weight[:, None] * vectors[self.region])
        return out


def night_light(folder: Path, city: str, regions: Sequence[Region]) -> Joined:
    """Brightness, 0-255, of the slippy tiles of zoom 16 around the centres of the regions (`tiles_z16_nightlight.csv`).

    Regions whose tile has no label are left out.
    """
    path = folder / "tiles_z16_nightlight.csv"
    table = _of_city(path, city, ("x", "y", "night_0_255"))
    light = dict(zip(zip(table["x"].tolist(), table["y"].tolist(), strict=True), table["night_0_255"], strict=True))
    points = centres(regions)
    tiles = [(x, y) for x, y in slippy_tiles(points, NIGHT_ZOOM).tolist()]
    return _selected(points, np.array([light.get(tile, np.nan) for tile in tiles], dtype=np.float64))


def population(folder: Path, city: str, regions: Sequence[Region]) -> Joined:
    """log(1 + inhabitants) of the 1 km cells of Eurostat (`eurostat_pop_1km.csv`), of the newest year that is known.

    A cell is the mean of the regions that overlap it, weighted by the area of the overlap in EPSG:3035. Cells that
    no year knows are left out, and those of which regions cover less than half.
    """
    path = folder / "eurostat_pop_1km.csv"
    table = _of_city(path, city, ("x3035", "y3035", "lon", "lat", *NEWEST_FIRST))
    years = np.stack([numbers(path, year, table[year]) for year in NEWEST_FIRST], axis=1)
    known = ~np.isnan(years)
    people = years[np.arange(len(years)), known.argmax(1)]
    corner = np.stack([numbers(path, name, table[name]) for name in ("x3035", "y3035")], axis=1)
    area = _overlap(corner, regions)
    cover = area.sum(axis=1)
    kept = known.any(axis=1) & (cover >= LEAST_COVER)
    row, region = np.nonzero(area[kept])
    weight = (area[kept] / cover[kept, None])[row, region]
    return Joined(np.log1p(people[kept]), lonlat(lon=table["lon"], lat=table["lat"])[kept], row, region, weight)


def hexagons(folder: Path, city: str, regions: Sequence[Region], column: str = "population") -> Joined:
    """log(1 + a column) of H3 cells of resolution 9, by the cells around the centres of the regions.

    city: "porto-alegre..." or "saopaulo...", as the file of the map is called; column: population, jobs, schools or
    healthcare. Regions without a label are left out.
    """
    name = next((name for name in HEXAGON_FILES if city.startswith(name)), None)
    if name is None:
        raise unknown("city of hexagons", city, HEXAGON_FILES)
    if column not in HEXAGON_COLUMNS:
        raise unknown("column of hexagons", column, HEXAGON_COLUMNS)
    path = folder / HEXAGON_FILES[name]
    table = _read(path, ("id", column))
    label = dict(zip(table["id"].tolist(), np.log1p(numbers(path, column, table[column])), strict=True))
    cell = need("h3", "osm").latlng_to_cell
    points = centres(regions)
    cells = [cell(lat, lon, HEXAGON_RESOLUTION) for lon, lat in points.tolist()]
    return _selected(points, np.array([label.get(c, np.nan) for c in cells], dtype=np.float64))


Reader = Callable[[Path, str, Sequence[Region]], Joined]
EXTERNAL: dict[str, Reader] = {
    "night_light": night_light,
    "population_1km": population,
    **{f"hexagon_{column}": partial(hexagons, column=column) for column in HEXAGON_COLUMNS},
}
BESIDE_MAPS = Path("osm") / "labels"  # where the files lie in the folder GRATICULE_DATA


def _overlap(corner: NDArray[np.float64], regions: Sequence[Region]) -> NDArray[np.float64]:
    """(m, n) km2 of overlap of 1 km cells, by their lower left corners in metres of EPSG:3035, with regions."""
    shapely = need("shapely", "osm")
    project = need("pyproj", "data").Transformer.from_crs("EPSG:4326", GRID, always_xy=True).transform
    shapes = shapely.transform(outlines(regions), lambda at: np.stack(project(at[:, 0], at[:, 1]), axis=1))
    cells = shapely.box(corner[:, 0], corner[:, 1], corner[:, 0] + CELL_M, corner[:, 1] + CELL_M)
    row, region = shapely.STRtree(shapes).query(cells, predicate="intersects")
    area = np.zeros((len(cells), len(shapes)))
    area[row, region] = shapely.area(shapely.intersection(cells[row], shapes[region])) / CELL_M**2
    return area


def _selected(points: Points, label: NDArray[np.float64]) -> Joined:
    """The regions that have a label, each a row of its own."""
    region = np.flatnonzero(~np.isnan(label))
    return Joined(label[region], points[region], np.arange(len(region)), region, np.ones(len(region)))


def _of_city(path: Path, city: str, columns: tuple[str, ...]) -> Table:
    """The rows of one city; DataError when it has none."""
    table = _read(path, ("city", *columns))
    own = table["city"] == city
    if not own.any():
        raise DataError(f"{path}: no row of city {city!r}; it has {', '.join(sorted(set(table['city'])))}.")
    return {name: values[own] for name, values in table.items()}


def _read(path: Path, columns: tuple[str, ...]) -> Table:
    table = read_table(path)
    demand_columns(path, table, *columns)
    if (gap := is_missing(table[columns[0]])).any():
        raise DataError(f"{path}:row {np.flatnonzero(gap)[0]}: column {columns[0]} is empty.")
    return table
