"""The modality gap against closed forms, naive loops and planted gaps."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from graticule.errors import DataError, SettingError
from graticule.evaluation import gap
from graticule.evaluation.gap import modality_gap


def pairs(n=600, d=16, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, d))
    return shared + noise * rng.normal(size=(n, d)), shared + noise * rng.normal(size=(n, d))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_numbers_are_those_of_naive_loops():
    a, b = pairs(30)
    b = b * 7 + 2
    found = modality_gap(a, b)
    for x, y, apart in (
        (unit(a), unit(b), found.as_is),
        (unit(unit(a) - unit(a).mean(0)), unit(unit(b) - unit(b).mean(0)), found.centred),
    ):
        cosine = np.array([[u @ v for v in y] for u in x])
        assert apart.matched == pytest.approx(np.mean([cosine[i, i] for i in range(30)]))
        unmatched = [cosine[i, j] for i in range(30) for j in range(30) if i != j]
        assert apart.unmatched == pytest.approx(np.mean(unmatched))
        assert apart.distance == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)))


def test_a_planted_gap_has_its_length_and_goes_with_the_means():
    """Points on two circles of a sphere at heights h and -h: the centroids are 2 h apart."""
    rng = np.random.default_rng(1)
    height = 0.6
    around = unit(rng.normal(size=(4000, 12))) * np.sqrt(1 - height**2)
    a, b = (np.hstack([around, np.full((4000, 1), h)]) for h in (height, -height))
    found = modality_gap(a * rng.uniform(1, 9, size=(4000, 1)), b)
    assert found.as_is.distance == pytest.approx(2 * height)
    assert found.separability == 1
    assert found.as_is.segregation == 1
    assert found.as_is.matched == pytest.approx(1 - 2 * height**2)
    assert found.as_is.unmatched == pytest.approx(-(height**2), abs=0.01)
    assert found.centred.distance < 1e-6
    assert found.remaining < 1e-6
    assert found.centred.matched == pytest.approx(1)
    assert found.centred.unmatched == pytest.approx(0, abs=0.01)
    assert found.centred.segregation == pytest.approx(0.5, abs=0.04)


def test_no_gap_is_no_gap():
    a, b = pairs(2000)
    found = modality_gap(a, b)
    assert found.as_is.distance < 0.02
    assert found.separability == pytest.approx(0.5, abs=0.03)
    assert found.as_is.segregation == pytest.approx(0.5, abs=0.04)
    assert found.as_is.matched > 0.85
    assert abs(found.as_is.unmatched) < 0.01
    same = modality_gap(a, a)
    assert same.as_is.distance == 0
    assert same.as_is.matched == pytest.approx(1)
    assert same.remaining == 0
    assert same.separability == pytest.approx(0.5)
    assert same.as_is.segregation == 0.5


@pytest.mark.parametrize("n", [60, 200])
def test_nothing_is_separable_in_noise(n):
    found = [modality_gap(*np.random.default_rng(s).normal(size=(2, n, 40)) + 0.5) for s in range(12)]
    assert np.mean([f.separability for f in found]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([f.as_is.segregation for f in found]) == pytest.approx(0.5, abs=0.04)
    if n == 200:  # means of few vectors push them apart: known and written down
        assert np.mean([f.centred.segregation for f in found]) == pytest.approx(0.46, abs=0.02)


def test_separability_is_the_overlap_of_two_normals():
    """Two means 2 s apart under noise s: the best line is right with probability Phi(1) = 0.841."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 4000, 6)) * 0.01
    a[:, 0] += 0.01
    b[:, 0] -= 0.01
    a[:, 1] = b[:, 1] = 1  # far from the origin, so that unit length changes next to nothing
    assert modality_gap(a, b).separability == pytest.approx(0.841, abs=0.01)


def test_a_gap_that_is_not_a_shift_remains():
    """One modality in one plane, the other in another: equal means, nothing for a line, yet nothing is mixed."""
    rng = np.random.default_rng(2)
    plane, none = rng.normal(size=(1000, 2)), np.zeros((1000, 2))
    found = modality_gap(np.hstack([plane, none]), np.hstack([none, plane]))
    assert found.separability == pytest.approx(0.5, abs=0.05)
    assert found.centred.segregation == 1


def test_segregation_is_that_of_a_naive_search(monkeypatch):
    a, b = pairs(40, d=5)
    a[:, 0] += 0.7
    every, same = np.vstack([unit(a), unit(b)]), []
    for i in range(80):
        cosine = every @ every[i]
        cosine[[i, (i + 40) % 80]] = -2
        same.append((cosine.argmax() < 40) == (i < 40))
    assert modality_gap(a, b).as_is.segregation == pytest.approx(np.mean(same))
    monkeypatch.setattr(gap, "QUERIES", 7)
    rows = np.random.default_rng(0).permutation(40)[:7]
    assert modality_gap(a, b).as_is.segregation == pytest.approx(np.mean(np.array(same)[[*rows, *rows + 40]]))


def test_repeats_and_is_json():
    a, b = pairs(50)
    assert modality_gap(a, b) == modality_gap(a.copy(), b)
    assert json.loads(json.dumps(asdict(modality_gap(a, b))))["centred"]["matched"] > 0
    assert modality_gap(a[:2], b[:2], folds=2).as_is.matched > 0


def test_bad_input_is_named():
    a, b = pairs(10)
    with pytest.raises(DataError, match="pairs of vectors"):
        modality_gap(a, b[:9])
    with pytest.raises(DataError, match=r"vectors b \(n, d\), got an array of shape \(10,\)"):
        modality_gap(a, b[:, 0])
    with pytest.raises(DataError, match="Row 3 of a has no direction"):
        modality_gap(np.where(np.arange(10)[:, None] == 3, 0, a), b)
    with pytest.raises(DataError, match="Row 4 of b"):
        modality_gap(a, np.where(np.arange(10)[:, None] == 4, np.nan, b))
    for folds in (1, 11):
        with pytest.raises(SettingError, match=r"between 2 and the number of pairs \(10\)"):
            modality_gap(a, b, folds=folds)
