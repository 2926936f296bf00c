"""Probes against naive loops, closed forms and planted truths."""

import random

import numpy as np
import pytest

from graticule.errors import SettingError
from graticule.evaluation.boosting import boosting
from graticule.evaluation.inner import inner_folds
from graticule.evaluation.kriging import kriging, neighbours
from graticule.evaluation.predictors import Inputs, one_hot, score, vote
from graticule.evaluation.probes import (
    ALPHAS,
    CLASSES_ONLY,
    PROBES,
    chosen,
    fit_ridge,
    knn,
    kriged,
    logistic,
    probe,
    ridge,
)
from graticule.geo.coords import uniform_places, unit_sphere


def ask(probe, train, label, test, classes=0, **options):
    """The probe on vectors alone, at places that say nothing."""
    rows = (Inputs(vectors, uniform_places(len(vectors))) for vectors in (train, test))
    return probe(next(rows), label, next(rows), classes, **options)


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
    assert score(truth[test], ask(ridge, vectors[train], truth[train], vectors[test])) > 0.999999
    shuffled = rng.permutation(truth)
    assert abs(score(shuffled[test], ask(ridge, vectors[train], shuffled[train], vectors[test]))) < 0.05
    label = (vectors @ rng.normal(size=(32, 4))).argmax(1)
    for one, least in ((ridge, 0.75), (logistic, 0.9)):  # one-hot regression masks classes between others
        assert score(label[test], ask(one, vectors[train], label[train], vectors[test], 4), 4) > least
        wrong = rng.permutation(label)
        assert score(wrong[test], ask(one, vectors[train], wrong[train], vectors[test], 4), 4) < 0.4


def test_scale_shift_and_constant_columns_do_not_matter():
    x, y = problem(80, 10, 1)
    label = y[:, 0]
    expected = ask(ridge, x[:60], label[:60], x[60:])
    changed = np.hstack([x * np.logspace(-6, 6, 10) + 50 * np.logspace(-6, 6, 10), np.full((80, 2), [0.0, 0.3])])
    np.testing.assert_allclose(ask(ridge, changed[:60], label[:60], changed[60:]), expected, rtol=1e-6)
    np.testing.assert_allclose(ask(ridge, np.ones((60, 3)), label[:60], np.ones((20, 3))), label[:60].mean())


def test_ridge_and_knn_are_those_of_scikit_learn():
    linear_model, neighbors = pytest.importorskip("sklearn.linear_model"), pytest.importorskip("sklearn.neighbors")
    x, y = problem(90, 12, 1)
    scaled = (x - x[:60].mean(0)) / x[:60].std(0)
    reference = linear_model.RidgeCV(ALPHAS).fit(scaled[:60], y[:60, 0])
    np.testing.assert_allclose(ask(ridge, x[:60], y[:60, 0], x[60:]), reference.predict(scaled[60:]), rtol=1e-6)
    for count in (1, 3, 10):
        nearest = neighbors.KNeighborsRegressor(count, metric="cosine").fit(x[:60], y[:60, 0])
        predicted = ask(knn, x[:60], y[:60, 0], x[60:], counts=(count,))
        np.testing.assert_allclose(predicted, nearest.predict(x[60:]), rtol=1e-6)


@pytest.mark.parametrize("classes", [0, 3])
def test_knn_takes_the_count_that_predicts_each_row_best_from_the_others(classes):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(40, 3))
    label = x @ [1.0, 2.0, -1.0] + rng.normal(size=40)
    label = np.digitize(label, [-1, 1]) if classes else label
    counts = (1, 4, 15, 39)
    found = []
    for count in counts:
        said = np.empty(40, label.dtype)
        for i in range(40):
            said[[i]] = ask(knn, np.delete(x, i, 0), np.delete(label, i), x[[i]], classes, counts=(count,))
        found.append(score(label, said, classes))
    best = counts[int(np.argmax(found))]
    asked = rng.normal(size=(20, 3))
    expected = ask(knn, x, label, asked, classes, counts=(best,))
    np.testing.assert_array_equal(ask(knn, x, label, asked, classes, counts=counts), expected)


def named(classes):
    return [name for name in PROBES if classes or name not in CLASSES_ONLY]


@pytest.mark.parametrize("name", ["boosting", "mlp", "gp", "knn"])
def test_a_bent_truth_is_found_where_a_line_fails(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4)).astype(np.float32)
    bent = np.abs(x[:, 0]) - x[:, 1] ** 2
    least = {"knn": 0.4, "boosting": 0.65}.get(name, 0.8)
    assert score(bent[400:], ask(ridge, x[:400], bent[:400], x[400:])) < 0.2
    assert score(bent[400:], ask(PROBES[name], x[:400], bent[:400], x[400:])) > least
    label = np.digitize(bent, [-1, 0.3])
    assert score(label[400:], ask(PROBES[name], x[:400], label[:400], x[400:], 3), 3) > least
    wrong = rng.permutation(bent)
    assert score(wrong[400:], ask(PROBES[name], x[:400], wrong[:400], x[400:])) < 0.1


@pytest.mark.parametrize("classes", [0, 3])
def test_every_probe_answers_small_and_odd_questions(classes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 6)).astype(np.float32)
    label = rng.integers(0, 3, 30) if classes else rng.normal(size=30)
    doubled, rare = np.repeat(x[:5], 6, 0), np.array([2] + [0] * 29) if classes else label
    flat = np.ones((30, 6))
    questions = ((x[:2], label[:2]), (x[:5], label[:5]), (doubled, label), (flat, label), (x, rare))
    for name in named(classes):
        for train, known in questions:
            for end in ("", "+place"):
                said = ask(probe(name + end), train, known, x[:7], classes)
                assert said.shape == (7,)
                assert np.isfinite(said).all()
                assert not classes or set(said) <= set(known)
                assert len(ask(probe(name + end), train, known, x[:0], classes)) == 0


@pytest.mark.parametrize("name", PROBES)
def test_the_same_question_gets_the_same_answer_and_random_numbers_are_left_alone(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(80, 5)), rng.integers(0, 3, 80)
    state, plain_state = torch.random.get_rng_state(), random.getstate()
    rows = Inputs(x, uniform_places(80))
    train, test = rows.take(np.arange(60)), rows.take(np.arange(60, 80))
    first = PROBES[name](train, label[:60], test, 3)
    np.testing.assert_array_equal(first, PROBES[name](train, label[:60], test, 3))
    one_by_one = [PROBES[name](train, label[:60], test.take(np.array([i])), 3)[0] for i in range(3)]
    np.testing.assert_array_equal(one_by_one, first[:3])
    assert torch.equal(state, torch.random.get_rng_state())
    assert plain_state == random.getstate()


@pytest.mark.parametrize("name", PROBES)
def test_with_place_a_probe_knows_where_it_is(name):
    rng = np.random.default_rng(0)
    places = uniform_places(500, seed=1)
    rows = Inputs(rng.normal(size=(500, 40)).astype(np.float32), places)
    label = (unit_sphere(places)[:, 2] > 0.2).astype(np.int64)
    train, test = rows.take(np.arange(350)), rows.take(np.arange(350, 500))
    blind, seeing = (score(label[350:], probe(name + end)(train, label[:350], test, 2), 2) for end in ("", "+place"))
    assert seeing > (0.55 if name == "knn" else 0.75)
    assert name in ("gp", "kriged") or seeing > blind + 0.03  # these see it always
    assert len(test.vectors[0]) == 40


def test_an_unknown_probe_gets_one_sentence():
    for name in ("rigde", "ridge+places", "+place", "rigde+place"):
        with pytest.raises(SettingError, match="Unknown probe"):
            probe(name)


@pytest.mark.parametrize("name", PROBES)
def test_one_class_or_one_row_is_predicted(name):
    probe = PROBES[name]
    x = np.random.default_rng(0).normal(size=(9, 4))
    np.testing.assert_array_equal(ask(probe, x[:6], np.full(6, 2), x[6:], 3), [2, 2, 2])
    np.testing.assert_array_equal(ask(probe, x[:1], np.array([1]), x[6:], 3), [1, 1, 1])


def test_a_class_without_training_rows_is_never_predicted():
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(60, 5)), rng.choice([0, 2], 60)
    for one in PROBES.values():
        assert set(ask(one, x[:50], label[:50], x[50:], 3)) <= {0, 2}


@pytest.mark.parametrize("classes", [0, 3])
def test_knn_is_the_naive_loop(classes):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(50, 6)), rng.normal(size=(20, 6))
    label = rng.integers(0, 3, 50) if classes else rng.normal(size=50)
    predicted = ask(knn, train, label, test, classes, counts=(4,))
    for row, found in zip(test, predicted, strict=True):
        cosine = [row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in train]
        nearest = label[np.argsort(cosine)[-4:]]
        expected = np.bincount(nearest, minlength=3).argmax() if classes else nearest.mean()
        np.testing.assert_allclose(found, expected)
    assert np.isfinite(ask(knn, np.zeros((5, 6)), label[:5], test, classes)).all()


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


def straight(n=240):
    x = np.random.default_rng(0).normal(size=(n, 4))
    return x, x @ [1.0, -2.0, 0.5, 1.0]


def stepped(n=240):
    x = np.random.default_rng(1).normal(size=(n, 4))
    return x, np.sign(x[:, 0] * x[:, 1]) + 0.0


@pytest.mark.parametrize(("truth", "winner"), [(straight, "ridge"), (stepped, "knn")])
def test_the_probe_that_fits_is_chosen(truth, winner):
    x, y = truth()
    known, asked = Inputs(x[:180], uniform_places(180)), Inputs(x[180:], uniform_places(60))
    found = chosen(known, y[:180], asked)
    np.testing.assert_array_equal(found, PROBES[winner](known, y[:180], asked))


def test_the_choice_sees_every_training_row_once_and_no_test_row():
    x, y = straight(30)
    asked = []

    def spy(train, label, test, classes):
        asked.append((set(map(float, train.vectors[:, 0])), set(map(float, test.vectors[:, 0]))))
        return np.zeros(len(test))

    known, unknown = Inputs(x[:20], uniform_places(20)), Inputs(x[20:], uniform_places(10))
    chosen(known, y[:20], unknown, among=[spy])
    *inner, last = asked
    assert len(inner) == 3
    assert all(not train & test for train, test in asked)
    assert sorted(v for _, test in inner for v in test) == sorted(map(float, x[:20, 0]))
    assert last == (set(map(float, x[:20, 0])), set(map(float, x[20:, 0])))


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_rows_to_choose_by(rows):
    x, y = straight(rows)
    places = Inputs(x, uniform_places(rows))
    assert np.isfinite(chosen(places, y, places)).all()


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_choice_is_that_of_all_mean_scores(classes, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(90, 5))
    label = x[:, 0] + rng.normal(size=90) * 0.7 * seed
    label = np.digitize(label, [-0.5, 0.5]) if classes else label
    rows, among = Inputs(x, uniform_places(90)), (ridge, knn, boosting)
    train, test, fold = rows.take(np.arange(60)), rows.take(np.arange(60, 90)), inner_folds(label[:60], 3, classes)
    means = []
    for predict in among:
        scores = []
        for k in range(3):
            known, asked = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            said = predict(train.take(known), label[known], train.take(asked), classes)
            scores.append(score(label[asked], said, classes))
        means.append(np.mean(scores))
    expected = among[int(np.argmax(means))](train, label[:60], test, classes)
    np.testing.assert_array_equal(chosen(train, label[:60], test, classes), expected)


def test_one_that_cannot_win_is_asked_no_further():
    x, y = straight(60)
    rows, asked = Inputs(x, uniform_places(60)), []

    def hopeless(train, label, test, classes):
        asked.append(len(test))
        return np.full(len(test), label.mean())

    found = chosen(rows, y, rows, among=(ridge, hopeless))
    np.testing.assert_array_equal(found, ridge(rows, y, rows))
    assert len(asked) == 1  # at most 2 / 3 after the first fold


def test_chosen_with_place_leaves_the_columns_of_the_place_to_trees_as_they_are():
    places = uniform_places(600, seed=1)
    rows = Inputs(np.random.default_rng(0).normal(size=(600, 40)).astype(np.float32), places)
    label = np.random.default_rng(1).normal(size=26)[((places[:, 1] + 90) // 7).astype(np.int64)]  # bands of latitude
    train, test = rows.take(np.arange(400)), rows.take(np.arange(400, 600))
    found = probe("chosen+place")(train, label[:400], test, 0)
    np.testing.assert_array_equal(found, boosting(train, label[:400], test, place=True))


def test_kriged_knows_what_the_vector_and_what_the_neighbours_say():
    places, rng = uniform_places(900, seed=2), np.random.default_rng(0)
    x = rng.normal(size=(900, 8))
    smooth = np.sin(5 * unit_sphere(places)[:, 0]) * 2
    label, rows = x @ rng.normal(size=8) + smooth, Inputs(x, places)
    train, test = rows.take(np.arange(600)), rows.take(np.arange(600, 900))
    reached = {one: score(label[600:], one(train, label[:600], test)) for one in (ridge, kriging, kriged)}
    assert reached[kriged] > 0.99 > 0.9 > reached[ridge] > reached[kriging]
    far = np.digitize(label, [-2, 2])
    assert score(far[600:], kriged(train, far[:600], test, 3), 3) > score(
        far[600:], ridge(train, far[:600], test, 3), 3
    )


@pytest.mark.parametrize("classes", [0, 3])
def test_kriged_is_ridge_and_the_weighted_residuals_of_neighbours(classes):
    x, y = problem(60, 5, 1)
    label = np.digitize(y[:, 0], np.quantile(y, [0.3, 0.6])) if classes else y[:, 0]
    rows = Inputs(x, uniform_places(60, seed=4))
    train, test = rows.take(np.arange(40)), rows.take(np.arange(40, 60))
    targets, fold, residual = (
        one_hot(label[:40], classes),
        inner_folds(label[:40], 5, classes),
        np.empty((40, classes or 1)),
    )
    for i in range(40):
        weight, intercept, _ = fit_ridge(x[:40][fold != fold[i]], targets[fold != fold[i]])
        residual[i] = targets[i] - x[i] @ weight - intercept
    weight, intercept, _ = fit_ridge(x[:40], targets)
    found, share = neighbours(train.points, residual, test.points)
    said = (
        x[40:] @ weight
        + intercept
        + [sum(w * residual[row] for w, row in zip(*pair, strict=True)) for pair in zip(share, found, strict=True)]
    )
    np.testing.assert_allclose(
        kriged(train, label[:40], test, classes), said.argmax(1) if classes else said[:, 0], rtol=1e-9
    )
