"""Intervals and tests over spatial blocks against loops, and whether their p-values mean what they say."""

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, ttest_1samp

from graticule.errors import DataError, SettingError
from graticule.evaluation.predictors import score
from graticule.evaluation.uncertainty import (
    block_sums,
    block_weights,
    holm,
    interval,
    paired_test,
    resampling_blocks,
    row_loss,
    score_draws,
)
from graticule.geo.coords import EARTH_RADIUS_KM, lonlat, offset_km, uniform_places, unit_sphere


def planted(n=300, folds=4, blocks=12, seed=0, classes=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n) if classes else rng.normal(5, 2, n)
    predicted = np.where(rng.random(n) < 0.6, truth, 0) if classes else truth + rng.normal(size=n)
    return truth, predicted, rng.integers(0, folds, n), rng.integers(0, blocks, n) * 7 - 3


def draws_by_loop(truth, predicted, fold, block, classes, draws, pooled=False):
    names = np.unique(block)
    found = []
    for weights in block_weights(len(names), draws):
        rows = np.concatenate(
            [np.repeat(np.flatnonzero(block == b), int(w)) for b, w in zip(names, weights, strict=True)]
        )
        parts = [rows] if pooled else [rows[fold[rows] == k] for k in np.unique(fold)]
        found.append(np.mean([score(truth[part], predicted[part], classes) for part in parts if len(part)]))
    return np.array(found)


# -- blocks


def test_blocks_are_large_where_places_are_far_apart():
    points = uniform_places(5000)
    blocks = resampling_blocks(points)
    assert 110 < len(np.unique(blocks)) < 140  # 510 million km2 in cells of four million
    np.testing.assert_array_equal(np.unique(blocks), np.arange(blocks.max() + 1))


def test_blocks_shrink_for_local_tables():
    east, north = np.random.default_rng(0).uniform(-50, 50, (2, 2000))
    blocks = resampling_blocks(offset_km(lonlat(lon=[10], lat=[50]), east, north)[0])
    assert 30 <= len(np.unique(blocks)) < 200


@pytest.mark.parametrize("n", [0, 1, 2, 5, 29])
def test_blocks_of_few_rows(n):
    blocks = resampling_blocks(uniform_places(n))
    assert blocks.shape == (n,)
    assert len(np.unique(blocks)) == n


def test_blocks_keep_duplicates_and_the_two_names_of_a_pole_cell_together():
    points = lonlat(lon=[12, 12, -180, 180, -180], lat=[3, 3, 0, 0, 0])
    blocks = resampling_blocks(points)
    assert blocks[0] == blocks[1] != blocks[2]
    assert blocks[2] == blocks[3] == blocks[4]


# -- draws


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("pooled", [False, True])
def test_draws_equal_a_loop_over_resampled_rows(classes, pooled):
    rows = planted(classes=classes)
    np.testing.assert_allclose(
        score_draws(*rows, classes, draws=40, pooled=pooled), draws_by_loop(*rows, classes, 40, pooled), rtol=1e-9
    )


def test_a_fold_without_rows_is_left_out_of_the_draw():
    truth, predicted, _, block = planted(n=60, blocks=6)
    fold = (block == block.max()).astype(int)  # one fold is one block, often not drawn
    assert (block_weights(6, 50)[:, -1] == 0).any()
    np.testing.assert_allclose(
        score_draws(truth, predicted, fold, block, draws=50), draws_by_loop(truth, predicted, fold, block, 0, 50)
    )


def test_one_row_in_several_folds_as_in_few_shot():
    truth, predicted, _, block = planted(n=90)
    three = [np.tile(a, 3) for a in (truth, predicted, block)]
    fold = np.repeat([0, 1, 2], 90)
    np.testing.assert_allclose(
        score_draws(three[0], three[1], fold, three[2], draws=30),
        score_draws(truth, predicted, np.zeros(90, int), block, draws=30),
    )


def test_differences_are_paired():
    truth, predicted, fold, block = planted()
    a, b = (score_draws(truth, said, fold, block) for said in (predicted, predicted + 1e-3))
    assert np.std(a - b) < 0.01 * np.std(a)
    np.testing.assert_array_equal(a, score_draws(truth, predicted, fold, block))
    assert not np.array_equal(a, score_draws(truth, predicted, fold, block, seed=1))


def test_draws_do_not_depend_on_the_order_of_rows_or_the_level_of_the_truth():
    truth, predicted, fold, block = planted()
    first = score_draws(truth, predicted, fold, block)
    order = np.random.default_rng(0).permutation(len(truth))
    np.testing.assert_allclose(first, score_draws(*(a[order] for a in (truth, predicted, fold, block))))
    np.testing.assert_allclose(first, score_draws(truth + 1e6, predicted + 1e6, fold, block), rtol=1e-6)


@pytest.mark.parametrize(("off", "value"), [(0.0, 1.0), (1e-3, 0.0)])
def test_constant_truth_scores_as_everywhere(off, value):
    truth = np.full(20, 0.1)
    drawn = score_draws(truth, truth + off, np.arange(20) % 2, np.arange(20) % 5, draws=20)
    np.testing.assert_array_equal(drawn, value)


def test_one_row_and_one_block():
    assert score_draws(np.array([2.0]), np.array([1.0]), np.array([0]), np.array([9]), draws=3).tolist() == [0, 0, 0]
    truth, predicted, fold, _ = planted()
    drawn = score_draws(truth, predicted, fold, np.zeros(300, int), draws=5)
    expected = np.mean([score(truth[fold == k], predicted[fold == k]) for k in range(4)])
    np.testing.assert_allclose(drawn, expected)


def test_draws_refuse_what_cannot_be():
    empty = np.zeros(0)
    with pytest.raises(DataError, match="at least one row"):
        score_draws(empty, empty, empty, empty)
    with pytest.raises(DataError, match=r"same number of rows, got .*'fold': 2"):
        score_draws(np.ones(3), np.ones(3), np.ones(2, int), np.ones(3, int))
    with pytest.raises(SettingError, match="one draw"):
        score_draws(*planted(), draws=0)


def test_weights_and_sums():
    weights = block_weights(30, 200)
    np.testing.assert_array_equal(weights.sum(1), 30)
    assert abs(weights.var() - 1) < 0.05  # binomial, n = 30, p = 1 / 30
    sums = block_sums(np.array([5, 2, 5]), np.array([[1.0, 1], [2, 1], [4, 1]]))
    np.testing.assert_array_equal(sums, [[2, 1], [5, 2]])


def test_interval():
    assert interval(np.arange(1001.0)) == pytest.approx((25, 975))
    assert interval(np.array([np.nan, 3.0])) == (3, 3)
    assert np.isnan(interval(np.full(3, np.nan))).all()


def test_the_interval_covers_the_truth():
    """Mean loss of blocks that share an error: 95 % of intervals hold the expected accuracy .6, rows' would not."""
    rng, held, naive = np.random.default_rng(0), 0, 0
    for _ in range(200):
        block = np.repeat(np.arange(60), 15)
        wrong = (rng.random(60) < 0.4)[block]
        low, high = interval(score_draws(np.zeros(900), wrong.astype(int), np.zeros(900, int), block, 2, draws=300))
        held += low <= 0.6 <= high
        low, high = interval(
            score_draws(np.zeros(900), wrong.astype(int), np.zeros(900, int), np.arange(900), 2, draws=100)
        )
        naive += low <= 0.6 <= high
    assert held > 0.9 * 200
    assert naive < 0.6 * 200


def test_draws_are_fast():
    points = uniform_places(6000)
    rng = np.random.default_rng(0)
    truth = rng.normal(size=6000)
    rows = truth, truth + rng.normal(size=6000), rng.integers(0, 5, 6000), resampling_blocks(points)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        score_draws(*rows)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1  # about 10 ms alone on a core


# -- paired test


def test_difference_reads_as_a_difference_of_scores():
    truth, a, _, block = planted()
    b = truth + np.random.default_rng(5).normal(size=len(truth)) * 1.5
    found = paired_test(truth, a, b, block)
    assert found.difference == pytest.approx(score(truth, a) - score(truth, b))
    assert found.low < found.difference < found.high
    back = paired_test(truth, b, a, block)
    assert (back.difference, back.p_value) == (pytest.approx(-found.difference), found.p_value)
    truth, a, _, block = planted(classes=3)
    b = np.roll(a, 1)
    found = paired_test(truth, a, b, block, 3)
    assert found.difference == pytest.approx(score(truth, a, 3) - score(truth, b, 3))


@pytest.mark.parametrize("blocks", [1, 2, 5, 9])
def test_few_blocks_are_tried_in_all_signs(blocks):
    rng = np.random.default_rng(blocks)
    truth, a, b, block = *rng.normal(size=(3, 40)), np.arange(40) % blocks
    gain = (np.square(truth - b) - np.square(truth - a)) / truth.var()
    sums = [gain[block == k].sum() for k in range(blocks)]
    reached = [abs(np.dot(signs, sums)) >= abs(sum(sums)) - 1e-9 for signs in product([-1, 1], repeat=blocks)]
    assert paired_test(truth, a, b, block).p_value == np.mean(reached)


def test_many_random_signs_come_near_all_of_them():
    rng = np.random.default_rng(1)
    truth, a, b, block = *rng.normal(size=(3, 130)), np.arange(130) % 13
    gain = np.square(truth - b) - np.square(truth - a)
    sums = np.bincount(block, weights=gain)
    exact = np.mean([abs(np.dot(signs, sums)) >= abs(sums.sum()) for signs in product([-1, 1], repeat=13)])
    assert paired_test(truth, a, b, block).p_value == pytest.approx(exact, abs=0.02)


def test_equal_predictions_do_not_differ():
    truth, a, _, block = planted(blocks=40)
    found = paired_test(truth, a, a, block)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_planted_difference_is_found_and_p_is_never_zero():
    truth, a, _, block = planted(n=2000, blocks=50)
    found = paired_test(truth, a, a + 3, block, draws=999)
    assert found.low > 0
    assert found.p_value == 1 / 1000


def smooth_errors(seed, points, length_km, waves=60):
    """A field whose values are alike over `length_km`; waves of equal height, so that all fields are equally large."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(3, waves)) * EARTH_RADIUS_KM / length_km
    return np.cos(unit_sphere(points) @ direction + rng.uniform(0, 2 * np.pi, waves)).sum(1) * np.sqrt(2 / waves)


def p_values_of_equal_predictors(length_km, pairs=150):
    """Block-wise and row-wise p of equally good predictors at places that cluster, as labels do."""
    east, north = np.random.default_rng(1).normal(size=(2, 15)) * 100
    points = offset_km(uniform_places(150, seed=1), east, north).reshape(-1, 2)
    blocks = resampling_blocks(points)
    ours, naive = [], []
    for seed in range(pairs):
        truth = np.random.default_rng(10**6 + seed).normal(size=len(points))
        a, b = (truth + smooth_errors(2 * seed + k, points, length_km) for k in (0, 1))
        ours.append(paired_test(truth, a, b, blocks, draws=499).p_value)
        naive.append(ttest_1samp(row_loss(truth, b) - row_loss(truth, a), 0).pvalue)
    return np.array(ours), np.array(naive)


def test_p_values_hold_under_spatially_correlated_errors_and_those_of_rows_do_not():
    ours, naive = p_values_of_equal_predictors(200)
    assert np.mean(naive < 0.05) > 0.35
    assert np.mean(ours < 0.05) < 0.1
    assert kstest(ours, "uniform").pvalue > 0.01 > kstest(naive, "uniform").pvalue


def test_errors_alike_over_more_than_a_block_make_the_test_too_sure():
    """The limit that the docstring of `paired_test` states."""
    ours, naive = p_values_of_equal_predictors(1600)
    assert 0.2 < np.mean(ours < 0.05) < np.mean(naive < 0.05)


def test_p_values_are_uniform_where_blocks_are_independent():
    rng, block = np.random.default_rng(0), np.repeat(np.arange(40), 20)
    ours, naive = [], []
    for seed in range(300):
        truth = np.zeros(800)
        truth[0] = 1
        a, b = (truth + rng.normal(size=40)[block] for _ in range(2))
        ours.append(paired_test(truth, a, b, block, draws=299, seed=seed).p_value)
        naive.append(ttest_1samp(row_loss(truth, b) - row_loss(truth, a), 0).pvalue)
    assert kstest(ours, "uniform").pvalue > 0.01
    assert np.mean(np.array(naive) < 0.05) > 0.5


def test_losses():
    np.testing.assert_allclose(row_loss(np.array([0.0, 2]), np.array([1.0, 2])), [1, 0])
    np.testing.assert_allclose(row_loss(np.array([3.0, 3]), np.array([1.0, 3])), [4, 0])
    np.testing.assert_array_equal(row_loss(np.array([1, 2]), np.array([1, 0]), 3), [0, 1])
    assert row_loss(np.zeros(0), np.zeros(0)).shape == (0,)


# -- several tests at once


def holm_by_loop(p):
    """Step down: reject the smallest while p <= alpha / (number left); the adjusted p is the least alpha that does."""
    adjusted, largest, left = {}, 0.0, len(p)
    for i in sorted(range(len(p)), key=lambda i: p[i]):
        largest = max(largest, left * p[i])
        adjusted[i] = min(largest, 1.0)
        left -= 1
    return [adjusted[i] for i in range(len(p))]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.02, 1.0])), max_size=12))
def test_adjusted_p_values_equal_loops(p):
    np.testing.assert_allclose(holm(p), holm_by_loop(p))
    assert (holm(p) >= np.array(p)).all()


def test_the_example_of_a_textbook():
    """R: p.adjust(c(.01, .02, .03, .04), 'holm')."""
    np.testing.assert_allclose(holm([0.01, 0.02, 0.03, 0.04]), [0.04, 0.06, 0.06, 0.06])


@pytest.mark.parametrize("bad", [[0.1, np.nan], [-0.1], [1.5], [[0.1]]])
def test_what_is_no_p_value_is_refused(bad):
    with pytest.raises(DataError, match="from 0 to 1"):
        holm(bad)
