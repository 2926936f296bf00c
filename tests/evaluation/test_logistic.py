"""Multinomial logistic regression against scikit-learn."""

import numpy as np
import pytest

from graticule.evaluation.inner import principal_axes
from graticule.evaluation.logistic import FOLDS, STRENGTHS, chosen_strength, path, probabilities, search
from graticule.evaluation.predictors import one_hot


def problem(n=240, d=8, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    return x.astype(np.float32), (x @ rng.normal(size=(d, classes)) + 6 * rng.normal(size=(n, classes))).argmax(1)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_are_those_of_scikit_learn(strength, classes):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, label = problem(classes=classes)
    known, asked = x[:200].astype(np.float64), x[200:].astype(np.float64)
    mean, deviation = known.mean(0), known.std(0)
    both = 2 if classes == 2 else 1  # scikit-learn then fits the difference of the two weight vectors
    reference = linear_model.LogisticRegression(C=both * strength, tol=1e-8, max_iter=5000)
    reference.fit((known - mean) / deviation, label[:200])
    expected = reference.predict_proba((asked - mean) / deviation)
    found = probabilities(x[:200], label[:200], x[200:], classes, strength)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)


def test_an_unseen_class_has_probability_zero():
    x, label = problem(classes=2)
    found = probabilities(x, 2 * label, x[:5], 4, 1.0)
    assert not found[:, [1, 3]].any()
    np.testing.assert_allclose(found[:, [0, 2]], probabilities(x, label, x[:5], 2, 1.0), rtol=1e-6)


def test_noise_is_shrunken_more_than_truth():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 60))
    assert chosen_strength(x, (x[:, 0] + 0.5 * rng.normal(size=300) > 0).astype(int)) < STRENGTHS[-1]
    clear = x[:, :4].argmax(1)
    assert chosen_strength(x[:, :4], clear) == STRENGTHS[-1]
    assert chosen_strength(x[:1], np.array([3])) in STRENGTHS
    assert FOLDS > 1


def test_a_search_ends_where_it_ends_from_anywhere():
    x, label = problem()
    x, truth = x - x.mean(0), one_hot(label, 4)
    axes, values = principal_axes(x)
    scores, spread = x @ axes, values / len(x)
    weight, intercept = next(path(x, truth, [0.01], 500))
    some = np.random.default_rng(0).normal(size=(3, 4)), np.ones(4)
    found, offset = next(search(scores, spread, truth, [0.01], 500, start=some))
    np.testing.assert_allclose(axes @ found, weight, atol=2e-3)
    np.testing.assert_allclose(offset - offset.mean(), intercept - intercept.mean(), atol=2e-3)
    early, _ = next(search(scores, spread, truth, [0.01], 500, tolerance=1e-2))
    assert np.abs(axes @ early - weight).max() > 1e-3
