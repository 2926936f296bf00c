import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graticule.geo.directions import LARGEST, coarse, fine, unit


def test_each_row_has_its_own_scale():
    found = fine(np.array([[1, -2, 0.5], [100, -200, 50], [0, 0, 0]]))
    np.testing.assert_array_equal(found, [[LARGEST / 2, -LARGEST, LARGEST / 4]] * 2 + [[0, 0, 0]])
    np.testing.assert_array_equal(coarse(found), [[64, -127, 32]] * 2 + [[0, 0, 0]])
    assert (found.dtype, coarse(found).dtype) == (np.int16, np.int8)


def test_whole_numbers_of_a_table_are_taken_as_they_are():
    numbers = np.array([[127, -127, 1], [3, 0, -1]], np.int8)
    np.testing.assert_allclose(unit(fine(numbers)), unit(numbers), atol=3e-5)


def test_no_rows():
    nothing = np.zeros((0, 5), np.float32)
    assert fine(nothing).shape == coarse(fine(nothing)).shape == unit(nothing).shape == (0, 5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(1e-20, 1e20))
def test_the_direction_is_kept(seed, dim, scale):
    """Naive loop: the cosine between a vector and its whole numbers is 1 to the rounding of one byte, or of two."""
    vectors = np.random.default_rng(seed).normal(size=(3, dim)) * scale
    for vector, numbers in zip(vectors.astype(np.float32).astype(float), fine(vectors).astype(float), strict=True):
        for kept, error in ((numbers, 1e-8), (coarse(numbers[None])[0].astype(float), 1e-3)):
            dot = sum(a * b for a, b in zip(vector, kept, strict=True))
            lengths = sum(a * a for a in vector) ** 0.5 * sum(b * b for b in kept) ** 0.5
            assert 1 - dot / lengths < error
