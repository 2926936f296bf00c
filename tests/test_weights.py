import numpy as np
import pytest
import torch

from graticule.errors import CacheError
from graticule.tensors import load_tensors, save_tensors
from graticule.weights import Weights, read_weights

KINDS = {
    "a": torch.arange(21.0).reshape(7, 3),
    "double": torch.randn(4, dtype=torch.float64),
    "half": torch.randn(5).half(),
    "count": torch.tensor(3),
    "none": torch.zeros(0, 2),
    "yes": torch.tensor([True, False]),
}


def test_arrays_are_the_tensors(tmp_path):
    save_tensors(tmp_path / "x", KINDS, step="12")
    arrays, metadata = read_weights(tmp_path / "x")
    tensors, expected = load_tensors(tmp_path / "x")
    assert metadata == expected == {"step": "12"}
    assert arrays.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(arrays[name], tensor.numpy())
        assert arrays[name].dtype == tensor.numpy().dtype


def test_any_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "x"
    save_tensors(path, KINDS, step="12")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            arrays, _ = read_weights(path)
        except CacheError:
            continue
        assert all(np.array_equal(arrays[name], tensor.numpy()) for name, tensor in KINDS.items())


def test_what_numpy_has_no_type_for_is_refused(tmp_path):
    save_tensors(tmp_path / "x", {"brain": torch.zeros(2, dtype=torch.bfloat16)})
    with pytest.raises(CacheError, match="x is missing or damaged"):
        read_weights(tmp_path / "x")


def test_each_is_taken_in_its_shape(tmp_path):
    arrays = {"one.a": np.ones((2, 3), np.float16), "one.b": np.zeros(2), "two": np.zeros(1)}
    one = Weights(tmp_path, arrays).under("one.")
    assert one.take("a", 2, 3).dtype == np.float32
    with pytest.raises(CacheError, match=r"does not fit .*run.json: unexpected 'one.b'"):
        one.finish()
    with pytest.raises(CacheError, match=r"expected 'one.b' of shape \(3,\), got \(2,\)"):
        one.take("b", 3)
    with pytest.raises(CacheError, match=r"expected 'one.c' of shape \(\), got none"):
        one.take("c")
    one.take("b", 2)
    one.finish()
