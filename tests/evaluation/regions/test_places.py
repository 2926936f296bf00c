import numpy as np
import pytest
import shapely

from graticule.errors import DataError
from graticule.evaluation.regions.cities import (
    block_groups,
    buffered_blocks,
    held_out_sides,
    is_european,
    one_city_out,
)
from graticule.evaluation.regions.places import centres, outlines, spacing_km, touching
from graticule.geo.coords import great_circle_km, lonlat
from graticule.geo.region import Region
from tests.evaluation.regions.maps import box, region, tile

GRID = [tile(34000 + x, 22000 + y) for x in range(6) for y in range(5)]


def test_centres_are_wrapped():
    seam = region(outline=shapely.box(179.9, -17, 180.3, -16))
    np.testing.assert_allclose(centres([region(), seam]), [[11.005, 48.005], [-179.9, -16.5]])
    assert centres([]).shape == (0, 2)


def test_a_broken_outline_is_told():
    with pytest.raises(DataError, match="no WKB polygon"):
        outlines([Region(b"nonsense")])


def test_touching_tiles_are_the_eight_around():
    pairs = touching(GRID)
    expected = {
        (5 * a + b, 5 * c + d)
        for a in range(6) for b in range(5) for c in range(6) for d in range(5)
        if max(abs(a - c), abs(b - d)) == 1
    }  # fmt: skip
    assert set(map(tuple, pairs.tolist())) == expected
    assert len(pairs) == len(expected)
    assert touching([region(outline=box(0, 0)), region(outline=box(2, 0))]).shape == (0, 2)
    assert touching([]).shape == (0, 2)


def test_hexagons_touch_their_six_neighbours():
    h3 = pytest.importorskip("h3")
    cells = h3.grid_disk(h3.latlng_to_cell(-30.0, -51.2, 9), 1)
    shapes = [shapely.Polygon([(lon, lat) for lat, lon in h3.cell_to_boundary(cell)]) for cell in cells]
    degree = np.bincount(touching([region(outline=shape) for shape in shapes])[:, 0])
    assert sorted(degree.tolist()) == [3] * 6 + [6]


def test_spacing():
    points = lonlat(lon=[0, 0.1, 0.2, 0.2], lat=[0, 0, 0, 0])
    assert spacing_km(points) == pytest.approx(float(great_circle_km(points[0], points[1])))
    with pytest.raises(DataError, match="two different"):
        spacing_km(points[2:])


def test_sides_share_no_city_and_no_continent():
    cities = ["porto-2020", "porto-alegre-2020", "london-2020", "maldives-2023", "dublin-docklands-2019"]
    (europe, rest), reverse = held_out_sides(cities)
    assert europe == ("dublin-docklands-2019", "london-2020", "porto-2020")
    assert rest == ("maldives-2023", "porto-alegre-2020")
    assert reverse == (rest, europe)
    assert not is_european("andora")
    with pytest.raises(DataError, match="some of Europe"):
        held_out_sides(["london-2020"])


def test_one_city_out():
    assert one_city_out(["b", "a"]) == [(("b",), ("a",)), (("a",), ("b",))]
    with pytest.raises(DataError, match="at least two"):
        one_city_out(["a"])


def test_blocks_keep_a_whole_region_between_training_and_test():
    tiles = [tile(34000 + x, 22000 + y) for x in range(20) for y in range(20)]
    points = centres(tiles)
    folds = buffered_blocks(points)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(400))
    for train, test in folds:
        away = great_circle_km(points[train][:, None], points[test][None])
        assert away.min() > 2.2 * spacing_km(points)
        steps = np.abs(np.stack(np.divmod(train, 20))[:, :, None] - np.stack(np.divmod(test, 20))[:, None]).max(0)
        assert steps.min() >= 2
        groups = block_groups(points, train)
        assert groups.shape == train.shape
        assert len(np.unique(groups)) == 5
    assert block_groups(points, np.arange(1)).tolist() == [0]
