import logging
import re

import numpy as np
import pytest
import torch

from graticule.encoders.location import location_encoder
from graticule.errors import CacheError, DataError, SettingError
from graticule.geo.coords import lonlat, uniform_places
from graticule.geo.placed import Placed
from graticule.learners import cached_basis as module
from graticule.learners.cached_basis import cached_basis
from graticule.learners.contrastive import ContrastiveLearner
from graticule.objectives.contrastive import PairwiseInfoNCE
from graticule.runs import train
from tests.small_run import TRAINED

POINTS = uniform_places(90, seed=1)
SMALL = {"width": 16, "depth": 1, "dim": 8}


def encoder(name="harmonics", **options):
    options = {"max_degree": 6, **options} if "harmonics" in name else options
    return location_encoder(name, **SMALL, **options)


def files(folder):
    return sorted(path for path in folder.iterdir() if path.suffix == ".float16")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("harmonics", {"max_degree": 40}),
        ("slepian", {"bandlimit": 8, "functions": 30}),
        ("spherical-fourier", {}),
        ("cartesian+harmonics", {}),
        ("harmonics+hash-grid", {"log2_entries": 6}),
        ("hash-grid+cartesian+voronoi", {"log2_entries": 6, "sites": 60}),
    ],
)
def test_the_basis_comes_back_to_half_precision(tmp_path, name, options):
    made = encoder(name, **options).eval()
    kept = cached_basis(POINTS, made, tmp_path)
    assert (kept.dtype, len(kept)) == (np.float16, len(POINTS))
    places = torch.from_numpy(POINTS)
    exact = made.features(places)
    np.testing.assert_allclose(kept, made.basis.constant(places).detach(), rtol=2**-11, atol=2**-24)
    found = made.features(places, torch.from_numpy(np.array(kept)))
    assert found.shape == exact.shape
    np.testing.assert_allclose(found.detach(), exact.detach(), rtol=2**-11, atol=2**-24)
    assert (kept.shape[1] < exact.shape[1]) == ("hash-grid" in name)
    np.testing.assert_allclose(made(places, found).detach(), made(places).detach(), atol=5e-3)


@pytest.mark.parametrize("points", [lonlat(lon=[], lat=[]), POINTS[:1], np.repeat(POINTS[:2], 5, axis=0)])
def test_no_point_one_point_and_duplicates(tmp_path, points):
    made = encoder()
    for _ in range(2):
        kept = cached_basis(points, made, tmp_path)
        assert kept.shape == (len(points), 49)
        np.testing.assert_array_equal(kept, made.basis.constant(torch.from_numpy(points)).numpy().astype(np.float16))


def test_the_seam_and_the_poles_are_no_special_case(tmp_path):
    kept = cached_basis(lonlat(lon=[-180, 180, 0, 77], lat=[20, 20, 90, 90]), encoder(), tmp_path)
    np.testing.assert_array_equal(kept[0], kept[1])
    np.testing.assert_array_equal(kept[2], kept[3])


def test_it_is_computed_once_and_again_for_other_points_or_settings(tmp_path, monkeypatch):
    made = encoder()
    cached_basis(POINTS, made, tmp_path)
    (first,) = files(tmp_path)
    stamp = first.stat().st_mtime_ns
    body = location_encoder("harmonics", max_degree=6, width=32, depth=2, dim=4, seed=3)  # another body over the same
    cached_basis(POINTS, body, tmp_path)
    assert [(path, path.stat().st_mtime_ns) for path in files(tmp_path)] == [(first, stamp)]
    moved = POINTS.copy()
    moved[3, 0] += 1e-9
    others = [(moved, made), (POINTS[::-1], made), (POINTS[:-1], made)]
    others += [(POINTS, encoder(max_degree=7)), (POINTS, encoder(damping=0.5))]
    for number, (points, other) in enumerate(others, start=2):
        kept = cached_basis(points, other, tmp_path)
        assert len(files(tmp_path)) == number
        exact = other.basis.constant(torch.from_numpy(points.copy())).numpy()
        np.testing.assert_array_equal(kept, exact.astype(np.float16))


def test_other_random_arrays_are_another_basis(tmp_path):
    made = encoder("equal-earth")
    cached_basis(POINTS, made, tmp_path)
    name, array = next(iter(made.basis.named_buffers()))
    array[0] += 1
    kept = cached_basis(POINTS, made, tmp_path)
    assert name
    assert len(files(tmp_path)) == 2
    np.testing.assert_allclose(kept, made.basis.constant(torch.from_numpy(POINTS)), atol=1e-3)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "missing"])
def test_a_damaged_file_is_computed_again(tmp_path, damage, caplog):
    expected = np.array(cached_basis(POINTS, encoder(), tmp_path))
    (path,) = files(tmp_path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"flip": flipped, "cut": whole[:-2], "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(cached_basis(POINTS, encoder(), tmp_path), expected)
    assert [path.name in record.message for record in caplog.records] == [True]
    assert path.read_bytes() == whole


def test_a_damaged_description_is_named(tmp_path):
    cached_basis(POINTS, encoder(), tmp_path)
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(CacheError, match=re.escape(str(path))):
        cached_basis(POINTS, encoder(), tmp_path)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("lives", [(0,), (1,), (4, 2)])
def test_a_killed_pass_goes_on_after_the_last_whole_piece(tmp_path, monkeypatch, lives):
    monkeypatch.setattr(module, "PIECE_VALUES", 10 * 49)
    made, asked, alive = encoder(), [], [99]
    constant = made.basis.constant

    def mortal(points):
        if alive[0] == 0:
            raise Killed
        alive[0] -= 1
        asked.append(len(points))
        return constant(points)

    made.basis.constant = mortal
    for life in lives:
        alive[0] = life
        with pytest.raises(Killed):
            cached_basis(POINTS, made, tmp_path)
    alive[0] = 99
    kept = cached_basis(POINTS, made, tmp_path)
    assert asked == [10] * 9
    np.testing.assert_array_equal(kept, constant(torch.from_numpy(POINTS)).numpy().astype(np.float16))


def test_what_cannot_be_kept_is_refused(tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="but all of this one is"):
        cached_basis(POINTS, encoder("hash-grid", log2_entries=6), tmp_path)
    made = encoder()
    made.basis.constant = lambda points: torch.full((len(points), 49), 7e4)
    with pytest.raises(DataError, match="values that float16 cannot hold, rows 0"):
        cached_basis(POINTS, made, tmp_path)


@pytest.mark.parametrize("name", ["harmonics", "harmonics+hash-grid"])
def test_losses_and_gradients_are_those_without_a_cache(tmp_path, name):
    from graticule.encoders.towers import tower
    from graticule.training.drawing import on_host

    made = encoder(name, **({"log2_entries": 6} if "hash" in name else {}))
    learner = ContrastiveLearner(made, {"text": tower(5, dim=8)}, PairwiseInfoNCE(["text"]), second_view=True)
    features = np.random.default_rng(0).normal(size=(len(POINTS), 5)).astype(np.float32)
    found = {}
    for basis in (None, cached_basis(POINTS, made, tmp_path)):
        rows = Placed(POINTS, features, None, basis).take(np.arange(0, 90, 3))
        learner.zero_grad()
        loss = learner.loss({"text": on_host(rows, pinned=False)})["loss"]
        loss.backward()
        found[basis is None] = (loss.item(), {n: p.grad.clone() for n, p in learner.named_parameters()})
    assert found[True][0] == pytest.approx(found[False][0], abs=2e-3)
    for parameter, gradient in found[True][1].items():
        scale = gradient.abs().max().clamp(min=1e-3)
        assert ((found[False][1][parameter] - gradient).abs().max() / scale) < 0.05, parameter


def test_a_run_with_the_setting_is_the_run_without_it(data, tmp_path):
    settings = TRAINED | {"location": "harmonics+hash-grid", "location.log2_entries": 6, "distil": 0.5}
    runs = [train("imagebind", data, to=tmp_path / str(kept), **settings, cache_basis=kept) for kept in (False, True)]
    assert runs[1].about["settings"]["cache_basis"] is True
    assert len(files(data.folder / "bases")) == 3  # text, image and the teacher's places
    plain, cached = (run.embed_points(POINTS) for run in runs)
    assert np.abs(plain - cached).max() < 0.02 * np.abs(plain).max()
    assert not np.array_equal(plain, cached)
    stamps = [path.stat().st_mtime_ns for path in files(data.folder / "bases")]
    train("melt", data, to=tmp_path / "melt", **settings, cache_basis=True)
    assert [path.stat().st_mtime_ns for path in files(data.folder / "bases")] == stamps
