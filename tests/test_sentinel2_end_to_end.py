"""Sentinel-2 patches from a folder to vectors: real crops, and a planted signal that must be found and can be lost."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio

from benchmarks.planted_sentinel2 import (
    NETWORK,
    STATISTICS,
    by_place,
    by_probe,
    examined,
    patch_vectors,
    plant,
    train_on,
)
from graticule.data.sentinel2 import sentinel2
from graticule.data.store import prepare
from graticule.embed import load
from graticule.geo.coords import great_circle_km
from graticule.runs import train

FOUND, LOST = 0.8, 0.2
RUNS = {
    "network": {**NETWORK, "steps": 100, "batch_size": 64},
    "statistics": {**STATISTICS, "steps": 150, "batch_size": 128},
}
FEW = {"steps": 3, "batch_size": 32, "dim": 16, "location": "harmonics", "location.max_degree": 4, "device": "cpu"}
CROPS = 16  # of 64 pixels a real patch


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    return plant(tmp_path_factory.mktemp("planted"), patches=600, size=16, seed=1)


@pytest.mark.parametrize("trunk", RUNS)
def test_a_planted_signal_is_recovered_in_blocks_never_seen(trunk, planted, tmp_path):
    model = train_on(planted, tmp_path, **RUNS[trunk], modalities="patch")
    assert model.about["rows_trained"] == {"patch": len(planted.known)}
    found = examined(model, planted)
    assert (found["patch"] > FOUND).all(), found
    assert (found["place through patches"] > FOUND).all(), found
    assert (found["zeroed patch"] < LOST).all(), found


@pytest.mark.parametrize("trunk", RUNS)
def test_it_is_lost_without_the_bands_that_carry_it(trunk, planted, tmp_path):
    found = examined(train_on(planted, tmp_path, **RUNS[trunk], modalities="zeroed"), planted)
    assert (found["patch"] < LOST).all(), found
    assert (found["place through patches"] < LOST).all(), found


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"shuffle": True}])
def test_places_find_nothing_before_training_or_when_shuffled(wrong, planted, tmp_path):
    model = train_on(planted, tmp_path, **{**RUNS["statistics"], **wrong}, modalities="patch")
    vectors = patch_vectors(model, planted.data["patch"])
    assert (by_place(model, vectors, planted) < LOST).all()


def test_the_probe_finds_nothing_in_vectors_of_chance(planted):
    chance = np.random.default_rng(0).normal(size=(len(planted.hidden), 32))
    assert (by_probe(chance, planted) < LOST).all()


def test_held_out_blocks_are_apart(planted):
    points = planted.data["patch"].lonlat
    assert len(planted.asked) > len(points) / 8
    for place in points[planted.asked]:
        assert great_circle_km(points[planted.known], place[None]).min() > 50


@pytest.fixture(scope="module")
def patches():
    if "GRATICULE_DATA" not in os.environ:
        pytest.skip("GRATICULE_DATA does not name the folder of real data")
    return Path(os.environ["GRATICULE_DATA"]) / "satellite" / "sentinel2_patches"


@pytest.fixture(scope="module")
def crops(patches, tmp_path_factory):
    return prepare({"image": sentinel2(patches, crop=64)}, to=tmp_path_factory.mktemp("crops"))


def dark_end(pixels):
    """The 0.1 percentile of the darkest of (bands, ...) bands."""
    flat = pixels.reshape(len(pixels), -1)
    return np.percentile(flat[:, (flat > 0).all(axis=0)], 0.1, axis=1).min()


def test_real_crops_have_their_own_places(patches, crops):
    table = crops["image"]
    assert len(table) == 23 * CROPS
    assert len(np.unique(table.lonlat, axis=0)) == len(table)
    for first in range(0, len(table), CROPS):
        away = great_circle_km(table.lonlat[first : first + CROPS], table.lonlat[first : first + 1])
        np.testing.assert_allclose(np.sort(away)[1:3], 0.64, rtol=0.02)
        np.testing.assert_allclose(away.max(), 0.64 * 3 * 2**0.5, rtol=0.02)


def test_real_offsets_are_harmonised(patches, crops):
    """Before, the dark ends fall into two groups 1,000 apart; afterwards they are one."""
    table = crops["image"]
    names = [str(i).split("/")[0] for i in table.ids[::CROPS]]
    contents = np.stack(list(table.all_contents())).reshape(-1, CROPS, 12, 64, 64).swapaxes(1, 2)
    read = np.array([dark_end(patch) for patch in contents])
    raw = []
    for name in names:
        with rasterio.open(patches / f"{name}.tif") as file:
            raw.append(dark_end(file.read()))
    shifted = read < np.array(raw) - 500
    assert 0 < shifted.sum() < len(names)
    gap = np.median(np.array(raw)[shifted]) - np.median(np.array(raw)[~shifted])
    assert gap > 800
    assert abs(np.median(read[shifted]) - np.median(read[~shifted])) < 200


@pytest.mark.parametrize("trained", [False, True], ids=["frozen statistics", "trained network"])
def test_real_crops_through_trunk_training_and_embedding(trained, crops, tmp_path):
    settings = {**FEW, "train_trunks": "image" if trained else ""}
    model = train("imagebind", crops, to=tmp_path, **settings)
    start = train("imagebind", crops, to=tmp_path / "start", **settings | {"steps": 0})
    assert (model.trunk("image") is None) == trained
    contents = list(crops["image"].all_contents())
    vectors = model.embed_contents("image", contents)
    assert vectors.shape == (368, 16)
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors.round(5), axis=0)) == 368
    np.testing.assert_array_equal(load(tmp_path).embed_contents("image", contents[:20]), vectors[:20])
    assert model.embed_points(crops["image"].lonlat).shape == (368, 16)
    moved = {
        name
        for name, weight in model.towers["image"].named_parameters()
        if (weight != start.towers["image"].get_parameter(name)).any()
    }
    assert any(name.startswith("head.") for name in moved)
    assert any(name.startswith("body.") for name in moved) == trained
