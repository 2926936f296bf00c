import re

import numpy as np
import pytest
import torch

from graticule.errors import CacheError
from graticule.tensors import flatten_optimiser, load_tensors, save_tensors, unflatten_optimiser


def tensors():
    torch.manual_seed(0)
    return {
        "a": torch.randn(7, 3),
        "b/c": torch.randn(4, dtype=torch.float64),
        "half": torch.randn(5).half(),
        "brain": torch.randn(5).bfloat16(),
        "count": torch.tensor(3),
        "none": torch.zeros(0, 2),
        "yes": torch.tensor([True, False]),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }


def test_tensors_come_back_as_they_were(tmp_path):
    save_tensors(tmp_path / "x.safetensors", tensors(), step="12", note="ä")
    found, metadata = load_tensors(tmp_path / "x.safetensors")
    assert metadata == {"step": "12", "note": "ä"}
    assert set(found) == set(tensors())
    for name, value in tensors().items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_equal_tensors_give_equal_bytes(tmp_path):
    for name in ("x", "y"):
        save_tensors(tmp_path / name, tensors())
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_tensors_that_share_memory_are_saved(tmp_path):
    shared = torch.arange(4.0)
    save_tensors(tmp_path / "x", {"a": shared, "b": shared[1:3]})
    assert torch.equal(load_tensors(tmp_path / "x")[0]["b"], torch.tensor([1.0, 2.0]))


def test_any_flipped_byte_is_noticed(tmp_path):
    """In the header, the metadata or the data: never other values than those saved."""
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors(), step="120")
    whole, (expected, metadata) = path.read_bytes(), load_tensors(path)
    rng = np.random.default_rng(0)
    noticed = 0
    for place in range(0, len(whole), 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found, about = load_tensors(path)
        except CacheError:
            noticed += 1
            continue
        assert about == metadata  # the padding of the header
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert noticed > len(whole) // 2 - 8


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CacheError, match=re.escape(str(path))):
        load_tensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CacheError, match=r"nothing\.safetensors"):
        load_tensors(tmp_path / "nothing.safetensors")


def test_a_file_without_a_digest_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CacheError, match="digest"):
        load_tensors(tmp_path / "x.safetensors")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_tensors(path, tensors())
    before = path.read_bytes()

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("graticule.tensors.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_tensors(path, {"a": torch.zeros(3)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_optimiser_state_survives_flattening():
    parameters = [torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(2, 2))]
    optimiser = torch.optim.AdamW(parameters)
    sum(p.square().sum() for p in parameters).backward()
    optimiser.step()
    state = optimiser.state_dict()["state"]
    flat = flatten_optimiser(state) | {"learner/x": torch.zeros(1)}
    found = unflatten_optimiser(flat)
    assert set(found) == {0, 1}
    for i in found:
        assert set(found[i]) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(found[i][key], torch.as_tensor(state[i][key])) for key in found[i])
