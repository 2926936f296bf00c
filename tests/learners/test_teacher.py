"""The teacher: fields against a naive loop, kernels against their formula, and planted truths that it must show."""

import math

import numpy as np
import pytest
import torch

from graticule.encoders.location import location_encoder
from graticule.errors import DataError, SettingError
from graticule.geo.coords import great_circle_km, uniform_places, unit_sphere
from graticule.geo.placed import Placed
from graticule.learners import teacher
from graticule.learners.teacher import FLATTER, block, field, principal, restore, spectrum, teach


def rows(n=60, width=3, seed=0):
    rng = np.random.default_rng(seed)
    return Placed(uniform_places(n, seed=seed), rng.normal(size=(n, width)).astype(np.float16))


def standardised(features):
    values = features.astype(np.float32).astype(np.float64)
    return (values - values.mean(axis=0)) / values.std(axis=0)


@pytest.mark.parametrize("neighbours", [1, 4, 60])
def test_a_field_is_the_weighted_mean_of_the_nearest_rows(neighbours):
    known, places = rows(), uniform_places(7, seed=9)
    features = standardised(known.features)
    for place, found in zip(places, field("text", known, places, neighbours), strict=True):
        chords = np.linalg.norm(unit_sphere(known.lonlat) - unit_sphere(place[None]), axis=1)
        order = np.argsort(chords)
        if neighbours == 1:
            expected = features[order[0]]
        else:
            near = order[: min(2 * neighbours, len(order))]
            width = chords[order[neighbours - 1]] / 2
            weights = [math.exp(-0.5 * (chords[i] / width) ** 2) for i in near]
            expected = sum(w * features[i] for w, i in zip(weights, near, strict=True)) / sum(weights)
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_field_knows_no_antimeridian_and_no_longitude_at_a_pole():
    known = rows(200)
    seam = np.array([[180.0, 10.0], [-180.0, 10.0], [0.0, 90.0], [135.0, 90.0]])
    found = field("text", known, seam, 8)
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    np.testing.assert_allclose(found[2], found[3], atol=1e-5)


@pytest.mark.parametrize("neighbours", [1, 32])
def test_a_field_of_one_row_and_of_rows_at_one_place(neighbours):
    one = Placed(np.array([[5.0, 5.0]]), np.array([[1.0, 2.0]], np.float16))
    assert np.array_equal(field("text", one, uniform_places(3, seed=0), neighbours), np.zeros((3, 2)))
    twice = Placed(np.repeat([[5.0, 5.0]], 40, axis=0), np.random.default_rng(0).normal(size=(40, 2)))
    assert np.isfinite(field("text", twice, np.array([[5.0, 5.0], [-175.0, -5.0]]), neighbours)).all()


def test_no_place_gives_no_field():
    assert field("text", rows(), np.empty((0, 2)), 4).shape == (0, 3)


def test_cosines_are_features_of_the_product_of_kernels_on_content_and_place(monkeypatch):
    """Rahimi & Recht 2007: the mean of 2 cos(wx + b) cos(wy + b) is the Gaussian kernel, here mixed over scales."""
    monkeypatch.setattr(teacher, "COSINES", 200_000)
    monkeypatch.setattr(teacher, "PLACE_ALONE", 0)
    monkeypatch.setattr(teacher, "CONTENT_ALONE", 0)
    seen = []
    monkeypatch.setattr(teacher, "leading", lambda values, count: seen.append(values) or (0.0, torch.eye(2, 1)))
    monkeypatch.setattr(teacher, "CHUNK", 1)
    content, xyz = torch.tensor([[0.3, -0.2], [0.1, 0.4]]), torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0]])
    with pytest.raises(RuntimeError):  # the components are not wanted here
        block(content, xyz, torch.arange(2), torch.Generator().manual_seed(0))
    a, b = 2**0.5 * seen[0]

    def mean_over_scales(squared, low, high):
        scales = np.exp(np.linspace(np.log(low), np.log(high), 20_001))
        return np.exp(-0.5 * squared * scales**2).mean()

    expected = mean_over_scales(0.04 + 0.36, *teacher.CONTENT) * mean_over_scales(0.04 + 0.36, *teacher.PLACE)
    assert (a * b).mean().item() == pytest.approx(expected, abs=0.01)


def test_principal_components_keep_their_spectrum_and_have_mean_square_length_1():
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 6)) * [9, 7, 5, 3, 2, 1]).float() + 4
    found = principal(values, 4)
    assert found.shape == (500, 4)
    assert found.square().sum(1).mean().item() == pytest.approx(1, abs=1e-4)
    covariance = found.T @ found / 500
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-4
    exact = np.linalg.eigvalsh(np.cov(values.numpy().T, bias=True))[::-1]
    np.testing.assert_allclose(covariance.diag() / covariance[0, 0], exact[:4] / exact[0], rtol=1e-3)


def test_vectors_have_mean_square_1_equal_columns_and_follow_the_seed():
    sources, places = {"a": rows(300, 5), "b": rows(200, 4, seed=1)}, uniform_places(400, seed=3)
    first, again, other = (teach(sources, places, {"b": 4}, dim=32, seed=seed) for seed in (0, 0, 1))
    vectors = first.features.astype(np.float64)
    assert first.features.dtype == np.float16
    assert vectors.shape == (400, 32)
    assert np.array_equal(first.lonlat, places)
    assert np.square(vectors).mean() == pytest.approx(1, abs=0.01)
    assert vectors.std(axis=0).max() / vectors.std(axis=0).min() < 3
    assert np.linalg.svd(vectors, compute_uv=False)[[0, -1]].tolist()[0] > 0
    assert np.array_equal(first.features, again.features)
    assert not np.array_equal(first.features, other.features)


def test_prefixes_turn_columns_within_their_blocks_only():
    """The first m columns say the same as those of the m leading components: their inner products are equal."""
    sources, places = {"a": rows(300, 5), "b": rows(200, 4, seed=1)}, uniform_places(400, seed=3)
    other = {"dim": 32, "seed": 5}
    plain, turned = (teach(sources, places, {}, prefixes=p, **other).features.astype(float) for p in ((), (4, 16, 32)))
    assert np.array_equal(plain, teach(sources, places, {}, **other).features)
    singles = teach(sources, places, {}, prefixes=range(1, 32), **other).features.astype(float)
    assert np.abs(np.corrcoef(singles.T) - np.eye(32)).max() < 0.01  # alone in its block each is a component
    np.testing.assert_allclose(plain @ plain.T, turned @ turned.T, atol=0.3)
    first, second, third = (block.var(axis=0).mean() for block in np.split(turned, (4, 16), axis=1))
    assert first > 1.1 * second > 1.1 * 1.1 * third
    for m in (4, 16, 32):
        leading = singles[:, :m]
        np.testing.assert_allclose(leading @ leading.T, turned[:, :m] @ turned[:, :m].T, atol=0.3)
    missed = [
        np.square(turned - x @ np.linalg.lstsq(x, turned, rcond=None)[0]).mean()
        for x in (singles[:, :4], turned[:, :4], plain[:, :4], np.random.default_rng(0).normal(size=(400, 4)))
    ]
    assert missed[1] == pytest.approx(missed[0], rel=1e-3)
    assert missed[1] < 0.97 * min(missed[2:])


def readable(vectors, truth):
    """R2 of ridge from half of the rows to the other."""
    x, half = vectors.astype(np.float64), len(vectors) // 2
    weight = np.linalg.solve(x[:half].T @ x[:half] + np.eye(x.shape[1]), x[:half].T @ (truth[:half] - truth.mean()))
    rest = truth[half:]
    return 1 - np.square(rest - truth.mean() - x[half:] @ weight).sum() / np.square(rest - rest.mean()).sum()


def test_each_modality_has_a_budget_of_its_own():
    """Two modalities say different things of a place, finer than place kernels see; a teacher of both shows both."""
    places = uniform_places(3000, seed=0)

    def waves(points, seed):
        v = np.random.default_rng(seed).normal(size=(3, 5)) * 60
        return np.cos(unit_sphere(points) @ v + np.arange(5))

    truth = {"loud": waves(places, 1)[:, 0], "quiet": waves(places, 2)[:, 0]}
    sources = {}
    for i, name in enumerate(truth):
        order = np.random.default_rng(i).permutation(3000)
        values = waves(places[order], 1 + i)
        copies = np.tile(values, (1, 20)) if name == "loud" else values  # a hundred columns against five
        sources[name] = Placed(places[order], copies.astype(np.float16))
    both = teach(sources, places, {}, dim=64).features
    for name in truth:
        alone = teach({name: sources[name]}, places, {}, dim=64).features
        other = teach({k: s for k, s in sources.items() if k != name}, places, {}, dim=64).features
        assert readable(alone, truth[name]) > 0.9
        assert readable(both, truth[name]) > 0.8
        assert readable(other, truth[name]) < 0.5


def test_noise_of_single_rows_is_averaged_out_by_neighbours():
    where, places = uniform_places(4000, seed=1), uniform_places(1000, seed=2)
    noise = np.random.default_rng(0).normal(size=(4000, 6)) * 2
    sources = {"text": Placed(where, (unit_sphere(where) @ np.ones((3, 6)) + noise).astype(np.float16))}
    smooth, rough = (field("text", sources["text"], places, k)[:, 0] for k in (32, 1))
    truth = unit_sphere(places).sum(axis=1)
    assert np.corrcoef(smooth, truth)[0, 1] > 0.85
    assert np.corrcoef(rough, truth)[0, 1] < 0.6


def test_neighbours_in_the_teacher_are_near():
    sources = {"a": rows(2000, 5)}
    start, beside = np.array([[10.0, 20.0]]), np.array([[10.0, 20.000001]])
    found = teach(sources, np.concatenate([start, start, beside, uniform_places(500, seed=1)]), {}, dim=16)
    assert great_circle_km(start, beside)[0] < 1
    assert np.array_equal(found.features[0], found.features[1])
    np.testing.assert_allclose(found.features[2].astype(float), found.features[0].astype(float), atol=0.01)


def test_what_a_teacher_cannot_use_is_refused():
    places = uniform_places(10, seed=0)
    with pytest.raises(SettingError, match="at least one modality"):
        teach({}, places, {})
    with pytest.raises(DataError, match="at least two places, got 1"):
        teach({"a": rows()}, places[:1], {})
    with pytest.raises(SettingError, match=r"neighbours\.a=0"):
        field("a", rows(), places, 0)
    with pytest.raises(SettingError, match="'image' has none"):
        field("image", Placed(places, np.zeros((10, 3, 4, 4))), places, 1)
    with pytest.raises(DataError, match="'a' has 0 rows"):
        field("a", Placed(np.empty((0, 2)), np.empty((0, 3))), places, 1)


def test_a_modality_of_which_several_rows_speak_weighs_less(monkeypatch):
    joined = []

    def kept(values, count):
        if values.shape[1] > 100:  # the blocks side by side, and the cosines of each
            joined.append(values)
        return original(values, count)

    original = teacher.leading
    monkeypatch.setattr(teacher, "leading", kept)
    teach({"a": rows(), "b": rows(seed=1)}, uniform_places(400, seed=3), {"b": 4}, dim=6)
    a, b = joined[-1].chunk(2, dim=1)
    assert b.square().sum() == pytest.approx(float(a.square().sum()) / 4, rel=1e-3)


def test_a_pupil_gets_the_natural_spectrum_back_and_says_the_same():
    places = uniform_places(4000, seed=3)
    taught = teach({"a": rows(300)}, places, {}, dim=6)
    for body in ("mlp", "capsules", "siren"):
        pupil = location_encoder("harmonics", max_degree=2, body=body, width=32, depth=1, dim=6, low_frequency=1)
        before = pupil(torch.from_numpy(places)).detach()
        restore(pupil, taught)
        after = pupil(torch.from_numpy(places)).detach()
        natural = spectrum(torch.from_numpy(taught.features).float())[0] ** (1 / (1 - FLATTER))
        found = spectrum(after)[0]
        torch.testing.assert_close(found / found[0], natural / natural[0], atol=2e-3, rtol=2e-2)
        assert after.square().mean().item() == pytest.approx(1, abs=1e-3)
        assert after.mean(dim=0).abs().max() < 1e-3
        columns = torch.cat([before, torch.ones(len(before), 1)], dim=1)
        rest = after - columns @ torch.linalg.lstsq(columns, after).solution
        assert rest.square().mean() < 1e-6
