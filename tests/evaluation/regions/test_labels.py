import csv
import os
from pathlib import Path

import numpy as np
import pytest
import shapely

from graticule.errors import DataError, SettingError
from graticule.evaluation.regions.labels import BESIDE_MAPS, EXTERNAL, hexagons, night_light, population
from graticule.geo.cells import slippy_tiles
from graticule.geo.coords import lonlat
from tests.evaluation.regions.maps import region, tile

pyproj = pytest.importorskip("pyproj")
h3 = pytest.importorskip("h3")
BACK = pyproj.Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform
NIGHT = "city,x,y,n_feat,night_0_255,bm_r\na-2020,34000,22000,5,100.5,1\na-2020,34001,22000,5,7,1\nb-2020,1,1,5,9,1\n"


def metric_box(west, south, east, north):
    """A region from a rectangle in metres of EPSG:3035, its edges densified."""
    outline = shapely.box(west, south, east, north).segmentize(100)
    return region(outline=shapely.transform(outline, lambda at: np.stack(BACK(at[:, 0], at[:, 1]), axis=1)))


def test_night_light_is_looked_up_by_tile(tmp_path):
    (tmp_path / "tiles_z16_nightlight.csv").write_text(NIGHT)
    regions = [tile(34001, 22000), tile(34002, 22000), tile(34000, 22000)]
    joined = night_light(tmp_path, "a-2020", regions)
    np.testing.assert_allclose(joined.label, [7, 100.5])
    assert joined.region.tolist() == [0, 2]
    assert slippy_tiles(joined.points, 16).tolist() == [[34001, 22000], [34000, 22000]]
    np.testing.assert_array_equal(joined.of(np.array([[1.0], [2], [3]])), [[1], [3]])
    assert len(night_light(tmp_path, "a-2020", [])) == 0
    with pytest.raises(DataError, match=r"no row of city 'c'; it has a-2020, b-2020"):
        night_light(tmp_path, "c", regions)


def test_population_is_a_mean_by_overlap(tmp_path):
    x, y = 4321000, 3210000
    lines = ["city,x3035,y3035,pop2006,pop2011,pop2018,pop2021,n_feat,lon,lat"]
    for i, counts in enumerate([",,50,", "1,2,3,4", ",,,", "7,,,"]):
        lon, lat = BACK(x + 1000 * i + 500, y + 500)
        lines.append(f"a,{x + 1000 * i},{y},{counts},9,{lon},{lat}")
    (tmp_path / "eurostat_pop_1km.csv").write_text("\n".join(lines) + "\n")
    regions = [
        metric_box(x - 1000, y, x + 250, y + 1000),  # a quarter of cell 0
        metric_box(x + 250, y, x + 1750, y + 1000),  # three quarters of cell 0 and of cell 1
        metric_box(x + 1750, y, x + 3400, y + 1000),  # a quarter of cell 1, cell 2, and 40 % of cell 3: too little
    ]
    joined = population(tmp_path, "a", regions)
    np.testing.assert_allclose(joined.label, np.log1p([50, 4]))
    np.testing.assert_allclose(joined.of(np.eye(3)), [[0.25, 0.75, 0], [0, 0.75, 0.25]], atol=1e-3)
    np.testing.assert_allclose(joined.of(np.ones((3, 2))), 1)
    assert len(population(tmp_path, "a", [])) == 0


def test_hexagons_are_looked_up_by_cell(tmp_path):
    cells = h3.grid_disk(h3.latlng_to_cell(-30.0, -51.2, 9), 1)
    rows = "".join(f"{cell},0,0,{i},{2 * i},0,0\n" for i, cell in enumerate(cells[:3]))
    (tmp_path / "porto-alegre-hexgrid.csv").write_text("id,lon,lat,population,schools,jobs,healthcare\n" + rows)
    shapes = [shapely.Polygon([(lon, lat) for lat, lon in h3.cell_to_boundary(cell)]) for cell in cells]
    regions = [region(outline=shape) for shape in shapes]
    joined = hexagons(tmp_path, "porto-alegre-2020", regions, "schools")
    np.testing.assert_allclose(joined.label, np.log1p([0, 2, 4]))
    assert joined.region.tolist() == [0, 1, 2]
    with pytest.raises(SettingError, match="column of hexagons 'school'"):
        hexagons(tmp_path, "porto-alegre-2020", regions, "school")
    with pytest.raises(SettingError, match="city of hexagons"):
        hexagons(tmp_path, "london-2020", regions)


def test_errors_name_the_file(tmp_path):
    with pytest.raises(DataError, match=r"tiles_z16_nightlight\.csv: no such file"):
        night_light(tmp_path, "a", [])
    (tmp_path / "tiles_z16_nightlight.csv").write_text("city,x,y\na,1,2\n")
    with pytest.raises(DataError, match="missing night_0_255"):
        night_light(tmp_path, "a", [])


@pytest.fixture
def folder():
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name a folder of real data")
    return Path(os.environ["GRATICULE_DATA"]) / BESIDE_MAPS


def test_real_night_light(folder):
    with (folder / "tiles_z16_nightlight.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["city"] == "helsinki-2019"]
    regions = [tile(int(row["x"]), int(row["y"])) for row in rows]
    joined = EXTERNAL["night_light"](folder, "helsinki-2019", regions)
    np.testing.assert_allclose(joined.label, [float(row["night_0_255"]) for row in rows])


def test_real_population_of_a_city_whose_tiles_are_all_there(folder):
    with (folder / "eurostat_pop_1km.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["city"].startswith("munich") and row["pop2021"]]
    at = lonlat(lon=[float(row["lon"]) for row in rows], lat=[float(row["lat"]) for row in rows])
    (west, north), (east, south) = (f(slippy_tiles(at, 16), axis=0) for f in (np.min, np.max))
    regions = [tile(x, y) for x in range(west - 2, east + 3) for y in range(north - 2, south + 3)]
    joined = EXTERNAL["population_1km"](folder, "munich-2020", regions)
    np.testing.assert_allclose(joined.label, np.log1p([float(row["pop2021"]) for row in rows]))
    centres = np.array([[x, y] for x in range(west - 2, east + 3) for y in range(north - 2, south + 3)])
    np.testing.assert_allclose(joined.of(centres), slippy_tiles(at, 16), atol=1.2)  # the centre of the cell, in tiles
    cells = np.bincount(joined.row)
    assert cells.min() >= 9  # tiles of 410 m


def test_real_hexagons(folder):
    with (folder / "saopaulo_hexgrid_h3r9.csv").open() as file:
        rows = list(csv.DictReader(file))
    shapes = [shapely.Polygon([(x, y) for y, x in h3.cell_to_boundary(row["id"])]) for row in rows]
    regions = [region(outline=shape) for shape in shapes]
    for column in ("population", "jobs", "schools", "healthcare"):
        joined = EXTERNAL[f"hexagon_{column}"](folder, "saopaulo-2019", regions)
        np.testing.assert_allclose(joined.label, np.log1p([float(row[column]) for row in rows]))
