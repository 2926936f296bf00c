"""Ranks and their tests against SciPy, Demsar's tables and loops."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare, wilcoxon

from graticule.errors import DataError, SettingError
from graticule.evaluation.ranks import cliques, critical_difference, friedman, mean_ranks, pairwise_wilcoxon, ranking
from graticule.evaluation.uncertainty import holm

# AUC of four variants of C4.5 on 14 data sets: Demsar 2006, table 6
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ]
)  # fmt: skip


def test_the_example_of_demsar():
    np.testing.assert_allclose(mean_ranks(DEMSAR), [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)
    without_ties = 12 * 14 / 20 * (np.square(mean_ranks(DEMSAR)).sum() - 4 * 25 / 4)
    assert without_ties == pytest.approx(9.28, abs=5e-3)  # his, without the correction for ties
    assert friedman(DEMSAR)[0] == pytest.approx(friedmanchisquare(*DEMSAR.T).statistic)


def test_ranks_are_those_of_a_loop():
    scores = np.random.default_rng(0).integers(0, 4, (20, 6)).astype(float)
    ranks = [[1 + sum(row > s) + (sum(row == s) - 1) / 2 for s in row] for row in scores]
    np.testing.assert_allclose(mean_ranks(scores), np.mean(ranks, 0))


@pytest.mark.parametrize("ties", [False, True])
def test_friedman_equals_scipy(ties):
    scores = np.random.default_rng(1).normal(size=(26, 5)) + np.arange(5) / 4
    scores = np.round(scores, 0 if ties else 9)
    expected = friedmanchisquare(*scores.T)
    assert friedman(scores) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))


def test_friedman_without_differences_and_with_two():
    assert friedman(np.ones((5, 3))) == (0, 1)
    assert friedman(np.array([[1.0, 0], [2, 1], [3, 2]]))[0] == pytest.approx(3)  # n (k - 1), its maximum
    assert friedman(np.array([[3.0, 2, 1]]))[0] == pytest.approx(2)  # one task


def test_critical_differences_are_those_of_demsars_table():
    table = {
        0.05: (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164),
        0.10: (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920),
    }
    for alpha, row in table.items():
        for k, q in enumerate(row, start=2):
            assert critical_difference(k, 26, alpha) / np.sqrt(k * (k + 1) / (6 * 26)) == pytest.approx(q, abs=1.1e-3)


@pytest.mark.parametrize(("k", "n", "alpha"), [(1, 5, 0.05), (3, 0, 0.05), (3, 5, 0), (3, 5, 1)])
def test_impossible_critical_differences(k, n, alpha):
    with pytest.raises(SettingError, match="two or more embeddings"):
        critical_difference(k, n, alpha)


def cliques_by_loop(ranks, limit):
    """All groups in which every two are alike, then those that are part of no other."""
    k = range(len(ranks))
    alike = [
        set(group)
        for size in range(2, len(ranks) + 1)
        for group in combinations(k, size)
        if all(abs(ranks[i] - ranks[j]) < limit for i, j in combinations(group, 2))
    ]
    return {frozenset(group) for group in alike if not any(group < other for other in alike)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20).map(lambda i: i / 4), min_size=1, max_size=7), st.sampled_from([0.25, 1.0, 1.3, 9]))
def test_cliques_are_the_largest_groups(ranks, limit):
    found = cliques(np.array(ranks), limit)
    assert {frozenset(group) for group in found} == cliques_by_loop(ranks, limit)
    assert len(set(found)) == len(found)
    for group in found:
        assert list(group) == sorted(group, key=lambda i: ranks[i])


def signed_rank_by_loop(difference):
    """All signs of the differences that are not zero; ranks with those that are."""
    size = np.abs(difference)
    ranks = np.array([1 + sum(size < s) + (sum(size == s) - 1) / 2 for s in size])[difference != 0]
    seen = abs(np.sum(ranks * np.sign(difference[difference != 0])))
    return np.mean([abs(np.dot(signs, ranks)) >= seen for signs in product([-1, 1], repeat=len(ranks))])


def test_signed_rank_tests_equal_a_loop_over_all_signs():
    scores = np.random.default_rng(3).integers(0, 5, (9, 4)).astype(float)  # ties and zeros
    pairs = list(combinations(range(4), 2))
    expected = holm([signed_rank_by_loop(scores[:, i] - scores[:, j]) for i, j in pairs])
    found = pairwise_wilcoxon(scores)
    np.testing.assert_allclose([found[i, j] for i, j in pairs], expected)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1)


@pytest.mark.parametrize("n", [1, 2, 26, 120])
def test_signed_rank_tests_equal_scipys_without_ties(n):
    scores = np.random.default_rng(n).normal(size=(n, 2)) + np.array([0, 0.3])
    expected = wilcoxon(scores[:, 0] - scores[:, 1], method="exact").pvalue
    assert pairwise_wilcoxon(scores)[0, 1] == pytest.approx(expected)


def test_equal_embeddings_do_not_differ():
    np.testing.assert_array_equal(pairwise_wilcoxon(np.ones((6, 3))), 1)


def test_a_ranking_finds_what_was_planted():
    rng = np.random.default_rng(0)
    scores = np.array([0.2, 0.8, 0.5, 0.8]) + rng.normal(size=(26, 4)) * 0.05
    found = ranking(["weak", "strong", "middle", "twin"], scores)
    assert set(found.names[:2]) == {"strong", "twin"}
    assert found.names[2:] == ("middle", "weak")
    assert found.tasks == 26
    assert (np.diff(found.mean_ranks) >= 0).all()
    assert found.p_value < 1e-6
    assert found.cliques[0] == (0, 1)
    assert found.pairwise[0, 1] > 0.05 > found.pairwise[1, 2]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(2, 6), st.integers(0, 99))
def test_ranks_add_up_and_do_not_depend_on_the_scale(tasks, embeddings, seed):
    scores = np.random.default_rng(seed).normal(size=(tasks, embeddings))
    assert mean_ranks(scores).sum() == pytest.approx(embeddings * (embeddings + 1) / 2)
    np.testing.assert_array_equal(mean_ranks(scores), mean_ranks(np.exp(scores)))
    statistic, p = friedman(scores)
    assert 0 <= statistic <= tasks * (embeddings - 1) + 1e-9
    assert 0 <= p <= 1


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (np.zeros((0, 3)), r"got shape \(0, 3\)"),
        (np.zeros(0), r"got shape \(0,\)"),
        (np.zeros((4, 1)), "two or more embeddings"),
        ([[1, 2], [np.nan, 1], [np.nan, 1]], "2 of 3 tasks lack one, first at row 1"),
    ],
)
def test_scores_that_cannot_be_ranked(scores, words):
    for function in (mean_ranks, friedman, pairwise_wilcoxon):
        with pytest.raises(DataError, match=words):
            function(scores)


def test_names_must_fit():
    with pytest.raises(DataError, match="3 names, but scores of 2"):
        ranking(["a", "b", "c"], np.ones((4, 2)))
