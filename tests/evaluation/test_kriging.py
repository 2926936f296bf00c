"""Kriging against a worked textbook example, closed forms and loops; the Gaussian process against its own density."""

import numpy as np
import pytest

from graticule.evaluation.baselines import BASELINES
from graticule.evaluation.gaussian import Kernel, fit_kernel, gp, misfit
from graticule.evaluation.kriging import (
    Covariance,
    exponential,
    fit_covariance,
    kriging,
    matern32,
    ordinary_kriging,
)
from graticule.evaluation.predictors import Inputs, score
from graticule.geo.coords import lonlat, uniform_places, unit_sphere


def at(points):
    return Inputs(np.empty((len(points), 0)), points)


def field(covariance, points, seed=0):
    """One draw of a Gaussian field with this covariance, nugget included."""
    places = unit_sphere(points)
    matrix = covariance(np.linalg.norm(places[:, None] - places, axis=-1)) + covariance.nugget * np.eye(len(points))
    return 7 + 3 * np.linalg.cholesky(matrix) @ np.random.default_rng(seed).normal(size=len(points))


def test_the_worked_example_of_isaaks_and_srivastava():
    """Isaaks & Srivastava 1989, ch. 12: seven samples of Walker Lake, C(h) = 10 exp(-0.3 |h|), asked at (65, 137)."""
    samples = np.array([(61, 139), (63, 140), (64, 129), (68, 128), (71, 140), (73, 141), (75, 128)], dtype=float)
    value = np.array([477, 696, 227, 646, 606, 791, 783])
    between = 10 * np.exp(-0.3 * np.linalg.norm(samples[:, None] - samples, axis=-1))
    towards = 10 * np.exp(-0.3 * np.linalg.norm(samples - [65, 137], axis=-1))
    weights, variance = ordinary_kriging(between, towards, sill=10)
    np.testing.assert_allclose(weights, [0.173, 0.318, 0.129, 0.086, 0.151, 0.057, 0.086], atol=6e-4)
    assert weights @ value == pytest.approx(592.7, abs=0.15)
    assert variance == pytest.approx(8.96, abs=0.01)


def test_the_solver_is_the_bordered_system():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 6, 6))
    between, towards = root @ root.transpose(0, 2, 1) + np.eye(6), rng.normal(size=(4, 6))
    weights, variance = ordinary_kriging(between, towards, sill=3)
    for k in range(4):
        bordered = np.block([[between[k], np.ones((6, 1))], [np.ones((1, 6)), np.zeros((1, 1))]])
        solved = np.linalg.solve(bordered, np.append(towards[k], 1))
        np.testing.assert_allclose(weights[k], solved[:6], rtol=1e-8)
        np.testing.assert_allclose(variance[k], 3 - solved[:6] @ towards[k] - solved[6], rtol=1e-8)


def test_one_sample_and_equal_samples():
    weights, variance = ordinary_kriging(np.array([[1.0]]), np.array([0.4]))
    assert (weights, variance) == (pytest.approx([1]), pytest.approx(2 * 0.6))
    weights, _ = ordinary_kriging(np.full((2, 2), 0.9) + 0.1 * np.eye(2), np.array([0.5, 0.5]))
    np.testing.assert_allclose(weights, [0.5, 0.5])


def test_correlations():
    distance = np.array([0, 0.5, 2.0])
    np.testing.assert_allclose(exponential(distance), [1, np.exp(-0.5), np.exp(-2)])
    scipy_special = pytest.importorskip("scipy.special")
    z = np.sqrt(3) * distance[1:]  # Rasmussen & Williams 2006, eq. 4.14 with nu = 3/2
    general = 2**-0.5 / scipy_special.gamma(1.5) * z**1.5 * scipy_special.kv(1.5, z)
    np.testing.assert_allclose(matern32(distance), [1, *general])


@pytest.mark.parametrize(
    "truth", [Covariance(*each) for each in ((0.3, 0.1, True), (0.3, 0.1, False), (0.1, 0.1, False))]
)
def test_a_planted_covariance_is_recovered(truth):
    points = uniform_places(1200, seed=2)
    found = fit_covariance(unit_sphere(points), field(truth, points, seed=1)[:, None])
    assert found.rough == truth.rough
    assert found.nugget == pytest.approx(truth.nugget, abs=0.05)
    assert found.reach == pytest.approx(truth.reach, rel=0.3)


def test_a_smooth_field_is_predicted_as_well_as_its_covariance_allows():
    points = uniform_places(900, seed=3)
    label = field(Covariance(0.5, 0.01, False), points)
    train, test = at(points[:600]), at(points[600:])
    places = unit_sphere(points)
    truth = Covariance(0.5, 0.01, False)
    between = truth(np.linalg.norm(places[:600, None] - places[:600], axis=-1)) + 0.01 * np.eye(600)
    towards = truth(np.linalg.norm(places[600:, None] - places[:600], axis=-1))
    best = np.array([ordinary_kriging(between, row)[0] @ label[:600] for row in towards[:60]])
    said = kriging(train, label[:600], test)
    assert np.mean((said[:60] - label[600:660]) ** 2) < 1.15 * np.mean((best - label[600:660]) ** 2)
    assert score(label[600:], said) > score(label[600:], BASELINES["IDW-20"](train, label[:600], test, 0))
    shuffled = np.random.default_rng(0).permutation(label)
    assert score(shuffled[600:], kriging(train, shuffled[:600], test)) < 0.05


def test_indicators_give_the_class_around():
    points = uniform_places(800, seed=4)
    label = (unit_sphere(points) @ np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1.0]])).argmax(1) * 2
    said = kriging(at(points[:600]), label[:600], at(points[600:]), 6)
    assert score(label[600:], said, 6) > 0.93
    assert set(said) <= {0, 2, 4}


@pytest.mark.parametrize("predict", [kriging, gp])
def test_edges_of_the_map_turns_and_small_questions(predict):
    points, asked = uniform_places(150, seed=5), uniform_places(30, seed=6)
    label = np.round(unit_sphere(points) @ [1.0, 2.0, -1.0], 3)
    said = predict(at(points), label, at(asked))
    turned = lonlat(lon=[*points[:, 0] + 180], lat=points[:, 1]), lonlat(lon=[*asked[:, 0] + 180], lat=asked[:, 1])
    np.testing.assert_allclose(predict(at(turned[0]), label, at(turned[1])), said, atol=1e-5)
    poles = lonlat(lon=[0, 90, -180, 179.999999], lat=[90, 90, 0, 0])
    said = predict(at(points), label, at(poles))
    np.testing.assert_allclose(said[::2], said[1::2], atol=1e-5)
    assert predict(at(points), label, at(points[:0])).shape == (0,)
    for rows in (1, 2, 3, 7):
        assert np.isfinite(predict(at(points[:rows]), label[:rows], at(asked))).all()
    np.testing.assert_array_equal(predict(at(points[:1]), label[:1], at(asked)), np.full(30, label[0]))
    np.testing.assert_array_equal(predict(at(points), np.full(150, 0.1), at(asked)), np.full(30, 0.1))
    np.testing.assert_array_equal(predict(at(points), np.full(150, 2), at(asked), 3), np.full(30, 2))


@pytest.mark.parametrize("predict", [kriging, gp])
def test_equal_places_are_not_singular(predict):
    points = uniform_places(3, seed=7)
    doubled = np.repeat(points, 60, 0)
    label = np.repeat([1.0, 2.0, 3.0], 60)
    np.testing.assert_allclose(predict(at(doubled), label, at(points)), [1, 2, 3], atol=0.1)
    np.testing.assert_allclose(predict(at(doubled[:60]), np.arange(60.0), at(points[:1])), [29.5], atol=10)


def kernel_problem(n=40):
    rng = np.random.default_rng(0)
    vectors, places = rng.normal(size=(n, 3)), unit_sphere(uniform_places(n))
    apart, chords = (np.linalg.norm(x[:, None] - x, axis=-1) for x in (vectors, places))
    return apart, chords, rng.normal(size=(n, 2))


def test_the_misfit_is_minus_twice_the_best_log_density_over_scales():
    scipy_stats = pytest.importorskip("scipy.stats")
    apart, chords, targets = kernel_problem()
    n = len(targets)
    for logs in ([0.0, -1, 0.3, -2], [1.0, -2, -1, -1]):
        kernel = Kernel(*np.exp(logs))
        matrix = kernel(apart, chords) + kernel.noise * np.eye(n)

        def density(scale, matrix=matrix):
            return scipy_stats.multivariate_normal(np.zeros(n), scale * matrix).logpdf(targets[:, 0])

        value, _ = misfit(kernel, apart, chords, targets[:, :1])
        scale = targets[:, 0] @ np.linalg.solve(matrix, targets[:, 0]) / n
        assert -2 * density(scale) == pytest.approx(value + n * (1 + np.log(2 * np.pi / n)))
        assert density(scale) > max(density(scale * 1.05), density(scale / 1.05))


def test_derivatives_of_the_misfit_are_finite_differences():
    apart, chords, targets = kernel_problem()
    logs = np.array([0.2, -1.0, 0.4, -1.5])
    _, slopes = misfit(Kernel(*np.exp(logs)), apart, chords, targets)
    for i, slope in enumerate(slopes):
        step = 1e-5 * np.eye(4)[i]
        up, down = (misfit(Kernel(*np.exp(logs + s)), apart, chords, targets)[0] for s in (step, -step))
        assert slope == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-6)


def test_the_kernel_finds_out_whether_vector_or_place_matters():
    rng = np.random.default_rng(0)
    vectors, points = rng.normal(size=(300, 3)), uniform_places(300, seed=1)
    apart, chords = (np.linalg.norm(x[:, None] - x, axis=-1) for x in (vectors, unit_sphere(points)))
    noise = 0.1 * rng.normal(size=300)
    of_vector = fit_kernel(apart, chords, (np.sin(vectors[:, 0]) + noise)[:, None])
    of_place = fit_kernel(apart, chords, (np.sin(4 * unit_sphere(points)[:, 2]) + noise)[:, None])
    assert of_vector.odds > 5
    assert of_place.odds < 0.2


def test_the_gaussian_process_uses_both():
    rng = np.random.default_rng(0)
    rows = Inputs(rng.normal(size=(500, 3)), uniform_places(500, seed=1))
    label = np.sin(rows.vectors[:, 0]) + np.sin(4 * unit_sphere(rows.points)[:, 2])
    train, test = rows.take(np.arange(400)), rows.take(np.arange(400, 500))
    assert score(label[400:], gp(train, label[:400], test)) > 0.9
    number = np.digitize(label, [0]) * 2
    assert score(number[400:], gp(train, number[:400], test, 3), 3) > 0.8
