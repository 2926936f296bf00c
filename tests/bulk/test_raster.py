"""Rasters of vectors: every pixel is the vector of its middle, in GeoTIFF and in Zarr, killed or not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr

from graticule.bulk import grid
from graticule.bulk.grid import tile_side
from graticule.bulk.raster import embed_raster
from graticule.embed import quantization
from graticule.errors import DataError, SettingError
from graticule.geo.coords import lonlat
from graticule.geo.int8 import to_int8
from tests.small_run import DIM

WORLD, PIXEL = (-180, -90, 180, 90), 1.0


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks, and several tiles a block, in a raster of 180 by 360 pixels."""
    monkeypatch.setattr(grid, "SIDES", (128,))
    monkeypatch.setattr(grid, "BLOCK_BYTES", 600 << 10)
    monkeypatch.setattr(grid, "CALL_PIXELS", 1000)


def naive(loaded, west, north, height, width, pixel=PIXEL):
    """(height, width, DIM) vectors, pixel by pixel."""
    points = []
    for row in range(height):
        for column in range(width):
            points.append((west + (column + 0.5) * pixel, north - (row + 0.5) * pixel))
    lon, lat = np.array(points).T
    return loaded.embed_points(lonlat(lon=lon, lat=lat)).reshape(height, width, -1)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_tiles_are_as_large_as_fits(monkeypatch):
    monkeypatch.undo()
    sizes = {(256, "float32"): 128, (256, "int8"): 256, (64, "int8"): 512, (64, "float32"): 256, (8192, "float32"): 128}
    assert {asked: tile_side(*asked) for asked in sizes} == sizes


def test_geotiff_of_the_world(loaded, tmp_path):
    path = tmp_path / "world.tif"
    assert embed_raster(loaded, path, bounds=WORLD, pixel=PIXEL) == (180, 360)
    with rasterio.open(path) as dataset:
        assert (dataset.count, dataset.shape, set(dataset.dtypes)) == (DIM, (180, 360), {"float32"})
        assert tuple(dataset.bounds) == WORLD
        assert dataset.crs.to_epsg() == 4326
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert set(dataset.block_shapes) == {(128, 128)}
        assert dataset.overviews(1) == [2, 4]
        assert dataset.descriptions[3] == "embedding 3"
        emb = json.loads(dataset.tags()["emb"])
        assert (emb["model_hash"], emb["quantization"]) == (loaded.about["weights"], None)
        close(dataset.read().transpose(1, 2, 0), naive(loaded, -180, 90, 180, 360))
        close(next(dataset.sample([(11.7, 48.1)])), loaded.embed(lon=[11.5], lat=[48.5])[0])
    assert [p.name for p in tmp_path.iterdir()] == ["world.tif"]


def test_int8_geotiff_has_scales_and_overviews_are_means(loaded, tmp_path):
    path = tmp_path / "part.tif"
    assert embed_raster(loaded, path, bounds=(0, 0, 160, 80), pixel=0.5, numbers="int8") == (160, 320)
    scales = np.array(quantization(loaded, "int8")["scale"], dtype=np.float32)
    with rasterio.open(path) as dataset:
        assert set(dataset.dtypes) == {"int8"}
        np.testing.assert_allclose(dataset.scales, scales, rtol=1e-6)
        numbers = dataset.read().transpose(1, 2, 0)
        np.testing.assert_array_equal(numbers, to_int8(naive(loaded, 0, 80, 160, 320, 0.5), scales))
    with rasterio.open(path, overview_level=0) as half:
        means = numbers.reshape(80, 2, 160, 2, DIM).mean(axis=(1, 3))
        assert np.abs(half.read().transpose(1, 2, 0) - means).max() <= 0.51


@pytest.mark.parametrize("numbers", ["float32", "float16", "int8"])
def test_zarr_holds_vectors_and_axes(numbers, loaded, tmp_path):
    path = tmp_path / "deep" / "world.zarr"
    assert embed_raster(loaded, path, bounds=WORLD, pixel=PIXEL, numbers=numbers) == (180, 360)
    group = zarr.open_group(path, mode="r")
    array = group["embedding"]
    assert (array.metadata.zarr_format, array.dtype, array.chunks) == (3, numbers, (128, 128, DIM))
    assert array.metadata.dimension_names == ("lat", "lon", "dimension")
    np.testing.assert_allclose(group["lat"][:], 89.5 - np.arange(180))
    np.testing.assert_allclose(group["lon"][:], -179.5 + np.arange(360))
    assert group.attrs["emb"]["model_hash"] == loaded.about["weights"]
    vectors = array[:].astype(np.float32) * (group["scale"][:] if numbers == "int8" else 1)
    allowed = {"float32": 1e-5, "float16": 2e-3, "int8": group["scale"][:].max() if numbers == "int8" else 0}[numbers]
    assert np.abs(vectors - naive(loaded, -180, 90, 180, 360)).max() < allowed


def test_over_the_antimeridian_and_at_the_pole(loaded, tmp_path):
    embed_raster(loaded, tmp_path / "a.zarr", bounds=(170, 80, -170, 90), pixel=5.0)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_allclose(group["lon"][:], [172.5, 177.5, 182.5, 187.5])
    close(group["embedding"][:], naive(loaded, 170, 90, 2, 4, 5.0))
    embed_raster(loaded, tmp_path / "a.tif", bounds=(170, 80, -170, 90), pixel=5.0)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert tuple(dataset.bounds) == (170, 80, 190, 90)
        close(dataset.read().transpose(1, 2, 0), group["embedding"][:])


def test_one_pixel(loaded, tmp_path):
    for name in ("a.tif", "a.zarr"):
        assert embed_raster(loaded, tmp_path / name, bounds=(0, 0, 1, 1), pixel=1.0) == (1, 1)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from graticule.bulk import grid, zarrs
from graticule.bulk.raster import embed_raster
from graticule.embed import load

grid.BLOCK_BYTES = 600 << 10
when, calls = sys.argv[1], []
real = zarrs.write_json


def write_json(path, value):
    calls.append(path)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    real(path, value)


class Dying(zarrs.Progress):
    def advance(self, n=1, note=""):
        super().advance(n, note)
        calls.append(n)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)


if when == "manifest":
    zarrs.write_json = write_json
else:
    zarrs.Progress = Dying
embed_raster(load(sys.argv[2]), Path(sys.argv[3]), bounds=(-180, -90, 180, 90), pixel=1.0, numbers="int8")
"""


@pytest.mark.parametrize("when", ["manifest", "block"])
def test_a_killed_zarr_goes_on_where_it_was(when, loaded, tmp_path):
    out, whole = tmp_path / "out.zarr", tmp_path / "whole.zarr"
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(path=[str(Path(grid.__file__).parents[2])]))
    command = [sys.executable, script, when, loaded.folder, out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert json.loads((out / "_manifest.json").read_text())["rows"] == 128
    first = out / "embedding" / "c" / "0" / "0" / "0"
    before = first.stat().st_mtime_ns
    for path in (out, whole):
        embed_raster(loaded, path, bounds=WORLD, pixel=PIXEL, numbers="int8")
    assert first.stat().st_mtime_ns == before
    one, other = (zarr.open_group(path, mode="r")["embedding"][:] for path in (out, whole))
    np.testing.assert_array_equal(one, other)
    assert json.loads((out / "_manifest.json").read_text())["complete"]
    with pytest.raises(DataError, match=r"another size of pixels: 1.0 there, 2.0 now"):
        embed_raster(loaded, out, bounds=WORLD, pixel=2.0, numbers="int8")


def test_what_cannot_be_is_refused(loaded, refused, command, tmp_path):
    def asked(words, bounds=WORLD, pixel=PIXEL, out="a.zarr", **options):
        with pytest.raises(SettingError, match=words):
            embed_raster(loaded, tmp_path / out, bounds=bounds, pixel=pixel, **options)
        assert os.listdir(tmp_path) == []

    asked("south below north; got -180 90 180 -90", bounds=(-180, 90, 180, -90))
    asked("within 180 and 90", bounds=(-190, -90, 180, 90))
    asked("got nan", bounds=(float("nan"), -90, 180, 90))
    asked("more than 0 degrees, got 0", pixel=0)
    asked("360 degrees are 51.4286 pixels wide; expected a whole number", pixel=7)
    asked(r"ends in .tif, .tiff, .zarr; got 'a.png'", out="a.png")
    asked(r"GeoTIFF holds float32 or int8, got float16. Write a.zarr", out="a.tif", numbers="float16")
    asked("Unknown kind of numbers 'int4'", numbers="int4")
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "mine").touch()
    with pytest.raises(DataError, match=r"b.zarr is of no such job"):
        embed_raster(loaded, tmp_path / "b.zarr", bounds=WORLD, pixel=PIXEL)
    model = ("--model", loaded.folder, "-o", tmp_path / "c.tif")
    assert "either a table of places, or --raster" in refused("embed", *model)
    assert "either a table of places, or --raster" in refused("embed", *model, "--raster", 0, 0, 1, 1)
    raster = ("--raster", 0, 0, 1, 1, "--pixel", 1)
    assert "--order is of tables" in refused("embed", *model, *raster, "--order", "hilbert")
    code, said, err = command("embed", "-q", *model, "--raster", -10, "-5.5", 10, 4.5, "--pixel", 0.5)
    assert (code, said, err) == (0, f"{tmp_path / 'c.tif'}: 20 x 40 pixels\n", "")
