"""Regions: membership against brute force over all regions, shares that add up, edges, poles, the antimeridian."""

import json

import geopandas
import h3
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from graticule.errors import DataError, SettingError
from graticule.geo import partition_base, partition_h3, partition_slippy
from graticule.geo.antimeridian import unwrapped
from graticule.geo.coords import EARTH_RADIUS_KM, great_circle_km
from graticule.geo.measure import area_km2, length_km, measure
from graticule.geo.partition import partition

HELSINKI = np.array([24.94, 60.17])


def array(*shapes):
    return np.array(shapes, dtype=object)


def city(n, seed=0, at=HELSINKI, size=0.02):
    """Points, small boxes, crooked lines, long diagonals, large and holed polygons."""
    rng = np.random.default_rng(seed)
    shapes = []
    for i in range(n):
        x, y = at + rng.uniform(-size, size, 2)
        walk = np.array([x, y]) + np.cumsum(rng.normal(0, 0.001, (6, 2)), axis=0)
        star = [x, y] + rng.uniform(0.3, 1, (9, 1)) * size / 3 * np.stack(
            [np.cos(np.arange(9) * 0.69), np.sin(np.arange(9) * 0.69)], axis=1
        )
        hole = [x, y] + (star - [x, y]) * 0.4
        kinds = (
            shapely.Point(x, y),
            shapely.box(x, y, x + 0.0003, y + 0.0002),
            shapely.LineString(walk),
            shapely.LineString([(x, y), at + rng.uniform(-size, size, 2)]),
            shapely.Polygon(star),
            shapely.Polygon(star, [hole]),
            shapely.MultiLineString([walk, walk + 0.004]),
            shapely.MultiPolygon(
                [shapely.box(x, y, x + 0.001, y + 0.001), shapely.box(x + 0.01, y, x + 0.02, y + 0.01)]
            ),
        )
        shapes.append(kinds[i % len(kinds)])
    return array(*shapes)


def total_shares(members, n):
    return np.bincount(members.rows, members.shares, n)


def pairs_of(members):
    return set(zip(members.rows.tolist(), members.keys.tolist(), strict=True))


def brute(shapes, keys, outlines):
    """Every pair of a shape and an outline whose intersection has the shape's own dimension."""
    found = set()
    for i, shape in enumerate(shapes):
        for key, outline in zip(keys, outlines, strict=True):
            part = shape.intersection(outline)
            size = {0: 1 - part.is_empty, 1: part.length, 2: part.area}[shapely.get_dimensions(shape)]
            if size > 1e-15:
                found.add((i, int(key)))
    return found


def all_tiles(zoom, shapes):
    west, south, east, north = shapely.total_bounds(shapes)
    grid = partition(f"slippy:{zoom}")
    corners = grid.touched(array(shapely.Point(west, north), shapely.Point(east, south)))[1]
    (x0, y0), (x1, y1) = grid._tiles(corners)
    keys = np.array([x * grid.n + y for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)])
    return keys, grid.outlines(keys)


@pytest.mark.parametrize("zoom", [13, 15])
def test_slippy_is_brute_force_over_all_tiles(zoom):
    shapes = city(48)
    members = partition(f"slippy:{zoom}").members(shapes)
    assert pairs_of(members) == brute(shapes, *all_tiles(zoom, shapes))
    np.testing.assert_allclose(total_shares(members, len(shapes)), 1, rtol=1e-7)


def test_h3_is_brute_force_over_all_cells():
    shapes = city(48)
    members = partition("h3:8").members(shapes)
    near = h3.grid_disk(h3.latlng_to_cell(HELSINKI[1], HELSINKI[0], 8), 9)
    keys = np.array([h3.str_to_int(cell) for cell in near])
    assert pairs_of(members) == brute(shapes, keys, partition("h3:8").outlines(keys))
    np.testing.assert_allclose(total_shares(members, len(shapes)), 1, rtol=1e-7)


@pytest.mark.parametrize("spec", ["slippy:15", "h3:8"])
def test_parts_lie_in_their_regions_and_make_up_the_shape(spec):
    shapes, regions = city(48, seed=1), partition(spec)
    members = regions.members(shapes)
    outlines = shapely.buffer(regions.outlines(members.keys), 1e-9)
    assert shapely.covers(outlines, members.geometry).all()
    assert (shapely.get_dimensions(members.geometry) == shapely.get_dimensions(shapes[members.rows])).all()
    for i, shape in enumerate(shapes):
        again = shapely.union_all(members.geometry[members.rows == i])
        assert shape.hausdorff_distance(again) < 1e-9
    order = np.lexsort([members.keys, members.rows])
    assert (order == np.arange(len(order))).all()


@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=2, max_size=8),
    st.sampled_from(["slippy:10", "slippy:12", "h3:5"]),
    st.booleans(),
)
def test_shares_add_up(corners, spec, closed):
    places = np.array(corners) * 0.0439453125 + [0.3515625, 0]  # eighths of tiles of zoom 10: often on their edges
    ring = closed and len(corners) > 2
    shape = shapely.make_valid(shapely.Polygon(places)) if ring else shapely.LineString(places)
    members = partition(spec).members(array(shape))
    if measure(array(shape))[0] > 0 or shapely.get_dimensions(shape) == 0:
        assert members.shares.sum() == pytest.approx(1, abs=1e-7)


def test_a_long_way_is_in_tiles_without_its_corners():
    way = shapely.LineString([(24.5, 60.1), (25.3, 60.3)])
    grid = partition("slippy:16")
    rows, keys = grid.touched(array(way))
    keys_all, outlines = all_tiles(16, array(way))
    assert set(keys) == set(keys_all[shapely.intersects(outlines, way)])
    assert len(rows) > 145  # at least one tile a column


@pytest.mark.parametrize("spec", ["slippy:16", "h3:9"])
def test_a_polygon_is_in_the_regions_inside_it(spec):
    grid = partition(spec)
    lake = shapely.Point(HELSINKI).buffer(0.03)
    members = grid.members(array(lake))
    outlines = grid.outlines(members.keys)
    inside = shapely.contains_properly(lake, outlines)
    assert inside.sum() > 50
    np.testing.assert_allclose(shapely.area(members.geometry[inside]), shapely.area(outlines[inside]))
    assert members.shares.sum() == pytest.approx(1)


def test_clips_on_the_way_down_change_nothing(monkeypatch):
    coast = shapely.Point(HELSINKI).buffer(0.1, quad_segs=500)
    grid = partition("slippy:15")
    cut = grid.members(array(coast))
    monkeypatch.setattr(partition_slippy, "MANY_CORNERS", 10**9)
    plain = grid.members(array(coast))
    assert (cut.keys == plain.keys).all()
    np.testing.assert_allclose(cut.shares, plain.shares, rtol=1e-9)


class TestEdgesOfTiles:
    grid = partition("slippy:4")
    edge, top = 22.5, float(shapely.bounds(partition("slippy:4").outlines(np.array([9 * 16 + 6])))[0, 3])

    def names(self, shape):
        return self.grid.ids(self.grid.touched(array(shape))[1])

    def test_points_belong_to_the_tile_east_and_south_of_them(self):
        assert self.names(shapely.Point(self.edge, 50)) == ["4/9/5"]
        assert self.names(shapely.Point(self.edge, 0)) == ["4/9/8"]
        assert self.names(shapely.Point(180, 0)) == self.names(shapely.Point(-180, 0)) == ["4/0/8"]

    def test_lines_along_an_edge_belong_to_one_tile(self):
        assert self.names(shapely.LineString([(self.edge, 50), (self.edge, 51)])) == ["4/9/5"]
        assert self.names(shapely.LineString([(3, 0), (4, 0)])) == ["4/8/8"]
        assert self.names(shapely.LineString([(23, 0), (22, 0)])) == ["4/8/8", "4/9/8"]
        assert self.names(shapely.LineString([(self.edge, 1), (self.edge, -1)])) == ["4/9/7", "4/9/8"]

    def test_a_line_partly_along_an_edge_leaves_that_part_to_the_next_tile(self):
        members = self.grid.members(array(shapely.LineString([(20, 1), (self.edge, 1), (self.edge, 3)])))
        assert self.grid.ids(members.keys) == ["4/8/7", "4/9/7"]
        assert shapely.equals(members.geometry[0], shapely.LineString([(20, 1), (self.edge, 1)]))
        assert members.shares.sum() == pytest.approx(1)

    def test_lines_that_end_on_an_edge_have_no_part_beyond(self):
        assert self.names(shapely.LineString([(20, 1), (self.edge, 1)])) == ["4/8/7"]
        assert self.names(shapely.LineString([(self.edge, 1), (23, 2)])) == ["4/9/7"]

    def test_polygons_that_touch_from_outside_have_no_part(self):
        assert self.names(shapely.box(20, 1, self.edge, 2)) == ["4/8/7"]
        assert self.names(self.grid.outlines(np.array([9 * 16 + 6]))[0]) == ["4/9/6"]

    def test_nothing_lies_beyond_the_square_of_mercator(self):
        assert self.names(shapely.Point(3, 86)) == self.names(shapely.Point(0, -90)) == []
        members = self.grid.members(array(shapely.box(1, 84, 2, 87)))
        assert self.grid.ids(members.keys) == ["4/8/0"]
        assert 0.3 < members.shares[0] < 0.8


def test_points_of_h3_are_where_h3_says():
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(-180, 180, 300), np.degrees(np.arcsin(rng.uniform(-1, 1, 300)))
    grid = partition("h3:4")
    rows, keys = grid.touched(shapely.points(np.append(lon, [0, 7]), np.append(lat, [90, -90])))
    want = [h3.latlng_to_cell(y, x, 4) for x, y in zip([*lon, 0, 7], [*lat, 90, -90], strict=True)]
    assert grid.ids(keys) == want
    assert (rows == np.arange(302)).all()


def test_h3_cells_at_a_pole_run_round_it():
    grid = partition("h3:2")
    key = np.array([h3.str_to_int(h3.latlng_to_cell(90, 0, 2))])
    (outline,) = grid.outlines(key)
    assert outline.is_valid
    assert outline.bounds[2] - outline.bounds[0] == pytest.approx(360)
    assert outline.bounds[3] == 90
    assert grid.size_km(key)[0] == pytest.approx(h3.cell_area(h3.int_to_str(int(key[0]))) ** 0.5, rel=1e-5)
    lines = array(*(shapely.LineString([(x, 89.5), (x + 40, 89.9)]) for x in range(-180, 140, 40)))
    members = grid.members(lines)
    assert set(grid.ids(members.keys)) == {h3.int_to_str(int(key[0]))}
    np.testing.assert_allclose(members.shares, 1, rtol=1e-5)
    far = grid.members(array(shapely.LineString([(30, 80), (30, 90)])))
    assert far.shares.sum() == pytest.approx(1)
    assert int(key[0]) in far.keys


@pytest.mark.parametrize("spec", ["slippy:8", "h3:4"])
def test_regions_at_the_antimeridian(spec):
    grid = partition(spec)
    shapes = array(
        shapely.LineString([(179.5, -17), (-179.5, -17.2)]),  # 1 degree long, the short way
        shapely.LineString([(179.5, -17), (180.5, -17.2)]),  # the same, run on
        shapely.MultiLineString([[(179.5, -17), (180, -17.1)], [(-180, -17.1), (-179.5, -17.2)]]),  # cut
        shapely.LineString([(-180.5, -17), (-179.5, -17.2)]),
        shapely.Polygon([(179.5, -17), (-179.5, -17), (-179.5, -16.5), (179.5, -16.5)]),
        shapely.MultiPolygon([shapely.box(179.5, -17, 180, -16.5), shapely.box(-180, -17, -179.5, -16.5)]),
    )
    members = grid.members(shapes)
    of = [set(members.keys[members.rows == i]) for i in range(len(shapes))]
    assert of[0] == of[1] == of[2] == of[3]
    assert of[4] == of[5]
    assert max(map(len, of)) < 20
    np.testing.assert_allclose(total_shares(members, len(shapes)), 1, rtol=1e-9)
    outlines = grid.outlines(members.keys)
    assert shapely.covers(shapely.buffer(outlines, 1e-9), members.geometry).all()
    assert (shapely.bounds(outlines)[:, 2] - shapely.bounds(outlines)[:, 0] < 2).all()
    assert (grid.centre(members.keys)[:, 0] < 180).all()


def test_points_beyond_the_antimeridian_move_to_the_cell():
    grid = partition("h3:4")
    cell = h3.latlng_to_cell(-17, 180, 4)
    outline = grid.outlines(np.array([h3.str_to_int(cell)]))[0]
    assert outline.bounds[0] < 180 < outline.bounds[2]
    members = grid.members(array(shapely.Point(-179.999, -17), shapely.Point(179.999, -17)))
    assert grid.ids(members.keys) == [cell, cell]
    np.testing.assert_allclose(shapely.get_x(members.geometry), [180.001, 179.999])


def test_once_round_the_earth():
    belt, equator = shapely.box(-180, 10, 180, 20), shapely.LineString([(-180, 5), (0, 5), (180, 5)])
    for spec, most in (("slippy:3", 8), ("h3:0", 122)):
        members = partition(spec).members(array(belt, equator))
        np.testing.assert_allclose(total_shares(members, 2), 1, rtol=1e-9)
        assert 8 <= np.bincount(members.rows)[1] <= most
    assert len(partition("slippy:0").touched(array(belt))[1]) == 1


@pytest.mark.parametrize("spec", ["slippy:15", "slippy:17", "h3:9", "own"])
@pytest.mark.parametrize("seed", range(3))
def test_among_some_regions_only(spec, seed, tmp_path):
    shapes = city(60, seed)
    if spec == "own":
        outlines = partition("h3:8").outlines(np.unique(partition("h3:8").touched(shapes)[1]))
        spec = str(write(tmp_path / "own.geojson", [feature(outline, id=i) for i, outline in enumerate(outlines)]))
    grid = partition(spec)
    whole = grid.members(shapes)
    some = np.random.default_rng(seed).permutation(np.unique(whole.keys))[::3]
    members, among = grid.members(shapes, among=some), np.isin(whole.keys, some)
    assert (members.rows == whole.rows[among]).all()
    assert (members.keys == whole.keys[among]).all()
    assert (members.shares == whole.shares[among]).all()
    assert (shapely.to_wkb(members.geometry) == shapely.to_wkb(whole.geometry[among])).all()
    assert len(grid.members(shapes, among=some[:0]).rows) == 0


@pytest.mark.parametrize("spec", ["slippy:15", "h3:9"])
@pytest.mark.parametrize("lat", [0.0, 60.0, 84.0])
def test_of_thin_shapes_no_region_holds_much(spec, lat):
    rng = np.random.default_rng(1)
    grid, at = partition(spec), np.array([24.9, lat])
    shapes = array(*(shapely.Point(at + rng.uniform(-0.1, 0.1, 2)).buffer(r) for r in np.geomspace(1e-4, 0.05, 40)))
    shapes = np.append(shapes, [shapely.LineString([at - 0.1, at + 0.1]), shapely.Point(at), None])
    thin, members = grid.thin(shapes, 0.05), grid.members(shapes)
    largest = np.zeros(len(shapes))
    np.maximum.at(largest, members.rows, members.shares)
    assert thin.any()
    assert (largest[thin] < 0.05).all()
    assert not thin[-3:].any()
    assert (thin <= grid.broad(shapes)).all()
    assert set(zip(*(part.tolist() for part in grid.near(shapes)), strict=True)) >= pairs_of(members)


def test_own_polygons_know_no_thin_or_broad_shapes(tmp_path):
    grid = partition(str(write(tmp_path / "own.geojson", [feature(shapely.box(0, 0, 1e-4, 1e-4), id="a")])))
    world = array(shapely.box(-80, -80, 80, 80))
    assert not grid.thin(world, 0.5).any()
    assert not grid.broad(world).any()


def test_a_shape_in_too_many_regions_is_left_out_and_told(monkeypatch):
    for module in (partition_base, partition_slippy, partition_h3):
        monkeypatch.setattr(module, "MOST_REGIONS", 50)
    shapes = array(shapely.Point(HELSINKI).buffer(0.1), shapely.Point(HELSINKI).buffer(0.0001))
    for spec in ("slippy:16", "h3:9"):
        members = partition(spec).members(shapes)
        assert members.too_wide.tolist() == [0]
        assert set(members.rows) == {1}


def test_crossed_polygons_are_mended_when_cut():
    x, y = HELSINKI
    bow = shapely.Polygon([(x, y), (x + 0.02, y + 0.01), (x + 0.02, y), (x, y + 0.01)])
    members = partition("slippy:15").members(array(shapely.Point(x, y), bow))
    assert members.mended.tolist() == [1]
    assert members.shares[members.rows == 1].sum() == pytest.approx(1)


@pytest.mark.parametrize("spec", ["slippy:16", "h3:9"])
def test_nothing_and_empty_shapes(spec):
    grid = partition(spec)
    none = grid.members(np.empty(0, object))
    assert len(none.rows) == len(none.geometry) == 0
    shapes = array(None, shapely.Point(), shapely.Polygon(), shapely.GeometryCollection(), shapely.Point(1, 2))
    assert grid.members(shapes).rows.tolist() == [4]
    keys = np.empty(0, np.int64)
    assert len(grid.outlines(keys)) == len(grid.ids(keys)) == len(grid.centre(keys)) == len(grid.size_km(keys)) == 0


def test_collections_count_by_their_highest_dimension():
    x, y = HELSINKI
    both = shapely.GeometryCollection([shapely.Point(x, y), shapely.box(x, y, x + 0.01, y + 0.01)])
    members = partition("slippy:16").members(array(both))
    assert members.shares.sum() == pytest.approx(1)
    assert set(shapely.get_dimensions(members.geometry)) == {2}


def test_names_centres_and_sizes():
    grid = partition("slippy:16")
    _, keys = grid.touched(array(shapely.Point(1.57952, 42.5113)))
    assert grid.ids(keys) == ["16/33055/24202"]
    assert grid.about == {"cells": "slippy:16"}
    assert shapely.contains_properly(grid.outlines(keys)[0], shapely.Point(grid.centre(keys)[0]))
    west, south, east, north = shapely.bounds(grid.outlines(keys))[0]
    wide = great_circle_km(np.array([west, (south + north) / 2]), np.array([east, (south + north) / 2]))
    high = great_circle_km(np.array([west, south]), np.array([west, north]))
    assert grid.size_km(keys)[0] == pytest.approx((wide * high) ** 0.5, rel=1e-6)
    cells = partition("h3:7")
    _, keys = cells.touched(array(shapely.Point(1.57952, 42.5113)))
    assert cells.size_km(keys)[0] == pytest.approx(h3.cell_area(cells.ids(keys)[0]) ** 0.5, rel=1e-5)
    assert area_km2(cells.outlines(keys))[0] == pytest.approx(cells.size_km(keys)[0] ** 2, rel=1e-4)


def test_empty_tiles_of_the_box():
    grid = partition("slippy:3")
    assert grid.empty(np.array([1 * 8 + 1, 3 * 8 + 2])) == 4
    assert grid.empty(np.array([0 * 8 + 1, 7 * 8 + 1])) == 0  # neighbours across the antimeridian
    assert grid.empty(np.array([], np.int64)) == 0


@pytest.mark.parametrize("spec", ["slippy", "slippy:21", "slippy:-1", "h3:16", "h3:x", "s2:4", "", "places.csv"])
def test_unknown_regions(spec):
    with pytest.raises(SettingError, match=r"slippy|Slippy|H3"):
        partition(spec)


class TestMeasure:
    def test_areas_on_the_sphere(self):
        octant, zone = shapely.box(0, 0, 90, 90), shapely.box(-180, 30, 180, 31)
        sphere = 4 * np.pi * EARTH_RADIUS_KM**2
        belt = sphere / 2 * (np.sin(np.radians(31)) - np.sin(np.radians(30)))
        np.testing.assert_allclose(area_km2(array(octant, zone)), [sphere / 8, belt])

    def test_a_hole_and_parts(self):
        whole, hole, apart = shapely.box(0, 0, 2, 2), shapely.box(0.5, 0.5, 1, 1), shapely.box(5, 5, 6, 6)
        both = shapely.MultiPolygon([whole - hole, apart])
        a, b, c = area_km2(array(whole, hole, apart))
        assert area_km2(array(both))[0] == pytest.approx(a - b + c)

    def test_a_small_house_far_from_the_origin(self):
        metre = 1 / 111_195.08
        lat = 60.0
        house = shapely.box(179, lat, 179 + 10 * metre / np.cos(np.radians(lat)), lat + 10 * metre)
        assert area_km2(array(house))[0] * 1e6 == pytest.approx(100, rel=1e-5)

    def test_lengths(self):
        way = shapely.LineString([(10, 50), (10.01, 50.005), (10.02, 50)])
        places = np.array(way.coords)
        assert length_km(array(way))[0] == pytest.approx(great_circle_km(places[1:], places[:-1]).sum(), rel=1e-7)
        parallel = shapely.LineString([(0, 60), (90, 60)])
        assert length_km(array(parallel))[0] == pytest.approx(EARTH_RADIUS_KM * np.pi / 4)

    def test_measures_by_kind(self):
        kinds = array(None, shapely.Point(), shapely.Point(1, 1), shapely.MultiPoint([(0, 0), (1, 1)]))
        assert measure(kinds).tolist() == [0, 0, 1, 2]
        assert len(measure(np.empty(0, object))) == 0


class TestUnwrapped:
    def test_shapes_that_stay(self):
        shapes = city(16)
        assert (unwrapped(shapes) == shapes).all()

    def test_a_hole_comes_along(self):
        shell = [(170, 0), (-170, 0), (-170, 10), (170, 10)]
        hole = [(-178, 4), (-176, 4), (-176, 6), (-178, 6)]
        (got,) = unwrapped(array(shapely.Polygon(shell, [hole])))
        assert got.is_valid
        assert got.area == pytest.approx(196)

    def test_edges_as_written(self):
        wide = array(shapely.box(-170, -10, 170, 10))
        assert shapely.equals(unwrapped(wide, short_way=False), wide).all()
        assert unwrapped(wide)[0].bounds == (170, -10, 190, 10)

    def test_a_ring_round_the_south_pole(self):
        ring = shapely.Polygon([(0, -80), (-120, -80), (120, -80)])
        (cap,) = unwrapped(array(ring))
        assert cap.bounds[1] == -90
        assert cap.area == pytest.approx(3600)


def write(path, features, crs=None):
    collection = {"type": "FeatureCollection", "features": features}
    if crs:
        collection["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(collection))
    return path


def feature(shape, **properties):
    return {"type": "Feature", "properties": properties, "geometry": shapely.geometry.mapping(shape)}


class TestOwn:
    def test_brute_force_with_overlap_holes_and_parts(self, tmp_path):
        x, y = HELSINKI
        own = [
            shapely.Point(x, y).buffer(0.01),
            shapely.Point(x + 0.005, y).buffer(0.012, quad_segs=3) - shapely.Point(x + 0.004, y).buffer(0.003),
            shapely.MultiPolygon(
                [shapely.box(x - 0.02, y - 0.02, x, y - 0.01), shapely.box(x, y, x + 0.004, y + 0.02)]
            ),
        ]
        path = write(tmp_path / "own.geojson", [feature(s, region_id=n) for s, n in zip(own, "abc", strict=True)])
        grid, shapes = partition(str(path)), city(64)
        members = grid.members(shapes)
        assert pairs_of(members) == brute(shapes, range(3), own)
        assert grid.ids(np.array([2, 0])) == ["c", "a"]
        assert grid.about == {"cells": "own.geojson", "regions": 3, "mended": 0}
        assert grid.files == (path,)
        assert grid.all_keys().tolist() == [0, 1, 2]
        for i, key, part, share in zip(members.rows, members.keys, members.geometry, members.shares, strict=True):
            assert part.hausdorff_distance(shapes[i].intersection(own[key])) < 1e-12
            assert share == pytest.approx(measure(array(part))[0] / measure(shapes[[i]])[0], rel=1e-6)

    def test_another_reference_system(self, tmp_path):
        box = shapely.box(*HELSINKI, *(HELSINKI + 0.01))
        table = geopandas.GeoDataFrame({"id": [7]}, geometry=[box], crs="OGC:CRS84")
        table.to_crs(3067).to_parquet(tmp_path / "tm35.parquet")
        table.to_crs(3067).to_file(tmp_path / "tm35.geojson")
        for name in ("tm35.parquet", "tm35.geojson"):
            grid = partition(tmp_path / name)
            assert grid.ids(grid.all_keys()) == ["7"]
            assert grid.outlines(grid.all_keys())[0].hausdorff_distance(box) < 1e-7

    def test_the_index_names_regions(self, tmp_path):
        boxes = [shapely.box(0, 0, 1, 1), shapely.box(2, 0, 3, 1)]
        table = geopandas.GeoDataFrame(geometry=boxes, crs=4326, index=["north", "south"])
        table.to_parquet(tmp_path / "a.parquet")
        grid = partition(tmp_path / "a.parquet")
        assert grid.ids(grid.all_keys()) == ["north", "south"]
        np.testing.assert_allclose(grid.centre(grid.all_keys()), [[0.5, 0.5], [2.5, 0.5]])

    def test_centres_lie_inside(self, tmp_path):
        moon = shapely.Point(0, 0).buffer(1) - shapely.Point(0.5, 0).buffer(1)
        grid = partition(write(tmp_path / "a.geojson", [feature(moon)]))
        assert moon.contains(shapely.Point(grid.centre(np.array([0]))[0]))

    def test_invalid_ones_are_mended_and_counted(self, tmp_path):
        bow = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
        grid = partition(write(tmp_path / "a.geojson", [feature(bow), feature(shapely.box(3, 3, 4, 4))]))
        assert grid.about["mended"] == 1
        assert grid.outlines(np.array([0]))[0].is_valid

    @pytest.mark.parametrize("joined", [True, False])
    def test_across_the_antimeridian(self, tmp_path, joined):
        fiji = [shapely.box(178, -18, 180, -16), shapely.box(-180, -18, -179, -16)]
        fiji = shapely.box(178, -18, 181, -16) if joined else shapely.MultiPolygon(fiji)
        grid = partition(write(tmp_path / "a.geojson", [feature(fiji)]))
        np.testing.assert_allclose(shapely.bounds(grid.outlines(np.array([0])))[0], [178, -18, 181, -16])
        shapes = array(shapely.Point(-179.5, -17), shapely.LineString([(179, -17), (-178, -17)]), shapely.Point(0, 0))
        members = grid.members(shapes)
        assert members.rows.tolist() == [0, 1]
        np.testing.assert_allclose(members.shares, [1, 2 / 3])
        np.testing.assert_allclose(shapely.bounds(members.geometry)[:, 2], [180.5, 181])

    def test_what_is_refused(self, tmp_path):
        box = shapely.box(0, 0, 1, 1)
        twice = write(tmp_path / "twice.geojson", [feature(box, region_id="x"), feature(box, region_id="x")])
        with pytest.raises(DataError, match="'x' names rows 0 and 1"):
            partition(twice)
        without = write(tmp_path / "without.geojson", [feature(box, region_id="x"), feature(box, region_id=None)])
        with pytest.raises(DataError, match="row 1 has none"):
            partition(without)
        metres = write(tmp_path / "metres.geojson", [feature(shapely.box(385000, 6671000, 386000, 6672000))])
        with pytest.raises(DataError, match="are no degrees"):
            partition(metres)
        line = write(tmp_path / "line.geojson", [feature(box), feature(shapely.LineString([(0, 0), (1, 1)]))])
        with pytest.raises(DataError, match=r"row 1 .* has no area"):
            partition(line)
        geopandas.GeoDataFrame(geometry=[box]).to_parquet(tmp_path / "nowhere.parquet")
        with pytest.raises(DataError, match="coordinate reference system"):
            partition(tmp_path / "nowhere.parquet")
        (tmp_path / "broken.geojson").write_text("{")
        with pytest.raises(DataError, match="no readable"):
            partition(tmp_path / "broken.geojson")
        with pytest.raises(DataError, match="no file"):
            partition(tmp_path / "absent.geojson")
        with pytest.raises(DataError, match=r"0 rows|no geometries"):
            partition(write(tmp_path / "none.geojson", []))
