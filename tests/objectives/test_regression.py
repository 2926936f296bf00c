import math

import numpy as np
import pytest
import torch

from graticule.errors import DataError
from graticule.objectives.regression import effective_rank, feature_regression, prefix_regression


def test_feature_regression_equals_the_naive_loop():
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(size=(2, 5, 3))
    expected = sum((predicted[i][j] - target[i][j]) ** 2 for i in range(5) for j in range(3)) / 15
    found = feature_regression(torch.from_numpy(predicted), torch.from_numpy(target))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_predicting_nothing_of_standardised_features_costs_one():
    target = np.random.default_rng(0).normal(size=(400, 6))
    target = torch.from_numpy((target - target.mean(axis=0)) / target.std(axis=0))
    assert feature_regression(torch.zeros_like(target), target).item() == pytest.approx(1)
    assert feature_regression(target, target).item() == 0


def test_prefix_regression_equals_the_naive_loop():
    predicted, target = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 5, 6)))
    each = [np.mean([float((predicted - target)[i][j]) ** 2 for i in range(5) for j in range(d)]) for d in (1, 4, 6)]
    assert prefix_regression(predicted, target, (1, 4, 6)).item() == pytest.approx(np.mean(each), abs=1e-12)
    assert torch.equal(prefix_regression(predicted, target), feature_regression(predicted, target))
    with pytest.raises(DataError, match=r"\(5, 4\) and \(5, 3\)"):
        prefix_regression(predicted, target[:, :3], (2, 4))


def test_regression_of_other_shapes_is_refused():
    with pytest.raises(DataError, match=r"\(3, 2\) and \(3, 1\)"):
        feature_regression(torch.zeros(3, 2), torch.zeros(3, 1))


def test_effective_rank_equals_the_naive_loop():
    """Roy & Vetterli 2007: exp of the entropy of the singular values divided by their sum."""
    vectors = np.random.default_rng(0).normal(size=(30, 5)) * [1, 2, 4, 8, 16] + 3
    centred = vectors - sum(vectors) / 30
    singular = [math.sqrt(value) for value in np.linalg.eigvalsh(centred.T @ centred)]
    shares = [value / sum(singular) for value in singular]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert effective_rank(torch.from_numpy(vectors)).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_of_equal_singular_values_is_their_number(rank):
    signs = torch.tensor([[(-1.0) ** (i >> j & 1) for j in range(8)] for i in range(256)])
    vectors = torch.cat([signs[:, :rank], torch.full((256, 8 - rank), 7.0)], dim=1)
    assert effective_rank(vectors).item() == pytest.approx(rank, abs=1e-6)
    assert effective_rank(5 * vectors - 2).item() == pytest.approx(rank, abs=1e-6)


def test_effective_rank_of_collapsed_vectors_is_one():
    assert effective_rank(torch.ones(10, 4)).item() == pytest.approx(1)
