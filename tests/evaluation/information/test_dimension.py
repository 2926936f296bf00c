"""Intrinsic dimension of manifolds of known dimension, against the papers' loops and scikit-dimension."""

import warnings

import numpy as np
import pytest

from graticule.errors import DataError, SettingError
from graticule.evaluation.information import dimension as room
from graticule.evaluation.information.dimension import local_dimension, mle, twonn


def sphere(n, d, rng):
    x = rng.normal(size=(n, d + 1))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def flat_torus(n, d, rng):
    angle = rng.uniform(0, 2 * np.pi, (n, d))
    return np.hstack([np.cos(angle), np.sin(angle)])


def torus(n, d, rng):
    """The curved torus: a circle, or a tube around one, d = 1 or 2, uniform by area."""
    u = rng.uniform(0, 2 * np.pi, (4 * n, 2))
    if d == 1:
        return np.stack([np.cos(u[:n, 0]), np.sin(u[:n, 0])], 1)
    u = u[rng.uniform(0, 3, 4 * n) < 2 + np.cos(u[:, 1])][:n]
    out = 2 + np.cos(u[:, 1])
    return np.stack([out * np.cos(u[:, 0]), out * np.sin(u[:, 0]), np.sin(u[:, 1])], 1)


def swiss_roll(n, d, rng):
    """scikit-learn's, with d - 1 heights of 21."""
    t = 1.5 * np.pi * (1 + 2 * rng.uniform(size=n))
    return np.hstack([np.stack([t * np.cos(t), t * np.sin(t)], 1), 21 * rng.uniform(size=(n, d - 1))])


def unrolled(n, d, rng):
    return rng.uniform(size=(n, d))


MANIFOLDS = [(m, d) for m in (sphere, flat_torus, swiss_roll, unrolled) for d in (1, 2, 3, 4, 5)] + [(torus, 2)]


@pytest.mark.parametrize(("manifold", "d"), MANIFOLDS, ids=lambda v: getattr(v, "__name__", v))
def test_known_dimensions_within_five_percent(manifold, d):
    """TwoNN reads one ratio a row: its standard error is 2 percent, so of 5 dimensions three samples are averaged."""
    samples = [manifold(10_000, d, np.random.default_rng([d, i])) for i in range(3 if d == 5 else 1)]
    assert mle(samples[0]).value == pytest.approx(d, rel=0.05)
    assert np.mean([twonn(sample).value for sample in samples]) == pytest.approx(d, rel=0.05)


@pytest.mark.parametrize("estimate", [twonn, mle])
def test_the_interior_mends_what_the_papers_estimators_miss_at_borders(estimate):
    vectors = swiss_roll(10_000, 5, np.random.default_rng(0))
    assert abs(estimate(vectors).value - 5) < abs(estimate(vectors, interior=1).value - 5)


def rotated(vectors, width, seed=0):
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    return vectors @ basis[: vectors.shape[1]]


@pytest.mark.parametrize("estimate", [twonn, mle])
def test_rotation_shift_scale_and_long_vectors_do_not_matter(estimate):
    vectors = sphere(1500, 3, np.random.default_rng(0))
    expected = estimate(vectors).value
    assert estimate(rotated(vectors, 40) * 7 + 3).value == pytest.approx(expected, rel=1e-6)
    assert estimate((rotated(vectors, 40) * 7 + 3).astype(np.float32)).value == pytest.approx(expected, rel=1e-3)


def distances(vectors, k):
    away = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    return np.sort(away, axis=1)[:, 1 : k + 1]


def test_twonn_is_the_papers_fit():
    vectors = sphere(150, 2, np.random.default_rng(0))
    mu = sorted(r2 / r1 for r1, r2 in distances(vectors, 2))
    pairs = [(np.log(m), -np.log(1 - i / 150)) for i, m in enumerate(mu, start=1) if i <= 0.8 * 150]
    slope = sum(x * y for x, y in pairs) / sum(x * x for x, _ in pairs)
    assert twonn(vectors, discard=0.2, interior=1).value == pytest.approx(slope, rel=1e-9)


def test_mle_is_the_papers_formula():
    vectors, k = sphere(150, 2, np.random.default_rng(0)), 7
    inverse = [sum(np.log(row[-1] / row[j]) for j in range(k - 1)) / (k - 1) for row in distances(vectors, k)]
    found = mle(vectors, neighbours=k, interior=1)
    assert found.value == pytest.approx(1 / np.mean(inverse), rel=1e-9)
    local = [(k - 2) / (k - 1) / value for value in inverse]
    np.testing.assert_allclose(local_dimension(vectors, neighbours=k), local, rtol=1e-9)


@pytest.mark.parametrize("d", [2, 4])
def test_scikit_dimension_agrees(d):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skdim = pytest.importorskip("skdim")
        vectors = rotated(swiss_roll(1500, d, np.random.default_rng(0)), 30)
        their_twonn = skdim.id.TwoNN(discard_fraction=0.1).fit(vectors).dimension_
        their_mle = skdim.id.MLE().fit(vectors, n_neighbors=10).dimension_  # averaged as 1 / mean(1/m)
    assert twonn(vectors, interior=1).value == pytest.approx(their_twonn, rel=1e-6)
    assert mle(vectors, neighbours=10, interior=1).value == pytest.approx(their_mle, rel=1e-6)


@pytest.mark.parametrize("interior", [0.4, 1.0])
@pytest.mark.parametrize(("estimate", "most"), [(twonn, 1.5), (mle, 1.9)])
def test_standard_errors(estimate, most, interior):
    """Independent samples spread by the standard error, or up to `most` times where neighbourhoods overlap."""
    found = [estimate(sphere(1200, 2, np.random.default_rng(seed)), interior=interior) for seed in range(40)]
    spread = np.std([f.value for f in found]) / np.mean([f.standard_error for f in found])
    assert 0.7 < spread < most


def test_queries_are_asked_among_all_rows():
    vectors = sphere(6000, 3, np.random.default_rng(0))
    whole = mle(vectors, interior=1)
    parts = [mle(vectors, interior=1, queries=500, seed=seed) for seed in range(10)]
    assert whole.queries == 6000
    assert {part.queries for part in parts} == {500}
    assert np.mean([part.value for part in parts]) == pytest.approx(whole.value, abs=2 * whole.standard_error)
    assert parts[0].standard_error == pytest.approx(whole.standard_error * 12**0.5, rel=0.15)


@pytest.mark.parametrize("estimate", [twonn, mle])
@pytest.mark.parametrize("width", [3, 40])
def test_duplicates_are_counted_and_set_aside(estimate, width):
    once = rotated(sphere(800, 2, np.random.default_rng(0)), width)
    once[:, 0] = np.where(np.abs(once[:, 0]) < 0.01, 0.0, once[:, 0])
    again = once[::3].copy()
    again[again == 0] = -0.0
    found = estimate(np.vstack([once, again, again]))
    assert found.duplicates == 2 * len(again)
    assert found.value == pytest.approx(estimate(once).value)
    local = local_dimension(np.vstack([once, again]))
    np.testing.assert_array_equal(local[800:], local[:800:3])
    np.testing.assert_allclose(local[:800], local_dimension(once))


def test_local_dimension_tells_a_line_from_a_ball():
    rng = np.random.default_rng(0)
    line = np.outer(rng.uniform(size=1000), np.ones(3)) + 9
    local = local_dimension(np.vstack([line, rng.normal(size=(3000, 3))]))
    assert local.shape == (4000,)
    assert np.median(local[:1000]) == pytest.approx(1, abs=0.08)
    assert np.median(local[1000:]) == pytest.approx(3, abs=0.3)


def test_the_eccentricity_of_a_border_row():
    line = np.linspace(0, 1, 101)[:, None] * np.ones(2)
    found = np.array([[1, 2], [49, 51]])
    away = np.array([[1, 2], [1, 1]]) * 0.01 * 2**0.5
    np.testing.assert_allclose(
        room._eccentricity(line, np.array([0, 50]), away, found), [1.5 / 2.5**0.5, 0], atol=1e-12
    )


@pytest.mark.parametrize("estimate", [twonn, mle])
def test_bad_input(estimate):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="different vectors, got 1"):
        estimate(np.ones((50, 4)))
    with pytest.raises(DataError, match="different vectors, got 0"):
        estimate(np.ones((0, 4)))
    with pytest.raises(DataError, match=r"\(n, d\), got shape"):
        estimate(np.ones(50))
    with pytest.raises(DataError, match="finite"):
        estimate(np.append(rng.normal(size=(50, 4)), [[np.nan] * 4], axis=0))
    with pytest.raises(SettingError, match="interior"):
        estimate(rng.normal(size=(50, 4)), interior=0)
    with pytest.raises(SettingError, match="queries"):
        estimate(rng.normal(size=(50, 4)), queries=0)


def test_bad_settings_and_lattices():
    vectors = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(SettingError, match="discard"):
        twonn(vectors, discard=1)
    with pytest.raises(SettingError, match="3 neighbours, got 2"):
        mle(vectors, neighbours=2)
    with pytest.raises(SettingError, match="3 neighbours"):
        local_dimension(vectors, neighbours=2)
    lattice = np.stack(np.meshgrid(*[np.arange(9.0)] * 2), -1).reshape(-1, 2)
    with pytest.raises(DataError, match="lattice"):
        twonn(lattice)
    assert np.isfinite(local_dimension(lattice)).all()
    assert twonn(vectors[:3], discard=0).value > 0
