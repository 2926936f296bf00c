import logging
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from graticule.data.bluemarble import WORLD, blue_marble
from graticule.data.rasters import raster
from graticule.encoders.image import StatisticsTrunk
from graticule.errors import DataError, SettingError
from graticule.evaluation import explicit as module
from graticule.evaluation.explicit import explicit
from graticule.geo.coords import fibonacci_lattice, offset_km, uniform_places

SEAM = [(180.0, 0.0), (-180.0, 0.0), (179.99, -16.7), (12.0, 90.0), (-70.0, -90.0)]
PLACES = np.concatenate([uniform_places(40, seed=1), SEAM])
PATCH = {"size_km": 900.0, "pixels": 5}


def write(path, pixels, *, west=-180.0, north=90.0, step=2.0, nodata=None):
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype, "nodata": nodata}
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:4326", transform=Affine(step, 0, west, 0, -step, north), **shape
    ) as dataset:
        dataset.write(pixels)
    return path


def world(path, bands=2, seed=0, nodata=None):
    pixels = np.random.default_rng(seed).integers(1, 250, (bands, 90, 180)).astype("uint8")
    return write(path, pixels, nodata=nodata), pixels


def naive(pixels, lon, lat):
    """Central sample, then mean and deviation of all of them, by band, sample by sample."""
    features = [[], [], []]
    cell, half = PATCH["size_km"] / PATCH["pixels"], (PATCH["pixels"] - 1) / 2
    for band in pixels / np.float64(255):
        samples = {}
        for row in range(PATCH["pixels"]):
            for column in range(PATCH["pixels"]):
                east, north = (column - half) * cell, (half - row) * cell
                x, y = offset_km(np.array([[lon, lat]]), [east], [north])[0, 0]
                samples[row, column] = band[min(int((90 - y) / 2), 89), int((x + 180) / 2) % 180]
        features[0].append(samples[half, half])
        features[1].append(np.mean(list(samples.values())))
        features[2].append(np.std(list(samples.values())))
    return np.concatenate(features)


def test_features_are_those_of_the_samples_around_a_place(tmp_path):
    path, pixels = world(tmp_path / "w.tif")
    features = explicit(path, **PATCH, trunk=StatisticsTrunk(boxes=(1, 5)))(PLACES)
    assert features.dtype == np.float32
    expected = [naive(pixels, lon, lat) for lon, lat in PLACES.tolist()]
    np.testing.assert_allclose(features, expected, atol=1e-6)


def test_features_are_those_of_the_reader_and_the_trunk(tmp_path):
    paths = [world(tmp_path / f"{i}.tif", bands, seed=i)[0] for i, bands in enumerate((3, 1))]
    source = raster(paths, lon=PLACES[:, 0], lat=PLACES[:, 1], **PATCH)
    expected = StatisticsTrunk()([row.content for row in source.rows()])
    np.testing.assert_array_equal(explicit(paths, **PATCH)(PLACES), expected)
    assert expected.shape == (len(PLACES), 4 * 5)


def test_a_row_depends_on_nothing_but_its_place(tmp_path, monkeypatch):
    path, pixels = world(tmp_path / "w.tif")
    pixels[:, :, :90] = 0  # the western half of the Earth
    features = explicit(write(path, pixels, nodata=0), **PATCH)
    whole = features(PLACES)
    order = np.random.default_rng(0).permutation(len(PLACES))
    np.testing.assert_array_equal(features(PLACES[order]), whole[order])
    np.testing.assert_array_equal(np.concatenate([features(PLACES[i : i + 1]) for i in range(9)]), whole[:9])
    np.testing.assert_array_equal(features(PLACES[[3, 3, 3]]), whole[[3, 3, 3]])
    monkeypatch.setattr(module, "CHUNK", 7)
    np.testing.assert_array_equal(features(PLACES), whole)


def test_no_rows(tmp_path):
    features = explicit(world(tmp_path / "w.tif")[0])
    assert features(PLACES[:0]).shape == (0, 2 * 5)
    assert features(PLACES[:0]).dtype == np.float32


def test_the_pictures_are_read_once(tmp_path, monkeypatch):
    reads = []
    from graticule.data import rasters

    monkeypatch.setattr(rasters, "read", lambda *a, real=rasters.read: reads.append(a[0]) or real(*a))
    features = explicit(world(tmp_path / "w.tif")[0], **PATCH)
    for _ in range(3):
        features(PLACES)
    assert len(reads) == 1


def test_places_without_data_get_the_mean_of_a_lattice(tmp_path, caplog):
    path, pixels = world(tmp_path / "w.tif")
    pixels[:, :30] = 0  # north of 30 degrees
    features = explicit(write(path, pixels, nodata=0), **PATCH)
    places = np.array([[0.0, -20.0], [10.0, 60.0], [20.0, -50.0], [30.0, 80.0]])
    with caplog.at_level(logging.WARNING):
        given = features(places)
    assert "2 of 4 places, first lon=10, lat=60: no data in the pictures" in caplog.text
    lattice = fibonacci_lattice(module.LATTICE)
    seen = raster(path, lon=lattice[:, 0], lat=lattice[:, 1], **PATCH).rows()
    mean = StatisticsTrunk()([row.content for row in seen]).mean(0)
    np.testing.assert_allclose(given[1], mean, atol=1e-6)
    np.testing.assert_array_equal(given[1], given[3])
    caplog.clear()
    features(places[[0, 2]])
    assert not caplog.records


def test_a_small_picture_is_enough_for_its_own_places_only(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 250, (1, 60, 60)).astype("uint8")
    features = explicit(write(tmp_path / "p.tif", pixels, west=10, north=50, step=0.01), size_km=10.0, pixels=3)
    inside = np.array([[10.3, 49.7], [10.2, 49.6]])
    assert features(inside).shape == (2, 5)
    with pytest.raises(DataError, match=r"none of 256 places spread over the Earth.*ask only for places that"):
        features(np.concatenate([inside, [[0.0, 0.0]]]))


def test_wrong_input_is_named(tmp_path):
    path, _ = world(tmp_path / "w.tif")
    with pytest.raises(SettingError, match="reads images, got one that reads text"):
        explicit(path, trunk="ngram")
    with pytest.raises(SettingError, match="Did you mean 'statistics'"):
        explicit(path, trunk="statistic")
    with pytest.raises(DataError, match="12 Sentinel-2 bands"):
        explicit(path, trunk="multispectral")
    with pytest.raises(DataError, match="at least one picture"):
        explicit([])
    with pytest.raises(SettingError, match="pixels at least 1"):
        explicit(path, pixels=0)
    with pytest.raises(DataError, match=r"none\.tif cannot be read"):
        explicit(tmp_path / "none.tif")


def test_blue_marble_as_in_training():
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name the folder of real data")
    folder = Path(os.environ["GRATICULE_DATA"]) / "satellite" / "bluemarble_monthly"
    months = sorted(folder.glob("world.2004*.jpg"))[:7:6]  # January and July
    features = explicit(months, bounds=WORLD)
    expected = StatisticsTrunk()([row.content for row in blue_marble(months, PLACES).rows()])
    np.testing.assert_array_equal(features(PLACES), expected)
    finland, sahara = features(np.array([[28.0, 63.0], [23.0, 23.0]]))
    assert finland[0] > 1.5 * finland[3]  # snow in January
    assert sahara[0] == pytest.approx(sahara[3], rel=0.15)
