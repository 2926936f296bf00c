import math

import numpy as np
import pytest
import torch

from graticule.encoders.activations import ACTIVATIONS, PIECE, Scratch, gelu

EXACT = {
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
}
FAR = np.array([0.0, -0.0, 1e-30, -1e-30, 7.999, 8.0, -8.0, 8.001, -30.0, 30.0, 300.0, -80.0, 1e4], dtype=np.float32)
VALUES = np.concatenate([np.linspace(-9, 9, 20_001, dtype=np.float32), FAR])


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_they_are_their_formulas(name):
    values = VALUES[VALUES > -700] if name == "silu" else VALUES
    found = ACTIVATIONS[name](values.copy(), Scratch())
    expected = np.array([EXACT[name](float(x)) for x in values])
    assert (np.abs(found - expected) < 3e-7 + 2e-7 * np.abs(expected)).all()


def test_erf_inside_gelu_is_right_to_a_millionth():
    """Where x is not small: erf is what is left of gelu(x) / x."""
    x = VALUES[np.abs(VALUES) > 0.3]
    erf = 2 * gelu(x.copy(), Scratch()).astype(np.float64) / x - 1
    assert np.abs(erf - [math.erf(float(v) / math.sqrt(2)) for v in x]).max() < 1e-6


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_in_place_in_pieces_and_as_in_torch(name):
    x = np.random.default_rng(0).normal(0, 3, (PIECE // 100 + 3, 250)).astype(np.float32)
    expected = getattr(torch.nn.functional, name)(torch.from_numpy(x.copy())).numpy()
    assert ACTIVATIONS[name](x, Scratch()) is x
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=2e-6)  # torch adds 1 to erf: its gelu misses by 1e-6
    none = np.empty((0, 5), dtype=np.float32)
    assert ACTIVATIONS[name](none, Scratch()).shape == (0, 5)


def test_nothing_overflows():
    with np.errstate(all="raise", under="ignore"):
        for name in ("gelu", "relu", "silu"):
            far = np.array([-3e38, -200, 200, 3e38], dtype=np.float32)
            np.testing.assert_allclose(ACTIVATIONS[name](far, Scratch()), [0, 0, 200, 3e38], atol=1e-6)


def test_scratch_is_used_again_and_grows():
    scratch = Scratch()
    first = scratch(0, 4, 3)
    assert np.shares_memory(scratch(0, 2, 6), first)
    assert not np.shares_memory(scratch(1, 4, 3), first)
    assert scratch(0, 40, 3).shape == (40, 3)
    assert scratch(0, 1, 3).flags.c_contiguous
