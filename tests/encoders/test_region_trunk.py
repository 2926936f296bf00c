import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.encoders.region import RegionTrunk, centres_and_sizes, patches
from graticule.encoders.shapes import POSITION_DIM, SHAPE_DIM, shapes
from graticule.encoders.tags import TagTable
from graticule.encoders.text import NgramTrunk
from graticule.errors import DataError, SettingError
from graticule.geo.cells import slippy_tiles, tile_bounds
from graticule.geo.coords import EARTH_RADIUS_KM, great_circle_km, lonlat, offset_km
from graticule.geo.region import Region
from graticule.geo.tokens import join

shapely = pytest.importorskip("shapely")

COUNTS = {"building=yes": 9, "highway=path": 5, "natural=tree": 4, "building:levels=2": 3}
TAGS = ({"building": "yes"}, {"highway": "path"}, {"natural": "tree"}, {}, {"building": "yes", "building:levels": "2"})


def region(seed, entities, at=(11.5, 48.1), image=None, covered=None):
    rng = np.random.default_rng(seed)
    centre = np.array([at], dtype=np.float64)

    def around(east, north, reach, number):
        xy = np.array([[east, north]]) + rng.uniform(-reach, reach, (number, 2))
        return np.concatenate([offset_km(centre, *p[:, None])[0] for p in xy])

    geometries = []
    for i in range(entities):
        points = around(*rng.uniform(-0.3, 0.3, 2), 0.05, (1, 3, 4)[i % 3])
        kind = (
            lambda xy: shapely.points(xy[0]),
            shapely.linestrings,
            lambda xy: shapely.convex_hull(shapely.multipoints(xy)),
        )
        geometries.append(shapely.to_wkb(kind[i % 3](points)))
    corners = np.concatenate(
        [offset_km(centre, e, n)[0] for e, n in ((-0.3, -0.3), (0.3, -0.3), (0.3, 0.3), (-0.3, 0.3))]
    )
    corners[:, 0] += np.where(corners[:, 0] < corners[0, 0] - 180, 360, 0)  # runs on past the antimeridian
    return Region(
        shapely.to_wkb(shapely.polygons(corners)),
        tuple(f"way/{i}" for i in range(entities)),
        tuple(TAGS[i] for i in rng.integers(0, len(TAGS), entities)),
        tuple(geometries),
        (1.0,) * entities,
        image,
        covered,
    )


@pytest.fixture(scope="module")
def trunk():
    return RegionTrunk(TagTable.build(COUNTS, NgramTrunk(24)), frequent=3)


@pytest.fixture(scope="module")
def regions():
    return [region(0, 12), region(1, 0), region(2, 7, at=(179.999, -16.5)), region(3, 1, at=(25, 78.2)), region(4, 30)]


def test_tokens_are_in_the_order_of_the_entities(trunk, regions):
    tokens = trunk(regions)
    assert len(tokens) == 5
    assert tokens.offsets.tolist() == [0, 12, 12, 19, 20, 50]
    assert tokens.geometry.shape == (50, SHAPE_DIM)
    assert tokens.position.shape == (50, POSITION_DIM)
    assert tokens.patches is None
    assert tokens.seen is None
    for number, one in enumerate(regions):
        for i in range(len(one)):
            row = tokens.offsets[number] + i
            alone = trunk([one.take(np.array([i]))])
            np.testing.assert_allclose(tokens.geometry[row], alone.geometry[0], atol=1e-6)
            np.testing.assert_allclose(tokens.position[row], alone.position[0], atol=1e-6)
            np.testing.assert_array_equal(tokens.tag_sets[tokens.tags[row]], alone.tag_sets[alone.tags[0]])
            held = [f"{key}={value}" for key, value in one.tags[i].items()]
            expected = [tag in held for tag in ("building=yes", "highway=path", "natural=tree")]
            assert tokens.frequent[tokens.tags[row]].tolist() == expected
    assert (np.abs(tokens.geometry).max(axis=1) > 0).all()
    assert np.abs(tokens.position[:, :2]).max() < 1.4


def test_neighbours_in_the_region_and_in_the_batch_change_nothing(trunk, regions):
    together, apart = trunk(regions), join([trunk([one]) for one in regions])
    np.testing.assert_array_equal(together.offsets, apart.offsets)
    np.testing.assert_allclose(together.geometry, apart.geometry, atol=1e-6)
    np.testing.assert_allclose(together.position, apart.position, atol=1e-6)
    np.testing.assert_array_equal(together.tag_sets[together.tags], apart.tag_sets[apart.tags])
    np.testing.assert_array_equal(together.frequent[together.tags], apart.frequent[apart.tags])
    order = np.random.default_rng(0).permutation(30)
    shuffled = trunk([regions[4].take(order)])
    np.testing.assert_allclose(shuffled.geometry, together.geometry[20:][order], atol=1e-6)


def test_the_two_halves(trunk, regions):
    tokens = trunk(regions)
    geometry, position = trunk.shape_rows(regions)
    np.testing.assert_array_equal(geometry, tokens.geometry)
    np.testing.assert_array_equal(position, tokens.position)
    without = [{k: v for k, v in tags.items() if k != "building"} for one in regions for tags in one.tags]
    tags, tag_sets = trunk.tag_rows(without)
    bare = trunk(
        [replace(one, tags=tuple({k: v for k, v in t.items() if k != "building"} for t in one.tags)) for one in regions]
    )
    np.testing.assert_array_equal(tags, bare.tags)
    np.testing.assert_array_equal(tag_sets, bare.tag_sets)
    np.testing.assert_array_equal(bare.geometry, geometry)


def test_nothing_at_all(trunk):
    for contents, n in (([], 0), ([region(1, 0)], 1)):
        tokens = trunk(contents)
        assert len(tokens) == n
        assert tokens.offsets.dtype == np.int64
        assert tokens.tags.shape == (0,)
        assert tokens.geometry.shape == (0, SHAPE_DIM)
        assert tokens.position.shape == (0, POSITION_DIM)
        assert tokens.tag_sets.shape == (1, 24)
        assert tokens.frequent.shape == (1, 3)


def test_rebuilt_from_its_file_and_config(tmp_path, trunk, regions):
    trunk.tags.save(tmp_path / "tags.safetensors")
    again = RegionTrunk(tmp_path / "tags.safetensors", **trunk.config)
    assert again.identity() == trunk.identity() == json.loads(json.dumps(trunk.identity()))
    assert again.kind == "region"
    np.testing.assert_array_equal(again(regions).tag_sets, trunk(regions).tag_sets)
    np.testing.assert_array_equal(again(regions).frequent, trunk(regions).frequent)
    others = [RegionTrunk(trunk.tags, **options) for options in ({}, {"patch_pixels": 8}, {"frequent": 4})]
    assert trunk.identity() not in [other.identity() for other in others]
    assert others[0](regions).frequent is None
    for options in ({"patch_pixels": 0}, {"frequent": -1}):
        with pytest.raises(SettingError, match=r"patch_pixels >= 1 and frequent >= 0, got (0 and 0|16 and -1)"):
            RegionTrunk(trunk.tags, **options)


def test_position_is_relative_to_the_region(trunk):
    one = region(5, 1)
    centre, size = centres_and_sizes([one.outline])
    assert size[0] == pytest.approx(0.6, rel=1e-5)
    assert great_circle_km(centre, np.array([[11.5, 48.1]]))[0] < 1e-5
    point = shapely.to_wkb(shapely.points(offset_km(centre, 0.15, -0.3)[0, 0]))
    tokens = trunk([replace(one, geometries=(point,))])
    np.testing.assert_allclose(tokens.position[0, :2], [0.5, -1], atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.floats(-180, 179.9), st.floats(-84, 84), st.integers(4, 17))
def test_centre_and_size_of_tiles(lon, lat, zoom):
    tile = slippy_tiles(lonlat(lon=[lon], lat=[lat]), zoom)
    west, south, east, north = (float(x) for x in np.ravel(tile_bounds(tile, zoom)))
    centre, size = centres_and_sizes([shapely.to_wkb(shapely.box(west, south, east, north))])
    band = np.sin(np.radians(north)) - np.sin(np.radians(south))
    assert size[0] == pytest.approx(EARTH_RADIUS_KM * np.sqrt(np.radians(east - west) * band), rel=1e-6)
    assert (centre[0, 0] - (west + east) / 2 + 180) % 360 - 180 == pytest.approx(0, abs=1e-6 * (east - west))
    assert south < centre[0, 1] < north
    if zoom > 8:
        assert centre[0, 1] == pytest.approx((south + north) / 2, abs=0.02 * (north - south))


@pytest.mark.parametrize(
    ("wkt", "centre"),
    [
        ("POLYGON ((-180 80, 180 80, 180 90, -180 90, -180 80))", (None, 90)),  # a cap around a pole
        ("POLYGON ((-180 -90, 180 -90, 180 -60, -180 -60, -180 -90))", (None, -90)),
        ("POLYGON ((179 -17, 181 -17, 181 -15, 179 -15, 179 -17))", (180, -16)),
        ("MULTIPOLYGON (((10 0, 11 0, 11 1, 10 1, 10 0)), ((13 0, 14 0, 14 1, 13 1, 13 0)))", (12, 0.5)),
        ("POLYGON ((0 0, 3 0, 3 3, 0 3, 0 0), (1 1, 2 1, 2 2, 1 2, 1 1))", (1.5, 1.5)),
        ("POLYGON ((-180 -90, 180 -90, 180 90, -180 90, -180 -90))", (0, 0)),  # the whole Earth has no centre
    ],
)
def test_centres_of_odd_outlines(wkt, centre):
    found, size = centres_and_sizes([shapely.to_wkb(shapely.from_wkt(wkt))])
    expected = np.array([[0 if centre[0] is None else centre[0], centre[1]]], dtype=np.float64)
    assert great_circle_km(found, expected)[0] < 0.2
    assert size[0] > 100


def test_centre_of_a_small_region_is_exact():
    """100 m: far below where the digits of points on the unit sphere end."""
    outline = shapely.box(11.5, 48.1, 11.5012, 48.1009)
    found, size = centres_and_sizes([shapely.to_wkb(outline)])
    assert great_circle_km(found, np.array([[11.5006, 48.10045]]))[0] < 1e-6
    assert size[0] == pytest.approx(0.0945, abs=0.001)


@pytest.mark.parametrize("wkt", ["POINT (1 2)", "LINESTRING (1 2, 2 3)", "POLYGON ((1 1, 2 2, 1 1, 1 1))"])
def test_outlines_without_area_are_named(wkt):
    square = shapely.to_wkb(shapely.box(0, 0, 1, 1))
    with pytest.raises(DataError, match="for region 1"):
        centres_and_sizes([square, shapely.to_wkb(shapely.from_wkt(wkt))])


def test_patches_are_a_grid_of_pixels():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 8, 12), dtype=np.uint8)
    covered = np.ones((8, 12), dtype=bool)
    covered[5, 9] = False
    values, seen = patches([region(0, 1), region(0, 2, image=image, covered=covered), region(0, 0, image=image)], 4)
    assert values.shape == (3, 6, 48)
    assert values.dtype == np.float32
    assert seen.tolist() == [[False] * 6, [True] * 5 + [False], [True] * 6]
    for i in range(2):
        for j in range(3):
            expected = image[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].reshape(-1) / 255 * 2 - 1
            np.testing.assert_allclose(values[2, 3 * i + j], expected, atol=1e-6)
    assert not values[0].any()
    assert not values[1, 5].any()


def test_patches_by_dtype():
    def first(array):
        return patches([region(0, 0, image=array)], 4)[0][0, 0, 0]

    assert first(np.full((1, 4, 4), 5000, dtype=np.uint16)) == 0
    assert first(np.full((1, 4, 4), 255, dtype=np.uint8)) == 1
    assert first(np.full((1, 4, 4), -0.25, dtype=np.float32)) == -0.25
    holes = np.zeros((2, 4, 8), dtype=np.float32)
    holes[1, 0, 5] = np.nan
    values, seen = patches([region(0, 0, image=holes)], 4)
    assert np.isfinite(values).all()
    assert seen.tolist() == [[True, False]]


def test_images_of_several_forms_are_refused():
    one, other = (region(0, 0, image=np.zeros((3, n, n), dtype=np.uint8)) for n in (32, 48))
    with pytest.raises(DataError, match="in region 1"):
        patches([one, other], 16)
    with pytest.raises(DataError, match="multiples of patch_pixels=20"):
        patches([one], 20)
    assert patches([region(0, 3)], 16) is None


def test_tokens_with_images(trunk):
    image = np.full((3, 32, 32), 100, dtype=np.uint8)
    covered = np.zeros((32, 32), dtype=bool)
    covered[:, :16] = True
    tokens = trunk([region(0, 4, image=image), region(1, 5), region(2, 6, image=image, covered=covered)])
    assert tokens.patches.shape == (3, 4, 768)
    assert tokens.lengths.tolist() == [8, 5, 8]


def test_shapes_know_nothing_of_tags_or_identity(trunk):
    one = region(9, 6)
    tokens = trunk([replace(one, ids=tuple(f"node/{i}" for i in range(6)), shares=(0.5,) * 6)])
    centre, size = centres_and_sizes([one.outline])
    expected = shapes(shapely.from_wkb(list(one.geometries)), np.repeat(centre, 6, axis=0), np.repeat(size, 6))
    np.testing.assert_allclose(tokens.geometry, expected[0], atol=1e-6)
    np.testing.assert_allclose(tokens.position, expected[1], atol=1e-6)
