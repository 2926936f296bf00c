import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from graticule.errors import DataError
from graticule.evaluation.regions.scores import class_scores, enough, regression_scores

RNG = np.random.default_rng(0)


def test_skill_and_ranks_against_a_naive_loop():
    truth, said = RNG.normal(size=30), RNG.normal(size=30)
    truth[:5] = 0.5  # ties
    missed = spread = 0.0
    for t, p in zip(truth, said, strict=True):
        missed += (t - p) ** 2
        spread += (t - 1.7) ** 2
    got = regression_scores(truth, said, np.float64(1.7))
    assert got["skill"] == pytest.approx(1 - missed / spread)
    assert got["spearman"] == pytest.approx(spearmanr(truth, said).statistic)


def test_columns_are_averaged_and_empty_ones_left_out():
    truth = np.stack([np.arange(4.0), np.zeros(4), [1.0, 0, 0, 0]], axis=1)
    said = np.stack([np.arange(4.0), np.zeros(4), np.zeros(4)], axis=1)
    got = regression_scores(truth, said, np.array([1.5, 0, 0]))
    assert got == pytest.approx({"skill": (1 + 0) / 2, "spearman": (1 + 0) / 2})
    none = regression_scores(np.zeros(3), np.zeros(3), np.float64(0))
    assert np.isnan(none["skill"])
    assert np.isnan(none["spearman"])


def test_saying_the_training_mean_has_no_skill():
    assert regression_scores(np.arange(9.0), np.full(9, 2.0), np.float64(2)) == {"skill": 0, "spearman": 0}


def test_classes_against_scikit_learn():
    truth, said = RNG.integers(0, 3, 50), RNG.integers(0, 5, 50)
    got = class_scores(truth, said)
    assert got["macro-F1"] == pytest.approx(f1_score(truth, said, labels=np.unique(truth), average="macro"))
    assert got["accuracy"] == np.mean(truth == said)


def test_shapes_must_agree():
    with pytest.raises(DataError, match=r"got \(3, 1\) for \(3, 2\)"):
        regression_scores(np.zeros((3, 2)), np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="shape of the labels"):
        class_scores(np.zeros(3), np.zeros(2))


def test_which_cities_enter():
    assert enough(np.zeros(20))
    assert not enough(np.zeros(19))
    assert not enough(np.zeros(20), classes=3)
    assert enough(np.arange(20) % 2, classes=3)
