"""Probes against naive loops, closed forms and planted truths."""

import numpy as np
import pytest

from graticule.evaluation.probes import ALPHAS, fit_ridge, knn, logistic, one_hot, ridge, score, vote


def normal_equations(x, y, alpha, standard=None):
    """Ridge with an unpenalised intercept on columns standardised by `standard` rows."""
    mean, deviation = (x if standard is None else standard).mean(0), (x if standard is None else standard).std(0)
    z = np.hstack([(x - mean) / deviation, np.ones((len(x), 1))])
    penalty = np.diag([alpha] * x.shape[1] + [0.0])
    weight = np.linalg.solve(z.T @ z + penalty, z.T @ y)
    return lambda test: np.hstack([(test - mean) / deviation, np.ones((len(test), 1))]) @ weight


def problem(n, d, t, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * rng.uniform(0.1, 9, d) + rng.normal(size=d)
    return x, x @ rng.normal(size=(d, t)) + rng.normal(size=(n, t)) * 4 + 3


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 30), (20, 20)])
@pytest.mark.parametrize("alpha", [1e-2, 1.0, 300.0])
def test_ridge_is_the_solution_of_the_normal_equations(n, d, alpha):
    x, y = problem(n, d, 3)
    weight, intercept, _ = fit_ridge(x, y, np.array([alpha]))
    test = np.random.default_rng(1).normal(size=(7, d))
    np.testing.assert_allclose(test @ weight + intercept, normal_equations(x, y, alpha)(test), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("n", "d"), [(25, 4), (15, 40)])
def test_leave_one_out_errors_are_those_of_refits(n, d):
    x, y = problem(n, d, 2)
    alphas = np.array([0.1, 3.0, 100.0])
    expected = np.zeros(3)
    for i, alpha in enumerate(alphas):
        for row in range(n):
            rest = np.arange(n) != row
            fitted = normal_equations(x[rest], y[rest], alpha, standard=x)
            expected[i] += np.square(fitted(x[[row]]) - y[row]).mean() / n
    np.testing.assert_allclose(fit_ridge(x, y, alphas)[2], expected, rtol=1e-7)


def test_the_penalty_of_least_error_is_used():
    x, y = problem(60, 40, 1)
    weight, intercept, errors = fit_ridge(x, y)
    best = ALPHAS[np.argmin(errors)]
    np.testing.assert_allclose(x @ weight + intercept, normal_equations(x, y, best)(x), rtol=1e-6)


def test_planted_truth_is_found_and_shuffled_truth_is_not():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(900, 32)).astype(np.float32)
    truth = vectors @ rng.normal(size=32) + 5
    train, test = slice(0, 600), slice(600, None)
    assert score(truth[test], ridge(vectors[train], truth[train], vectors[test])) > 0.999999
    shuffled = rng.permutation(truth)
    assert abs(score(shuffled[test], ridge(vectors[train], shuffled[train], vectors[test]))) < 0.05
    label = (vectors @ rng.normal(size=(32, 4))).argmax(1)
    for probe, least in ((ridge, 0.75), (logistic, 0.9)):  # one-hot regression masks classes between others
        assert score(label[test], probe(vectors[train], label[train], vectors[test], 4), 4) > least
        wrong = rng.permutation(label)
        assert score(wrong[test], probe(vectors[train], wrong[train], vectors[test], 4), 4) < 0.4


def test_scale_shift_and_constant_columns_do_not_matter():
    x, y = problem(80, 10, 1)
    label = y[:, 0]
    expected = ridge(x[:60], label[:60], x[60:])
    changed = np.hstack([x * np.logspace(-6, 6, 10) + 50 * np.logspace(-6, 6, 10), np.full((80, 2), [0.0, 0.3])])
    np.testing.assert_allclose(ridge(changed[:60], label[:60], changed[60:]), expected, rtol=1e-6)
    np.testing.assert_allclose(ridge(np.ones((60, 3)), label[:60], np.ones((20, 3))), label[:60].mean())


@pytest.mark.parametrize("probe", [ridge, logistic, knn])
def test_one_class_or_one_row_is_predicted(probe):
    x = np.random.default_rng(0).normal(size=(9, 4))
    np.testing.assert_array_equal(probe(x[:6], np.full(6, 2), x[6:], 3), [2, 2, 2])
    np.testing.assert_array_equal(probe(x[:1], np.array([1]), x[6:], 3), [1, 1, 1])


def test_a_class_without_training_rows_is_never_predicted():
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(60, 5)), rng.choice([0, 2], 60)
    for probe in (ridge, logistic, knn):
        assert set(probe(x[:50], label[:50], x[50:], 3)) <= {0, 2}


@pytest.mark.parametrize("classes", [0, 3])
def test_knn_is_the_naive_loop(classes):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(50, 6)), rng.normal(size=(20, 6))
    label = rng.integers(0, 3, 50) if classes else rng.normal(size=50)
    predicted = knn(train, label, test, classes, neighbours=4)
    for row, found in zip(test, predicted, strict=True):
        cosine = [row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in train]
        nearest = label[np.argsort(cosine)[-4:]]
        expected = np.bincount(nearest, minlength=3).argmax() if classes else nearest.mean()
        np.testing.assert_allclose(found, expected)
    assert len(knn(train[:2], label[:2], test, classes, neighbours=5)) == 20
    assert np.isfinite(knn(np.zeros((5, 6)), label[:5], test, classes)).all()


def test_vote_adds_weights_of_repeated_classes():
    labels, weights = np.array([[0, 1, 1], [2, 0, 0]]), np.array([[1.0, 0.6, 0.6], [3.0, 1.0, 1.0]])
    np.testing.assert_array_equal(vote(labels, weights, 3), [1, 2])
    np.testing.assert_allclose(vote(labels.astype(float), weights, 0), [1.2 / 2.2, 6 / 5])


def test_scores():
    truth = np.array([1.0, 2.0, 3.0])
    assert score(truth, truth) == 1
    assert score(truth, np.full(3, 2.0)) == 0
    assert score(truth, -truth) < -10
    assert score(np.ones(3), np.ones(3)) == 1
    assert score(np.ones(3), truth) == 0
    assert score(np.array([0, 1, 1]), np.array([0, 1, 2]), 3) == pytest.approx(2 / 3)
    np.testing.assert_array_equal(one_hot(np.array([2, 0]), 3), [[0, 0, 1], [1, 0, 0]])
