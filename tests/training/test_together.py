"""Several processes learn what one learns: losses and gradients of the same batches, whatever the objective."""

import numpy as np
import pytest

from graticule.learners.together import Together
from tests.training.shared_batches import VARIANTS, two_steps


@pytest.fixture(scope="module")
def alone():
    return two_steps(Together())


@pytest.fixture(scope="module")
def two(crew):
    return crew.strictly(2, two_steps)


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_have_the_losses_and_gradients_of_one(variant, alone, two):
    for expected, first, second in zip(alone[variant], two[0][variant], two[1][variant], strict=True):
        assert first[0] == second[0]
        same(first, expected)
        assert all(np.array_equal(first[1][name], second[1][name]) for name in first[1])


def same(found, expected):
    for name, value in expected[0].items():
        assert found[0][name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert set(found[1]) == set(expected[1])
    largest = max(np.abs(gradient).max() for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        np.testing.assert_allclose(found[1][name], gradient, rtol=1e-6, atol=1e-9 * largest, err_msg=name)
    assert found[2] == expected[2], "random numbers are no longer the same"
