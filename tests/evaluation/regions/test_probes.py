import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from graticule.errors import DataError
from graticule.evaluation.logistic import path
from graticule.evaluation.predictors import one_hot
from graticule.evaluation.regions import probes
from graticule.evaluation.regions.probes import Sample, fit_predict, group_folds, score_cities

RNG = np.random.default_rng(0)
CITIES = [f"city{i}" for i in range(6)]


def world(width=30, rows=60, seed=0, classes=0, planted=True):
    """Cities, each with a shift of its own, whose labels are linear in some columns of the vectors; or not at all."""
    rng = np.random.default_rng(seed)
    slope = np.random.default_rng(9).normal(size=(5, max(classes, 1)))
    cities = {}
    for city in CITIES:
        signal = rng.normal(size=(rows, 5)) + rng.normal(size=5)
        label = signal @ slope + 0.1 * rng.normal(size=(rows, max(classes, 1)))
        other = rng.normal(size=(rows, width - 5))
        vectors = np.hstack([signal if planted else rng.normal(size=(rows, 5)), other])
        cities[city] = Sample(vectors, label.argmax(1) if classes else label[:, 0])
    return cities


def halves(cities):
    return {c: cities[c] for c in CITIES[:3]}, {c: cities[c] for c in CITIES[3:]}


def mean(scores, metric):
    return np.mean([city[metric] for city in scores.values()])


@pytest.mark.parametrize(("width", "least"), [(30, 0.8), (400, 0.3)])  # fewer and more columns than rows
def test_what_is_planted_is_found_in_cities_never_seen(width, least):
    found = score_cities(*halves(world(width)))
    assert list(found) == CITIES[3:]
    assert mean(found, "skill") > least
    assert mean(found, "spearman") > least


def test_noise_is_not():
    scores = score_cities(*halves(world(planted=False)))
    assert mean(scores, "skill") < 0.05
    assert mean(scores, "skill") > -0.3
    assert abs(mean(scores, "spearman")) < 0.2


def test_classes_that_are_planted_are_found_and_noise_is_not():
    assert mean(score_cities(*halves(world(rows=200, classes=3)), classes=3), "macro-F1") > 0.85
    assert mean(score_cities(*halves(world(rows=200, classes=3, planted=False)), classes=3), "macro-F1") < 0.45


def test_nothing_says_the_mean_or_the_most_frequent_class():
    train, test = halves(world())
    blank = [{c: Sample(s.vectors[:, :0], s.label) for c, s in side.items()} for side in (train, test)]
    assert mean(score_cities(*blank), "skill") == 0
    counted = {"a": Sample(np.zeros((5, 0)), np.array([2, 2, 2, 1, 0]))}
    asked = {"b": Sample(np.zeros((20, 0)), np.repeat([1, 2], 10))}
    assert score_cities(counted, asked, classes=3)["b"]["accuracy"] == 0.5


def test_ridge_is_scikit_learns_at_the_best_of_naively_left_out_folds():
    x, y = RNG.normal(size=(50, 7)), RNG.normal(size=(50, 2))
    y[:, 0] += x[:, 0]
    fold, asked = np.arange(50) % 3, RNG.normal(size=(4, 7))
    errors = []
    for alpha in probes.ALPHAS:
        error = 0.0
        for k in range(3):
            model = Ridge(alpha=alpha).fit(x[fold != k], y[fold != k])
            error += np.mean((model.predict(x[fold == k]) - y[fold == k]) ** 2)
        errors.append(error)
    best = Ridge(alpha=probes.ALPHAS[np.argmin(errors)]).fit(x, y)
    np.testing.assert_allclose(probes.ridge(x, y, fold, asked), best.predict(asked), atol=1e-8)
    np.testing.assert_allclose(
        probes.ridge(x, y[:, 0], fold, asked).shape, (4,)
    )  # one column of labels gives one column of answers


def test_more_columns_than_rows_change_nothing():
    x, y, fold = RNG.normal(size=(20, 45)), RNG.normal(size=20), np.arange(20) % 4
    asked = RNG.normal(size=(6, 45))
    errors = [
        sum(np.mean((Ridge(alpha=a).fit(x[fold != k], y[fold != k]).predict(x[fold == k]) - y[fold == k]) ** 2)
            for k in range(4))
        for a in probes.ALPHAS
    ]  # fmt: skip
    best = Ridge(alpha=probes.ALPHAS[np.argmin(errors)]).fit(x, y)
    np.testing.assert_allclose(probes.ridge(x, y, fold, asked), best.predict(asked), atol=1e-8)


def test_logistic_is_scikit_learns_with_balanced_classes():
    x = RNG.normal(size=(200, 4))
    y = (x[:, 0] + RNG.normal(size=200) > 0.8).astype(int) + (x[:, 1] + RNG.normal(size=200) > 1)
    weight, intercept = next(path(x, one_hot(y, 3), [0.01], 500, probes.class_weights(y)))
    model = LogisticRegression(C=1 / (0.01 * len(x)), class_weight="balanced", max_iter=1000, tol=1e-8).fit(x, y)
    expected = model.predict_log_proba(x)
    logits = x @ weight + intercept
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(logits, expected, atol=5e-3)


def classes_of_many_columns(n=900, d=300, seed=3):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 20))
    columns = hidden @ rng.normal(size=(20, d)) + 2 * rng.normal(size=(n, d))
    y = (hidden[:, :4] + 0.5 * rng.gumbel(size=(n, 4)) + [0, 0, 1, 2]).argmax(1)
    return (columns - columns.mean(0)) / columns.std(0), y


def test_few_axes_choose_the_decay_that_all_columns_choose_and_the_fit_has_all():
    x, y = classes_of_many_columns()
    x, y, asked, truth = x[:600], y[:600], x[600:], y[600:]
    fold, models = np.arange(600) % 5, []
    for decay in probes.DECAYS:
        models.append(LogisticRegression(C=1 / (decay * 480), class_weight="balanced", max_iter=2000))
    weights = probes.class_weights(y)
    hits = [
        sum(
            weights[fold == k] @ (m.fit(x[fold != k], y[fold != k]).predict(x[fold == k]) == y[fold == k])
            for k in range(5)
        )
        for m in models
    ]
    best = LogisticRegression(C=1 / (probes.DECAYS[np.argmax(hits)] * 600), class_weight="balanced", max_iter=2000)
    expected, found = best.fit(x, y).predict(asked), probes.logistic(x, y, fold, asked, 4)
    assert np.mean(found == expected) > 0.97
    assert np.mean(found == truth) > 0.6


def test_weaker_decays_are_not_tried_once_two_were_worse(monkeypatch):
    tried, truth = [], np.eye(4)[np.arange(40) % 4]

    def right_only_at_the_second(scores, spread, truth, decays, *rest):
        for decay in decays:
            tried.append(decay)
            yield (np.eye(4) if decay == decays[1] else np.zeros((4, 4))), np.full(4, decay)

    monkeypatch.setattr(probes, "search", right_only_at_the_second)
    decay, weight, intercept = probes._chosen(truth, np.ones(4), truth, np.arange(40) % 5)
    assert decay == probes.DECAYS[1]
    assert tried == list(np.repeat(probes.DECAYS[:4], 5))
    np.testing.assert_array_equal(weight, np.eye(4))
    np.testing.assert_allclose(intercept, probes.DECAYS[1])
    decay, weight, _ = probes._chosen(truth, np.ones(4), truth, np.zeros(40, int))
    assert decay == probes.DECAYS[0]
    assert not weight.any()


def test_folds_keep_cities_together():
    group = np.repeat(np.arange(9), [3, 50, 7, 7, 20, 1, 1, 9, 30])
    fold = group_folds(np.zeros(len(group)), group)
    assert set(fold) == set(range(5))
    assert all(len(set(fold[group == g])) == 1 for g in range(9))
    assert set(group_folds(np.zeros(12), np.zeros(12, int))) == set(range(5))


def test_a_city_beyond_everything_seen_is_clipped():
    x, y = RNG.normal(size=(100, 1)), RNG.normal(size=100)
    y += x[:, 0]
    far, edge = fit_predict(x, y, np.arange(100) % 5, np.array([[1e6], [x.mean() + 5 * x.std()]]))
    assert far == pytest.approx(edge)


def test_small_and_empty_sides():
    one = Sample(np.ones((1, 3)), np.ones(1))
    asked = {"b": Sample(RNG.normal(size=(20, 3)), np.arange(20.0))}
    assert np.isfinite(score_cities({"a": one}, asked)["b"]["skill"])
    assert score_cities({"a": one}, {"b": one}) == {}
    both = {"b": Sample(RNG.normal(size=(20, 3)), np.arange(20) % 2)}
    single = {"a": Sample(RNG.normal(size=(9, 3)), np.full(9, 1))}
    assert score_cities(single, both, classes=2)["b"]["accuracy"] == 0.5
    one_class = {"a": Sample(np.ones((1, 3)), np.ones(1, int)), "c": Sample(np.zeros((2, 3)), np.zeros(2, int))}
    assert 0 <= score_cities(one_class, both, classes=2)["b"]["accuracy"] <= 1
    empty = Sample(np.zeros((0, 3)), np.zeros(0))
    assert score_cities({"a": one, "e": empty}, {"e": empty}) == {}
    with pytest.raises(DataError, match="No training city has labelled rows"):
        score_cities({"e": empty}, asked)
    with pytest.raises(DataError, match=r"got \(2, 3\) and \(1,\)"):
        Sample(np.zeros((2, 3)), np.zeros(1))
    with pytest.raises(DataError, match="test vectors hold NaN"):
        fit_predict(np.ones((3, 1)), np.arange(3.0), np.arange(3), np.full((1, 1), np.nan))
