import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graticule.errors import DataError
from graticule.geo.int8 import FLOOR, LARGEST, column_scales, to_int8

values = st.floats(-1000, 1000, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 5)), elements=values))
def test_half_a_scale_is_the_largest_error(vectors):
    scales = column_scales(vectors)
    numbers = to_int8(vectors, scales)
    assert numbers.dtype == np.int8
    assert scales.shape == (vectors.shape[1],)
    assert (np.abs(numbers * scales - vectors) <= scales * 0.5001 + FLOOR).all()
    for column, scale in zip(vectors.T, scales, strict=True):
        biggest = max(abs(float(x)) for x in column)
        assert scale == pytest.approx(biggest / 127 if biggest > FLOOR else 1, rel=1e-5)


def test_signs_are_alike_and_what_is_beyond_is_cut():
    vectors = np.array([[1.0, -2.0, 0.0], [-1.0, 2.0, 0.0]])
    scales = column_scales(vectors)
    assert to_int8(vectors, scales).tolist() == [[LARGEST, -LARGEST, 0], [-LARGEST, LARGEST, 0]]
    assert to_int8(10 * vectors, scales).tolist() == to_int8(vectors, scales).tolist()
    assert to_int8(vectors[:0], scales).shape == (0, 3)
    with pytest.raises(DataError, match="at least one vector"):
        column_scales(vectors[:0])
