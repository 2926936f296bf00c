"""What can be copied from next door: planted copies, naive loops, and the edges of the map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import SettingError
from graticule.evaluation.leakage import duplicates, leak_score, leakage, nearest_training
from graticule.evaluation.tasks import Task
from graticule.geo.coords import great_circle_km, lonlat, offset_km, uniform_places


def copied(share, n=1000, seed=0):
    """Test rows of which a share stands 100 m beside a training row and has its label."""
    rng = np.random.default_rng(seed)
    points, label = uniform_places(2 * n, seed=seed), rng.normal(size=2 * n)
    near = rng.permutation(n)[: round(share * n)]
    points[n + near] = offset_km(points[near], [0.1], [0.0])[:, 0]
    label[n + near] = label[near]
    return Task("t", points, label, "regression"), [(np.arange(n), np.arange(n, 2 * n))], near


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_score_is_the_share_that_was_copied(share):
    task, folds, _ = copied(share)
    assert leak_score(task, folds) == pytest.approx(share, abs=1e-9)
    assert leak_score(task, folds, near_km=0.05) == 0
    kinds = Task("k", task.points, (task.label > 0).astype(int), "classification", ("low", "high"))
    assert leak_score(kinds, folds) == pytest.approx(share, abs=1e-9)
    with pytest.raises(SettingError, match="near_km must be positive"):
        leak_score(task, folds, near_km=0)


def test_a_neighbour_that_says_nothing_leaks_nothing():
    task, folds, _ = copied(1.0)
    rng = np.random.default_rng(1)
    shuffled = Task("s", task.points, rng.permutation(task.label), "regression")
    assert leak_score(shuffled, folds) == 0
    kinds = Task("k", task.points, rng.integers(0, 4, 2000), "classification", tuple("abcd"))
    assert leak_score(kinds, folds) < 0.05
    rare = Task("r", task.points, (rng.random(2000) < 0.02).astype(int), "classification", ("no", "yes"))
    assert leak_score(rare, folds) < 0.05  # 96 % agree, as chance would
    constant = Task("c", task.points, np.ones(2000), "regression")
    assert leak_score(constant, folds) == 0


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_agreement_by_hand(noise):
    task, folds, near = copied(0.5)
    label = task.label.copy()
    label[1000 + near] += noise * np.random.default_rng(2).normal(size=len(near))
    missed = np.mean((label[1000 + near] - label[near]) ** 2)
    expected = 0.5 * (1 - missed / label.var())
    assert leak_score(Task("t", task.points, label, "regression"), folds) == pytest.approx(expected)
    kinds = (label > 0).astype(int)
    same, chance = np.mean(kinds[1000 + near] == kinds[near]), sum(np.mean(kinds == k) ** 2 for k in (0, 1))
    found = leak_score(Task("k", task.points, kinds, "classification", ("a", "b")), folds)
    assert found == pytest.approx(0.5 * (same - chance) / (1 - chance))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 9999), st.integers(1, 4))
def test_nearest_training_rows_by_naive_loops(seed, n_folds):
    points, rng = uniform_places(60, seed=seed), np.random.default_rng(seed)
    points[30:40] = points[:10]
    order = [rng.permutation(60) for _ in range(n_folds)]
    folds = [(rows[:35], rows[35:50]) for rows in order]
    distance_km, row = nearest_training(points, folds)
    same, at = duplicates(points, folds), 0
    for (train, test), found in zip(folds, same, strict=True):
        for i in test:
            km = great_circle_km(points[i], points[train])
            assert distance_km[at] == pytest.approx(km.min(), abs=1e-4)
            assert great_circle_km(points[i], points[row[at]]) == pytest.approx(km.min(), abs=1e-4)
            assert (i in found) == (km.min() < 1e-3)
            at += 1


def test_the_same_place_at_the_antimeridian_and_the_poles():
    points = lonlat(lon=[180, -180, 0, 123, 45, 50, 7, 7], lat=[10, 10, 90, 90, -90, -90, 50, 50.00002])
    folds = [(np.array([0, 2, 4, 6]), np.array([1, 3, 5, 7]))]
    (found,) = duplicates(points, folds)
    assert list(found) == [1, 3, 5]  # the last is 2 m away
    metre = lonlat(lon=[0, 0], lat=[0, 0.9 / 111_195])
    assert list(duplicates(metre, [(np.array([0]), np.array([1]))])[0]) == [1]


def test_one_sentence():
    task, folds, near = copied(0.25)
    exact = task.points.copy()
    exact[1000 + near[:12]] = exact[near[:12]]
    found = leakage(Task("t", exact, task.label, "regression"), folds)
    assert (found.test_rows, found.same_place, found.near) == (1000, 12, 250)
    assert str(found).startswith("12 of 1,000 test rows (1.2 %) lie at a place that also trains, half lie within ")
    assert str(found).endswith(" km of one; leak score 0.25")
    assert found.median_km == pytest.approx(np.median(nearest_training(exact, folds)[0]))
