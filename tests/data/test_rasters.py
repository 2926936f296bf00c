import os
import warnings
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning

from graticule.data import rasters
from graticule.data.rasters import patch_grid, raster
from graticule.data.source import Row, Skip
from graticule.errors import CoordinateError, DataError, SettingError
from graticule.geo.coords import offset_km

WORLD = (-180, -90, 180, 90)


def write(path, pixels, *, crs=None, transform=None, nodata=None, **options):
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype, "nodata": nodata}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **shape, **options) as dataset:
            dataset.write(pixels)
    return path


def world(path, height=90, *, bands=2, dtype="uint8", seed=0):
    """A world map of random pixels in plate carrée, and the pixels."""
    pixels = np.random.default_rng(seed).integers(1, 250, (bands, height, 2 * height)).astype(dtype)
    step = 180 / height
    return write(path, pixels, crs="EPSG:4326", transform=Affine(step, 0, -180, 0, -step, 90)), pixels


def naive(pixels, place, size_km, count):
    """One patch of a plate carrée world map, one sample at a time."""
    _, height, width = pixels.shape
    patch = np.zeros((len(pixels), count, count), pixels.dtype)
    cell = size_km / count
    for r in range(count):
        for c in range(count):
            east, north = (c - (count - 1) / 2) * cell, ((count - 1) / 2 - r) * cell
            lon, lat = offset_km(np.array([place]), [east], [north])[0, 0]
            column = int((lon + 180) / 360 * width) % width
            row = min(int((90 - lat) / 180 * height), height - 1)
            patch[:, r, c] = pixels[:, row, column]
    return patch


def rows(source, start=0):
    return list(source.records(start))


@pytest.mark.parametrize(
    "place", [(10.3, 48.2), (179.99, -16.7), (-180.0, 5.0), (33.0, 90.0), (-70.0, -89.9), (0.0, 60.0)]
)
def test_patch_is_the_naive_loop_everywhere_on_earth(tmp_path, place):
    path, pixels = world(tmp_path / "w.tif")
    (row,) = rows(raster(path, lon=place[0], lat=place[1], size_km=2000, pixels=9))
    assert isinstance(row, Row)
    np.testing.assert_array_equal(row.content, naive(pixels, place, 2000, 9))
    assert row.content.dtype == np.uint8
    assert (row.lon, row.lat) == pytest.approx(place)


@settings(deadline=None, max_examples=30)
@given(st.floats(-180, 180), st.floats(-90, 90), st.sampled_from([50.0, 700.0, 5000.0]))
def test_any_place_any_size(tmp_path_factory, lon, lat, size_km):
    path, pixels = world(tmp_path_factory.mktemp("w") / "w.tif", 60)
    (row,) = rows(raster(path, lon=lon, lat=lat, size_km=size_km, pixels=4))
    if size_km < 1000:  # 3 degrees = 333 km a pixel: nearest pixel, no reduction
        np.testing.assert_array_equal(row.content, naive(pixels, (row.lon, row.lat), size_km, 4))
    else:
        assert row.content.min() >= pixels.min()
        assert row.content.max() <= pixels.max()


def test_patch_grid_is_north_up_and_centred():
    east, north = patch_grid(30.0, 3)
    np.testing.assert_allclose(east.reshape(3, 3)[0], [-10, 0, 10])
    np.testing.assert_allclose(north.reshape(3, 3)[:, 0], [10, 0, -10])


def test_twice_the_columns_at_60_north(tmp_path):
    columns = np.broadcast_to(np.arange(720, dtype="uint16"), (360, 720)).copy()
    path = write(tmp_path / "w.tif", columns, crs="EPSG:4326", transform=Affine(0.5, 0, -180, 0, -0.5, 90))
    span = []
    for row in rows(raster(path, lon=[20.3, 20.3], lat=[0, 60], size_km=1112, pixels=11)):
        middle = row.content[0, 5].astype(int)
        span.append(middle[-1] - middle[0])
    assert span[0] == pytest.approx(1112 * 10 / 11 / 55.6, abs=1)
    assert span[1] == pytest.approx(2 * span[0], abs=2)


def test_seam_does_not_show_in_a_smooth_field(tmp_path):
    lon = np.radians(np.arange(720) / 2 - 179.75)
    smooth = np.broadcast_to(10000 + 5000 * np.cos(lon), (360, 720)).astype("uint16")
    path = write(tmp_path / "w.tif", smooth, crs="EPSG:4326", transform=Affine(0.5, 0, -180, 0, -0.5, 90))
    (row,) = rows(raster(path, lon=180, lat=0, size_km=1000, pixels=17))
    assert np.abs(np.diff(row.content[0].astype(int), axis=1)).max() < 60


def test_world_from_0_to_360_degrees(tmp_path):
    pixels = np.arange(36 * 18, dtype="uint16").reshape(18, 36)
    path = write(tmp_path / "w.tif", pixels, crs="EPSG:4326", transform=Affine(10, 0, 0, 0, -10, 90))
    (row,) = rows(raster(path, lon=-5, lat=85, size_km=1, pixels=1))
    assert row.content.item() == pixels[0, 35]


def test_jpeg_without_reference_needs_bounds(tmp_path):
    from PIL import Image

    grey = np.zeros((90, 180, 3), np.uint8)
    grey[:45] = 200
    Image.fromarray(grey).save(tmp_path / "map.jpg", quality=95)
    with pytest.raises(DataError, match=r"map\.jpg has no georeference.*bounds="):
        raster(tmp_path / "map.jpg", lon=0, lat=0)
    source = raster(tmp_path / "map.jpg", lon=[0, 0], lat=[45, -45], bounds=WORLD)
    north, south = rows(source)
    assert north.content.mean() == pytest.approx(200, abs=3)
    assert south.content.mean() == pytest.approx(0, abs=3)
    assert source.bands == ("red", "green", "blue")


def test_rasters_on_different_grids_are_stacked_as_bands(tmp_path):
    first, a = world(tmp_path / "a.tif", 90, bands=2, seed=1)
    second, b = world(tmp_path / "b.tif", 90, bands=1, seed=2)
    third, c = world(tmp_path / "c.tif", 60, bands=1, seed=3)
    source = raster([first, second, third], lon=[100, -170], lat=[20, 70], size_km=1500, pixels=5)
    for row in rows(source):
        place = (row.lon, row.lat)
        expected = np.concatenate([naive(x, place, 1500, 5) for x in (a, b, c)])
        np.testing.assert_array_equal(row.content, expected)
    assert source.bands == ("a:gray", "a:band2", "b:gray", "c:gray")
    assert source.files == (first, second, third)


def test_projected_raster_by_pyproj(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60000, (1, 80, 80)).astype("uint16")
    path = write(tmp_path / "u.tif", pixels, crs="EPSG:32633", transform=Affine(1000, 0, 460000, 0, -1000, 5240000))
    (row,) = rows(raster(path, lon=15, lat=47, size_km=12, pixels=7))
    to = pyproj.Transformer.from_crs(4326, 32633, always_xy=True)
    cell = 12 / 7
    for r in range(7):
        for c in range(7):
            lon, lat = offset_km(np.array([[15.0, 47.0]]), [(c - 3) * cell], [(3 - r) * cell])[0, 0]
            x, y = to.transform(lon, lat)
            expected = pixels[0, int((5240000 - y) // 1000), int((x - 460000) // 1000)]
            assert row.content[0, r, c] == expected


def test_web_mercator_wraps_and_ends_at_85_degrees(tmp_path):
    half = np.pi * 6378137
    pixels = np.arange(64 * 64, dtype="uint16").reshape(64, 64)
    step = 2 * half / 64
    path = write(tmp_path / "m.tif", pixels, crs="EPSG:3857", transform=Affine(step, 0, -half, 0, -step, half))
    first, second, third = rows(raster(path, lon=[180, 0, 0], lat=[1, 89, -90], size_km=600, pixels=4))
    assert set((first.content % 64).reshape(-1).tolist()) == {0, 63}  # both sides of the antimeridian
    assert second == Skip("outside the raster", "1")
    assert third == Skip("outside the raster", "2")


def test_tiles_give_what_memory_gives(tmp_path, monkeypatch):
    path, _ = world(tmp_path / "w.tif", 128, bands=3)
    rng = np.random.default_rng(5)
    lon, lat = rng.uniform(-180, 180, 60), rng.uniform(-90, 90, 60)
    options = {"lon": lon, "lat": lat, "size_km": 900, "pixels": 6}
    held = [row.content for row in rows(raster(path, **options))]
    monkeypatch.setattr(rasters, "HELD_IN_MEMORY", 20_000)
    monkeypatch.setattr(rasters, "TILE_PIXELS", 48)
    monkeypatch.setattr(rasters, "POINTS_PER_CHUNK", 36 * 7)
    calls = []
    monkeypatch.setattr(rasters, "read", lambda *a, real=rasters.read: calls.append(a[1]) or real(*a))
    tiled = [row.content for row in rows(raster(path, **options))]
    np.testing.assert_array_equal(held, tiled)
    assert max(window.width for window in calls) <= 48


@pytest.mark.parametrize("limit", [10**9, 1000])
def test_sparse_samples_take_area_means(tmp_path, monkeypatch, limit):
    """A checkerboard of 0 and 200 sampled four pixels apart is 100 everywhere, not a moiré of 0 and 200."""
    monkeypatch.setattr(rasters, "HELD_IN_MEMORY", limit)
    checks = (np.indices((360, 720)).sum(axis=0) % 2 * 200).astype("uint8")
    path = write(tmp_path / "w.tif", checks, crs="EPSG:4326", transform=Affine(0.5, 0, -180, 0, -0.5, 90))
    for row in rows(raster(path, lon=[3.1, 179.9], lat=[10.2, 0], size_km=0.5 * 111.2 * 4.2 * 8, pixels=8)):
        assert np.abs(row.content.astype(int) - 100).max() <= 1


def test_off_the_raster_and_without_data(tmp_path):
    pixels = np.full((40, 40), 7, "uint8")
    pixels[:, :20] = 0
    path = write(tmp_path / "p.tif", pixels, crs="EPSG:4326", transform=Affine(0.1, 0, 10, 0, -0.1, 50), nodata=0)
    source = raster(path, lon=[13, 10.5, 30, 12.1, 14.0], lat=[48] * 5, ids=list("abcde"), size_km=60, pixels=6)
    a, b, c, d, e = rows(source)
    assert isinstance(a, Row)
    assert (a.content == 7).all()
    assert b == Skip("no data", "b")
    assert c == Skip("outside the raster", "c")
    assert isinstance(d, Row)
    assert (d.content == 0).any()
    assert isinstance(e, Row)  # just half of it lies on the raster
    assert (e.content == 7).mean() == 0.5


def test_start_skips_without_changing_what_follows(tmp_path, monkeypatch):
    monkeypatch.setattr(rasters, "POINTS_PER_CHUNK", 9 * 4)
    path, _ = world(tmp_path / "w.tif")
    source = raster(path, lon=np.linspace(-180, 180, 23), lat=np.linspace(-90, 90, 23), pixels=3)
    everything = rows(source)
    assert source.total == len(everything) == 23
    for start in (0, 1, 5, 22, 23):
        later = rows(source, start)
        assert [r.id for r in later] == [r.id for r in everything[start:]]
        for x, y in zip(later, everything[start:], strict=True):
            np.testing.assert_array_equal(x.content, y.content)


def test_wrong_input_is_named(tmp_path):
    path, _ = world(tmp_path / "w.tif")
    with pytest.raises(CoordinateError, match="swapped"):
        raster(path, lon=[10], lat=[113.4])
    with pytest.raises(DataError, match="one entry a place, got 1 for 2"):
        raster(path, lon=[1, 2], lat=[1, 2], ids=["a"])
    with pytest.raises(SettingError, match="pixels at least 1"):
        raster(path, lon=1, lat=1, pixels=0)
    with pytest.raises(DataError, match="at least one path"):
        raster([], lon=1, lat=1)
    (tmp_path / "broken.tif").write_bytes(b"no raster")
    with pytest.raises(DataError, match=r"broken\.tif cannot be read"):
        raster(tmp_path / "broken.tif", lon=1, lat=1)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"w\.tif is damaged"):
        rows(raster(path, lon=1, lat=-80))


def test_real_blue_marble_by_month(request):
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name the folder of real data")
    folder = Path(os.environ["GRATICULE_DATA"]) / "satellite"
    paths = sorted((folder / "bluemarble_monthly").glob("world.*.jpg"))[:7:6]  # January and July
    source = raster(paths, lon=[28, -100, 23], lat=[63, 58, 23], bounds=WORLD)  # Finland, Canada, Sahara
    finland, canada, sahara = (row.content.reshape(2, 3, -1).mean(axis=(1, 2)) for row in source.rows())
    assert finland[0] > 1.5 * finland[1]  # snow in January
    assert canada[0] > 1.5 * canada[1]
    assert sahara[0] == pytest.approx(sahara[1], rel=0.15)
    (row,) = raster(folder / "bluemarble_z7.tif", lon=23, lat=23, size_km=10).rows()  # 32768 x 32768, by tiles
    red, _, blue = row.content.reshape(3, -1).mean(axis=1)
    assert red > 1.3 * blue
