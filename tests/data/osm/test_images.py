import json
import os
import warnings
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning

from graticule.data.osm import images
from graticule.data.osm.chips import _box
from graticule.data.osm.images import region_images, window
from graticule.data.rasters import layer
from graticule.errors import DataError, SettingError
from graticule.geo.cells import slippy_tiles, tile_bounds
from graticule.geo.coords import lonlat, offset_km, unit_sphere

WORLD = (-180, -90, 180, 90)


def write(path, pixels, *, crs="EPSG:4326", transform=None, nodata=None, seen=None, driver="GTiff", **options):
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype, "nodata": nodata}
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, crs=crs, transform=transform, **shape, **options) as dataset:
            dataset.write(pixels)
            if seen is not None:
                dataset.write_mask(seen)
    return path


def gradient(path, crs, transform, height, width, **options):
    """A raster of three bands that hold the place of the middle of each pixel, as a unit vector."""
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    a, b, c, d, e, f = transform[:6]
    to = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = to.transform(a * column + b * row + c, d * column + e * row + f)
    xyz = np.moveaxis(unit_sphere(np.stack([lon, lat], axis=-1)), -1, 0)
    return write(path, xyz, crs=crs, transform=transform, **options)


def sampled(outline, pixels, window_km=None):
    """The lon/lat of the middle of every pixel of a region's image, one at a time."""
    middle, (west, south, east, north) = window(outline, window_km)
    out = np.zeros((2, pixels, pixels))
    for r in range(pixels):
        for c in range(pixels):
            right, up = west + (c + 0.5) * (east - west) / pixels, north - (r + 0.5) * (north - south) / pixels
            out[:, r, c] = offset_km(middle, [right], [up])[0, 0]
    return out


def square(lon, lat, side):
    return shapely.box(lon - side / 2, lat - side / 2, lon + side / 2, lat + side / 2)


def away_km(image, expected):
    """How far from its place each pixel was taken."""
    return np.linalg.norm(np.moveaxis(image, 0, -1) - unit_sphere(np.moveaxis(expected, 0, -1)), axis=-1) * 6371


@pytest.mark.parametrize("window_km", [None, 30.0])
def test_every_pixel_comes_from_its_place(tmp_path, window_km):
    path = gradient(tmp_path / "g.tif", "EPSG:4326", Affine(0.01, 0, 10, 0, -0.01, 51), 200, 300)
    cut = region_images(path, pixels=8, window_km=window_km)
    outline = shapely.Polygon([(11, 50), (11.4, 50.1), (11.2, 50.3)])
    image, covered = cut(outline)
    assert image.shape == (3, 8, 8)
    assert image.dtype == np.float64
    assert covered.all()
    expected = sampled(outline, 8, window_km)
    away = away_km(image, expected)
    assert away.max() < 0.36 * (window_km or 30) / 8  # of four means, each half a mean off at most
    assert away.mean() < 0.2 * (window_km or 30) / 8
    assert (np.diff(image[1], axis=1) > 0).all()
    assert (np.diff(image[2], axis=0) < 0).all()  # north up


def test_window_is_true_to_size():
    middle, box = window(square(20, 60, 0.1), 25.0)
    np.testing.assert_allclose(middle, [[20, 60]])
    assert box == (-12.5, -12.5, 12.5, 12.5)
    _, (west, south, east, north) = window(square(20, 60, 0.1))
    assert east - west == pytest.approx(0.1 * 111.195 * np.cos(np.radians(59.95)), rel=1e-4)
    assert north - south == pytest.approx(0.1 * 111.195, rel=1e-3)
    assert east == pytest.approx(-west)


def test_image_of_a_slippy_tile_is_the_tile():
    """Sampled in the local frame, a tile of zoom 16 is the tile as drawn to a thousandth of a pixel."""
    bounds = tile_bounds(np.array([[37309, 18959]]), 16)[0]
    got = sampled(shapely.box(*bounds), 64)
    steps = (np.arange(64) + 0.5) / 64
    side = np.array([bounds[2] - bounds[0], bounds[3] - bounds[1]]) / 64
    assert np.abs(got[0] - (bounds[0] + steps * (bounds[2] - bounds[0]))).max() < 0.02 * side[0]
    assert np.abs(got[1] - (bounds[3] - steps * (bounds[3] - bounds[1]))[:, None]).max() < 0.02 * side[1]


@pytest.mark.parametrize(
    ("crs", "place"),
    [
        ("EPSG:32633", (15.0, 47.0)),
        ("EPSG:3857", (151.2, -33.9)),
        ("EPSG:3035", (10.0, 52.0)),
        ("EPSG:5041", (0.0, 90.0)),
        ("EPSG:3031", (45.0, -88.0)),
        ("EPSG:2193", (172.5, -43.5)),
        ("EPSG:32701", (-180.0, -16.5)),
        ("EPSG:4269", (-75.0, 40.0)),
    ],
)
def test_any_coordinate_system(tmp_path, crs, place):
    degrees = pyproj.CRS(crs).is_geographic
    pixel = 0.003 if degrees else 300.0
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(*place)
    turned = Affine.rotation(15) if crs == "EPSG:3035" else Affine.identity()
    transform = Affine.translation(x, y) @ turned @ Affine(pixel, 0, -50 * pixel, 0, -pixel, 50 * pixel)
    path = gradient(tmp_path / "g.tif", crs, transform, 100, 100)
    lon, lat = place
    side = 0.05
    outline = square(lon, min(lat, 90 - side / 2), side)
    image, covered = region_images(path, pixels=9, window_km=12)(outline)
    assert covered.all()
    assert away_km(image, sampled(outline, 9, 12)).max() < 0.36 * 12 / 9


def test_partial_cover_and_none(tmp_path):
    path = gradient(tmp_path / "g.tif", "EPSG:4326", Affine(0.001, 0, 10, 0, -0.001, 50), 100, 100)
    cut = region_images(path, pixels=20)
    image, covered = cut(square(10.0, 49.95, 0.04))  # its west half lies beyond
    assert not covered[:, :10].any()
    assert covered[:, 10:].all()
    assert (image[:, ~covered] == 0).all()
    assert (image[:, covered] != 0).all()
    for lon, lat in ((30, 40), (-170, -49.95), (10.05, -89.9)):
        image, covered = cut(square(lon, lat, 0.04))
        assert not covered.any()
        assert not image.any()


def halves(kind):
    """Pixels whose west half is missing, and how the file says so."""
    pixels = np.full((1, 40, 40), 7, "float32" if kind == "nan" else "uint8")
    seen = np.full((40, 40), 255, "uint8")
    seen[:, :20] = 0
    if kind == "alpha":
        return np.concatenate([pixels, pixels, pixels, seen[None]]), {"photometric": "rgb", "alpha": "yes"}
    if kind == "mask":
        return pixels, {"seen": seen}
    pixels[:, seen == 0] = np.nan if kind == "nan" else 0
    return pixels, {"nodata": 0} if kind == "nodata" else {}


@pytest.mark.parametrize("kind", ["alpha", "mask", "nodata", "nan"])
@pytest.mark.parametrize("pixels", [4, 9, 40, 100])
def test_missing_pixels_are_not_covered_and_not_averaged(tmp_path, kind, pixels):
    values, options = halves(kind)
    path = write(tmp_path / "h.tif", values, transform=Affine(0.001, 0, 10, 0, -0.001, 1), **options)
    cut = region_images(path, pixels=pixels)
    image, covered = cut(square(10.02, 0.98, 0.04))
    assert cut.bands == (("red", "green", "blue") if kind == "alpha" else ("gray",))
    middle = (pixels - 1) / 2
    assert not covered[:, : int(middle - 0.5)].any()
    assert covered[:, int(middle + 1.5) :].all()
    assert (image[:, covered] == 7).all()
    assert (image[:, ~covered] == 0).all()


def test_nodata_below_zero_and_zero_as_a_value(tmp_path):
    pixels = np.zeros((1, 30, 30), "int16")
    pixels[:, :10] = -9999
    path = write(tmp_path / "n.tif", pixels, transform=Affine(0.001, 0, 10, 0, -0.001, 1), nodata=-9999)
    image, covered = region_images(path, pixels=15)(square(10.015, 0.985, 0.03))
    assert image.dtype == np.int16
    assert covered.mean() == pytest.approx(2 / 3, abs=0.07)
    assert not image.any()


def test_finer_rasters_are_averaged(tmp_path):
    """A checkerboard of 0 and 200, ten of its pixels in one of the image, is 100 everywhere."""
    checks = (np.indices((400, 400)).sum(axis=0) % 2 * 200).astype("uint8")
    path = write(tmp_path / "c.tif", checks, transform=Affine(0.0001, 0, 10, 0, -0.0001, 1))
    image, covered = region_images(path, pixels=40)(square(10.02, 0.98, 0.04))
    assert covered.all()
    assert np.abs(image.astype(int) - 100).max() <= 5


def test_first_raster_that_has_a_pixel_wins(tmp_path):
    first, second = np.full((1, 20, 20), 1, "uint8"), np.full((1, 20, 20), 2, "uint8")
    first[:, :5] = 0
    a = write(tmp_path / "a.tif", first, transform=Affine(0.01, 0, 10, 0, -0.01, 1), nodata=0)
    b = write(tmp_path / "b.tif", second, transform=Affine(0.01, 0, 10.1, 0, -0.01, 1))
    outline = shapely.box(10, 0.8, 10.3, 1)
    image, covered = region_images([a, b], pixels=30)(outline)
    expected = np.full((30, 30), 2)
    expected[:, :20], expected[: 30 // 4, :10], expected[: 30 // 4, 10:20] = 1, 0, 2
    rows = [*range(6), *range(9, 30)]  # but those on the edge
    np.testing.assert_array_equal(image[0][rows], expected[rows])
    np.testing.assert_array_equal(covered[rows], expected[rows] > 0)
    image, _ = region_images([b, a], pixels=30)(outline)
    assert (image[0, :, 10:] == 2).all()


@pytest.mark.parametrize("outline", [square(180, -16.6, 0.4), square(-180, -16.6, 0.4)])
@pytest.mark.parametrize("west", [(-180.0, 179.5), (180.0, -180.5), (-180.0, -180.5)])
def test_chips_on_both_sides_of_the_antimeridian(tmp_path, outline, west):
    for name, lon, value in (("e", west[0], 1), ("w", west[1], 2)):
        pixels = np.full((50, 50), value, "uint8")
        write(tmp_path / f"{name}.tif", pixels, transform=Affine(0.01, 0, lon, 0, -0.01, -16.4))
    image, covered = region_images(tmp_path, pixels=10)(outline)
    assert covered.all()
    assert (image[0, :, :5] == 2).all()
    assert (image[0, :, 5:] == 1).all()


def test_whole_earth_has_no_seam_and_no_holes_at_the_poles(tmp_path):
    lon = np.radians(np.arange(720) / 2 - 179.75)
    smooth = np.broadcast_to(10000 + 5000 * np.cos(lon), (360, 720)).astype("uint16")
    path = write(tmp_path / "w.tif", smooth, crs=None)
    cut = region_images(path, pixels=16, window_km=1000, bounds=WORLD)
    image, covered = cut(square(180.01, 3, 0.2))
    assert covered.all()
    assert np.abs(np.diff(image[0].astype(int), axis=1)).max() < 60
    for lat in (-90, 90):
        _, covered = cut(shapely.box(-180, min(lat, 80), 180, max(lat, -80)))
        assert covered.all()


@settings(max_examples=25)
@given(st.floats(-180, 180), st.floats(-85, 85), st.floats(0.01, 300), st.integers(1, 12))
def test_anywhere_on_a_web_mercator_world(tmp_path_factory, lon, lat, window_km, pixels):
    half = np.pi * 6378137
    step = 2 * half / 512
    path = tmp_path_factory.getbasetemp() / "mercator.tif"
    if not path.exists():
        gradient(path, "EPSG:3857", Affine(step, 0, -half, 0, -step, half), 512, 512)
    outline = square(lon, lat, 0.01)
    image, covered = region_images(path, pixels=pixels, window_km=window_km)(outline)
    places = sampled(outline, pixels, window_km)
    inside = np.abs(places[1]) < 85.05
    assert (covered == inside)[np.abs(np.abs(places[1]) - 85.0511) > 1e-4].all()
    pixel_km = 40075 / 512 * np.cos(np.radians(places[1]))
    if covered.any():
        worst = np.where(covered, away_km(image, places) / (pixel_km + window_km / pixels), 0)
        assert worst.max() < 1.5


def test_boxes_hold_every_pixel(tmp_path):
    rng = np.random.default_rng(0)
    for i, crs in enumerate(("EPSG:3035", "EPSG:3413", "EPSG:3857", "EPSG:32660", "EPSG:5041", "ESRI:54009")):
        for size in (2e3, 3e5, 4e6):
            x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(*rng.uniform([20, 60], [170, 84]))
            transform = Affine(size / 50, 0, x, 0, -size / 50, y)
            path = write(tmp_path / f"{i}{size}.tif", np.zeros((50, 50), "uint8"), crs=crs, transform=transform)
            grid = layer(path, None).grid
            box = _box(grid)
            if box is None:
                continue
            column, row = rng.uniform(0, 50, (2, 2000))
            a, b, c, d, e, f = transform[:6]
            to = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
            lon, lat = to.transform(a * column + b * row + c, d * column + e * row + f)
            there = np.isfinite(lon)
            assert ((lon[there] - box[0]) % 360 <= box[2] - box[0]).all()
            assert (box[1] <= lat[there]).all()
            assert (lat[there] <= box[3]).all()


def tile_of(lon, lat, zoom):
    return slippy_tiles(lonlat(lon=lon, lat=lat), zoom)[0].tolist()


def slippy(folder, zoom, x, y, value, ending="png", alpha=None):
    pixels = np.full((3, 256, 256), value, "uint8")
    if alpha is not None:
        pixels = np.concatenate([pixels, np.broadcast_to(alpha, (1, 256, 256)).astype("uint8")])
    driver = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[ending]
    lossless = {"LOSSLESS": True} if ending == "webp" else {}
    path = write(folder / str(zoom) / str(x) / f"{y}.{ending}", pixels, crs=None, driver=driver, **lossless)
    (path.parent / (path.name + ".aux.xml")).unlink(missing_ok=True)


def test_slippy_tiles_of_two_zooms(tmp_path):
    lon, lat = -179.99, 65.0
    x, y = tile_of(lon, lat, 12)
    slippy(tmp_path, 12, x, y, 50)
    for i, (column, ending) in enumerate(((2 * x, "png"), (2 * x + 1, "jpg"))):
        slippy(tmp_path, 13, column, 2 * y + 1, 100 + 20 * i, ending, 255 if ending == "png" else None)
    (tmp_path / "preview.png").write_bytes(b"")
    cut = region_images(tmp_path, pixels=16)
    assert len(cut.files) == 3
    outline = shapely.box(*tile_bounds(np.array([[x, y]]), 12)[0])
    image, covered = cut(outline)
    assert covered[1:-1, 1:-1].all()
    inner = image[:, 1:-1, 1:-1].astype(int)
    assert (inner[:, :6] == 50).all()
    assert (np.abs(inner[:, 8:, :7] - 100) <= 2).all()
    assert (np.abs(inner[:, 8:, 7:] - 120) <= 2).all()


def test_slippy_tile_with_holes(tmp_path):
    alpha = np.repeat([0, 255], 128)[None]
    x, y = tile_of(10, 50, 16)
    slippy(tmp_path, 16, x, y, 9, alpha=alpha)
    image, covered = region_images(tmp_path / "16" / str(x) / f"{y}.png", pixels=10)(
        shapely.box(*tile_bounds(np.array([[x, y]]), 16)[0])
    )
    assert not covered[:, :5].any()
    assert covered[1:-1, 5:-1].all()
    assert (image[:, covered] == 9).all()


def test_little_memory_gives_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    for i in range(16):
        at = Affine(0.001, 0, 10 + 0.05 * (i % 4), 0, -0.001, 1 - 0.05 * (i // 4))
        write(tmp_path / f"{i}.tif", rng.integers(1, 255, (2, 50, 50)).astype("uint8"), transform=at)
    outlines = [square(*place, 0.06) for place in rng.uniform([10, 0.8], [10.2, 1], (30, 2))]
    cut = region_images(tmp_path, pixels=11)
    expected = [cut(outline) for outline in outlines]
    monkeypatch.setattr(images, "HELD", 12_000)
    tight = region_images(tmp_path, pixels=11)
    for outline, (image, covered) in zip(outlines, expected, strict=True):
        got = tight(outline)
        np.testing.assert_array_equal(got[0], image)
        np.testing.assert_array_equal(got[1], covered)
        assert tight._held == sum(mosaic.held for mosaic in tight._open.values()) <= 12_000
    monkeypatch.setattr(images, "WHOLE", 100)
    pieces = region_images(tmp_path, pixels=11)
    np.testing.assert_array_equal(pieces(outlines[0])[0], expected[0][0])


def test_only_the_chips_of_a_region_are_read(tmp_path, monkeypatch):
    for i in range(12):
        pixels = np.full((10, 10), i, "uint8")
        write(tmp_path / f"{i:02}.tif", pixels, transform=Affine(0.01, 0, 10 + 0.1 * i, 0, -0.01, 1))
    cut = region_images(tmp_path, pixels=5)
    for path in tmp_path.iterdir():
        if path.stem not in ("03", "04"):
            path.unlink()
    image, covered = cut(shapely.box(10.35, 0.92, 10.45, 0.98))
    assert covered.all()
    assert set(np.unique(image)) == {3, 4}


def test_bands_are_chosen_and_what_was_asked_for_is_told(tmp_path):
    pixels = np.arange(1, 5, dtype="uint16")[:, None, None] * np.ones((1, 20, 20), "uint16")
    write(tmp_path / "b.tif", pixels, transform=Affine(0.01, 0, 10, 0, -0.01, 1))
    (tmp_path / "._b.tif").write_bytes(b"")
    cut = region_images(str(tmp_path), pixels=6, window_km=3, bands=[4, 1])
    image, _ = cut(square(10.1, 0.9, 0.01))
    assert image.shape == (2, 6, 6)
    assert (image[0] == 4).all()
    assert (image[1] == 1).all()
    assert cut.files == (tmp_path / "b.tif",)
    assert json.loads(json.dumps(cut.about)) == {"rasters": 1, "pixels": 6, "window_km": 3, "bands": list(cut.bands)}
    with pytest.raises(SettingError, match=r"some of 1 to 4.*got \[5\]"):
        region_images(tmp_path, bands=[5])
    with pytest.raises(SettingError, match="some of 1 to 4"):
        region_images(tmp_path, bands=[])


def test_what_cannot_be_read_is_named(tmp_path):
    at = Affine(0.001, 0, 10, 0, -0.001, 1)
    good = write(tmp_path / "good" / "a.tif", np.zeros((3, 8, 8), "uint8"), transform=at)
    bare = write(tmp_path / "bare.tif", np.zeros((3, 8, 8), "uint8"), crs=None)
    one = write(tmp_path / "one.tif", np.zeros((1, 8, 8), "uint8"), transform=at)
    deep = write(tmp_path / "deep.tif", np.zeros((3, 8, 8), "uint16"), transform=at)
    metres = write(
        tmp_path / "metres.tif", np.zeros((3, 8, 8), "uint8"), transform=Affine(10, 0, 460000, 0, -10, 5240000)
    )
    degrees = write(
        tmp_path / "degrees.tif", np.zeros((3, 8, 8), "uint8"), crs="EPSG:32633", transform=at @ Affine.scale(0.1)
    )
    nowhere = write(
        tmp_path / "nowhere.tif",
        np.zeros((3, 8, 8), "uint8"),
        crs="EPSG:3035",
        transform=Affine(10, 0, 9e8, 0, -10, 9e8),
    )
    table = tmp_path / "table.tif"
    write(table, np.zeros((1, 8, 8), "uint8"), transform=at, photometric="palette")
    with rasterio.open(table, "r+") as dataset:
        dataset.write_colormap(1, {0: (255, 0, 0, 255)})
    for paths, sentence in (
        ([bare], r"bare\.tif has no georeference"),
        ([good, one], r"good/a\.tif has 3 bands of uint8, .*one\.tif has 1 band of uint8"),
        ([good, deep], r"deep\.tif has 3 bands of uint16"),
        ([metres], r"metres\.tif lies where its coordinate system 'WGS 84' has no place: from x 460000"),
        ([degrees], r"degrees\.tif lies where"),
        ([nowhere], r"nowhere\.tif lies where"),
        ([table], r"table\.tif has a colour table"),
        ([tmp_path / "absent.tif"], r"absent\.tif cannot be read"),
        ([], "no raster in an empty list"),
    ):
        with pytest.raises(DataError, match=sentence):
            region_images(paths)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no raster in .*empty"):
        region_images(tmp_path / "empty")
    for wrong in ({"pixels": 0}, {"window_km": 0.0}, {"window_km": float("nan")}):
        with pytest.raises(SettingError, match="at least 1 pixel"):
            region_images(good, **wrong)
    with pytest.raises(DataError, match="empty outline"):
        region_images(good)(shapely.Polygon())


def real(*parts):
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name the folder of real data")
    return Path(os.environ["GRATICULE_DATA"]).joinpath(*parts)


def test_real_aerial_chips_cover_their_buildings():
    folder = real("aerial")
    cut = region_images([folder / "banepa_chips", folder / "banepa_chips_more"], pixels=32)
    assert len(cut.chips) == 64
    assert len(cut.files) == 128  # with what holds their reference
    assert cut.bands == ("red", "green", "blue")
    table = json.loads((folder / "banepa_osm_buildings.geojson").read_text())
    shapes = np.array([shapely.geometry.shape(feature["geometry"]) for feature in table["features"]])
    chips = shapely.union_all([shapely.box(*_bounds(chip.layers[0].grid)) for chip in cut.chips])
    inside = shapely.covers(shapely.buffer(chips, -1e-6), shapes)
    seen = []
    for shape, all_there in zip(shapes[::10], inside[::10], strict=True):
        image, covered = cut(shape)
        if all_there:
            assert covered.all()
            assert image.std() > 0
        seen.append(covered.mean())
    assert np.mean(seen) > 0.9
    opened = set()
    for number, chip in enumerate(cut.chips):
        image, covered = cut(shapely.box(*_bounds(chip.layers[0].grid)))
        assert covered[1:-1, 1:-1].all()
        opened |= {number for number, _ in cut._open}
    assert opened == set(range(64))


def _bounds(grid):
    a, _, c, _, e, f = grid.transform[:6]
    return c, f + e * grid.height, c + a * grid.width, f


def test_real_blue_marble_in_two_projections_agrees():
    mercator = region_images(real("satellite", "bluemarble_z7.tif"), pixels=16, window_km=500)
    january = sorted(real("satellite", "bluemarble_monthly").glob("world.*.jpg"))[6]
    plate = region_images(january, pixels=16, window_km=500, bounds=WORLD)
    for lon, lat in ((23, 23), (-60, -3), (180, 66.5)):  # Sahara, Amazon, Chukotka across the antimeridian
        (a, seen), (b, also) = mercator(square(lon, lat, 0.01)), plate(square(lon, lat, 0.01))
        assert seen.all()
        assert also.all()
        if lon != 180:
            assert np.abs(a.mean(axis=(1, 2)) - b.mean(axis=(1, 2))).max() < 40
