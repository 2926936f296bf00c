import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from graticule.encoders.image import (
    BAND_STATISTICS,
    MultispectralTrunk,
    StatisticsTrunk,
    centred,
    multispectral_network,
    reflectance,
)
from graticule.encoders.resnet import NETWORKS, VisionTransformer, network
from graticule.errors import DataError, SettingError


def patches(n=5, bands=12, size=20, seed=0, dtype=np.uint16):
    high = 255 if dtype == np.uint8 else 6000
    return list(np.random.default_rng(seed).integers(0, high, (n, bands, size, size)).astype(dtype))


def naive_statistics(patch, boxes, scale):
    """Loop over boxes, bands and pixels; the centre of a side of s pixels is pixel s // 2."""
    bands, height, width = patch.shape
    columns = []
    for box in boxes:
        first = box // 2
        rows = [r for r in range(height // 2 - first, height // 2 - first + box) if 0 <= r < height]
        cols = [c for c in range(width // 2 - first, width // 2 - first + box) if 0 <= c < width]
        values = [[patch[band, r, c] / scale for r in rows for c in cols] for band in range(bands)]
        means = [sum(v) / len(v) for v in values]
        columns += means
        if box > 1:
            columns += [(sum((x - m) ** 2 for x in v) / len(v)) ** 0.5 for v, m in zip(values, means, strict=True)]
    return columns


@pytest.mark.parametrize(
    ("size", "boxes"), [(17, (1, 5, 17)), (20, (1, 5, 17)), (64, (1, 9, 33, 64)), (4, (5, 9)), (1, (1, 5))]
)
@pytest.mark.parametrize(("dtype", "scale"), [(np.uint16, 10_000), (np.uint8, 255)])
def test_statistics_equal_the_naive_loop(size, boxes, dtype, scale):
    rows = patches(2, 3, size, dtype=dtype)
    expected = [naive_statistics(row, boxes, scale) for row in rows]
    np.testing.assert_allclose(StatisticsTrunk(boxes)(rows), expected, atol=1e-6)


def test_statistics_in_closed_form():
    """A constant patch has its value as every mean and no deviation; the centre of an odd patch is its middle."""
    flat = np.full((2, 9, 9), 5000, np.uint16)
    np.testing.assert_allclose(StatisticsTrunk((1, 5))([flat]), [[0.5, 0.5, 0.5, 0.5, 0, 0]], atol=1e-7)
    flat[:, 4, 4] = 10_000
    np.testing.assert_allclose(StatisticsTrunk((1,))([flat]), [[1, 1]])
    assert centred(np.arange(25).reshape(5, 5), 3).tolist() == [[6, 7, 8], [11, 12, 13], [16, 17, 18]]


def test_zero_rows_of_an_array_keep_their_width():
    assert StatisticsTrunk()(np.zeros((0, 12, 17, 17), np.uint16)).shape == (0, 60)
    assert StatisticsTrunk()([]).shape == (0, 0)


def test_bad_patches_are_named():
    good = patches(3)
    with pytest.raises(DataError, match="row 1"):
        StatisticsTrunk()([good[0], good[1][:4]])
    with pytest.raises(DataError, match="row 0"):
        StatisticsTrunk()([good[0][0]])
    spoiled = np.stack(good).astype(np.float32)
    spoiled[2, 0, 10, 10] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in row 2"):
        StatisticsTrunk()(spoiled)
    with pytest.raises(DataError, match="got int64"):
        StatisticsTrunk()([np.zeros((3, 5, 5), np.int64)])
    with pytest.raises(SettingError, match="box"):
        StatisticsTrunk(())


@pytest.mark.parametrize("architecture", sorted(NETWORKS))
def test_band_count_is_checked(architecture):
    with pytest.raises(DataError, match=r"12 Sentinel-2 bands.*got shape \(5, 4, 20, 20\)"):
        multispectral_network(architecture)(torch.from_numpy(np.stack(patches(5, 4))))
    with pytest.raises(SettingError, match="bands=4"):
        MultispectralTrunk(architecture, bands=4)


def test_unknown_architecture_and_too_small_patches():
    with pytest.raises(SettingError, match="'resnet18'"):
        MultispectralTrunk("resnet-18")
    with pytest.raises(DataError, match="at least 4 x 4"):
        MultispectralTrunk()(patches(1, size=3))


def test_reflectance_of_arrays_and_tensors():
    pixels = np.array([[0, 5000, 65_535]], np.uint16)
    np.testing.assert_allclose(reflectance(pixels), [[0, 0.5, 6.5535]], rtol=1e-6)
    assert torch.equal(reflectance(torch.from_numpy(pixels)), torch.from_numpy(reflectance(pixels)))
    assert reflectance(np.float32([0.25])) == np.float32(0.25)


def test_the_small_network_standardises_bands():
    """Shifting the input to the mean of each band gives the vector of zeros inside."""
    built = multispectral_network("small", 13).eval()
    mean = torch.tensor(BAND_STATISTICS[13][0])[None, :, None, None].expand(2, 13, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(built(mean), built.body(torch.zeros(2, 13, 16, 16)), atol=1e-5, rtol=0)


def author_checkpoint(architecture, path, seed=3):
    """A random state dict in the layout of the SSL4EO-S12 authors: MoCo v2 for ResNets, MoCo v3 for the ViT."""
    torch.manual_seed(seed)
    body = network(architecture, 13)
    state = {}
    for name, tensor in body.state_dict().items():
        if name.endswith("running_var"):
            state[name] = torch.rand_like(tensor) + 0.5
        elif tensor.is_floating_point():
            state[name] = torch.randn_like(tensor) * 0.05 + (1 if name.endswith(("bn1.weight", "bn2.weight")) else 0)
        else:
            state[name] = tensor
    transformer = architecture == "vit-small"
    query, key, head = ("base_encoder", "momentum_encoder", "head") if transformer else ("encoder_q", "encoder_k", "fc")
    layout = {f"module.{query}.{name}": tensor for name, tensor in state.items()}
    layout |= {f"module.{key}.{name}": tensor + 1 for name, tensor in state.items()}
    layout |= {f"module.{side}.{head}.0.weight": torch.ones(4, 4) for side in (query, key)}
    layout |= {"module.queue": torch.zeros(8, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    torch.save({"epoch": 100, "arch": architecture, "state_dict": layout}, path)
    return state


def naive_resnet18(x, w):
    """Every layer written out by the names of torchvision."""

    def norm(y, name):
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        y = (y - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return y * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]

    x = norm(functional.conv2d(x, w["conv1.weight"], stride=2, padding=3), "bn1").clamp(min=0)
    x = functional.max_pool2d(x, 3, 2, 1)
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            stem, stride = f"layer{layer}.{block}.", 2 if layer > 1 and block == 0 else 1
            y = functional.conv2d(x, w[stem + "conv1.weight"], stride=stride, padding=1)
            y = norm(y, stem + "bn1").clamp(min=0)
            y = norm(functional.conv2d(y, w[stem + "conv2.weight"], padding=1), stem + "bn2")
            if stem + "downsample.0.weight" in w:
                x = functional.conv2d(x, w[stem + "downsample.0.weight"], stride=stride)
                x = norm(x, stem + "downsample.1")
            x = (x + y).clamp(min=0)
    return x.mean(dim=(2, 3))


def test_author_weights_of_resnet18_give_the_naive_result(tmp_path):
    state = author_checkpoint("resnet18", tmp_path / "B13_rn18_moco.pth")
    rows = patches(3, size=40)
    found = MultispectralTrunk("resnet18", tmp_path / "B13_rn18_moco.pth")(rows)
    x = torch.from_numpy(np.insert(np.stack(rows).astype(np.float32) / 10_000, 10, 0, axis=1))
    np.testing.assert_allclose(found, naive_resnet18(x, state), rtol=1e-3, atol=1e-5)


def naive_vit(x, w, heads, patch):
    """Attention by explicit softmax, one head at a time."""
    tokens = functional.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=patch)
    tokens = torch.cat([w["cls_token"].expand(len(x), -1, -1), tokens.flatten(2).transpose(1, 2)], 1) + w["pos_embed"]
    dim = tokens.shape[-1]

    def norm(y, name):
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        return y * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(y, name):
        return y @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    for block in range(sum(name.endswith("norm1.weight") for name in w)):
        stem = f"blocks.{block}."
        query, key, value = linear(norm(tokens, stem + "norm1"), stem + "attn.qkv").split(dim, dim=-1)
        parts = []
        for head in range(heads):
            part = slice(head * dim // heads, (head + 1) * dim // heads)
            scores = query[..., part] @ key[..., part].transpose(1, 2) / (dim // heads) ** 0.5
            parts.append(scores.softmax(-1) @ value[..., part])
        tokens = tokens + linear(torch.cat(parts, -1), stem + "attn.proj")
        inner = functional.gelu(linear(norm(tokens, stem + "norm2"), stem + "mlp.fc1"))
        tokens = tokens + linear(inner, stem + "mlp.fc2")
    return norm(tokens, "norm")[:, 0]


def test_vision_transformer_equals_the_naive_one():
    torch.manual_seed(0)
    model = VisionTransformer(bands=3, dim=24, depth=2, heads=3, size=16, patch=4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(x), naive_vit(x, model.state_dict(), 3, 4), atol=1e-4, rtol=1e-4)


def test_vision_transformer_of_the_authors_has_the_keys_of_timm():
    names = set(network("vit-small", 13).state_dict())
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "norm.bias", "blocks.11.attn.qkv.bias"} <= names
    assert {
        "blocks.0.norm1.weight",
        "blocks.0.attn.proj.weight",
        "blocks.0.norm2.bias",
        "blocks.0.mlp.fc2.weight",
    } <= names
    assert len(names) == 12 * 12 + 6
    assert network("vit-small", 13).pos_embed.shape == (1, 197, 384)


def test_resnet50_has_the_shapes_of_torchvision():
    state = network("resnet50", 13).state_dict()
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert state["layer3.5.conv2.weight"].shape == (256, 256, 3, 3)
    assert state["layer4.2.bn3.running_var"].shape == (2048,)
    assert (
        sum(v.numel() for k, v in state.items() if "running" not in k and "num_b" not in k) == 23_508_032 + 10 * 64 * 49
    )


@pytest.mark.parametrize("architecture", ["resnet50", "vit-small"])
def test_author_weights_matter(tmp_path, architecture):
    path = tmp_path / "moco.pth"
    state = author_checkpoint(architecture, path)
    rows = patches(2, size=32)
    loaded, random = MultispectralTrunk(architecture, path), MultispectralTrunk(architecture)
    for name, tensor in loaded.network.body.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert not np.allclose(loaded(rows), random(rows), atol=1e-3)
    assert loaded.identity() != random.identity()


def test_safetensors_plain_names_and_bfloat16(tmp_path):
    state = author_checkpoint("resnet18", tmp_path / "moco.pth")
    floats = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    save_file(floats, tmp_path / "plain.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in floats.items()}, tmp_path / "half.safetensors")
    rows = patches(3, 13, size=32)
    full = MultispectralTrunk("resnet18", tmp_path / "moco.pth", bands=13)
    plain = MultispectralTrunk("resnet18", tmp_path / "plain.safetensors", bands=13)
    half = MultispectralTrunk("resnet18", tmp_path / "half.safetensors", bands=13)
    assert np.array_equal(full(rows), plain(rows))
    assert full.identity() == plain.identity() != half.identity()
    assert half(rows).dtype == np.float32
    np.testing.assert_allclose(half(rows), full(rows), rtol=0.2, atol=0.05)


def test_twelve_bands_are_thirteen_with_zeros_for_cirrus(tmp_path):
    author_checkpoint("resnet18", tmp_path / "moco.pth")
    rows = patches(2, size=32)
    filled = [np.insert(row, 10, 0, axis=0) for row in rows]
    twelve = MultispectralTrunk("resnet18", tmp_path / "moco.pth")(rows)
    assert np.array_equal(twelve, MultispectralTrunk("resnet18", tmp_path / "moco.pth", bands=13)(filled))


def test_unfit_checkpoints_are_named(tmp_path):
    path = tmp_path / "moco.pth"
    author_checkpoint("resnet18", path)
    with pytest.raises(
        DataError, match=r"moco\.pth: does not fit VisionTransformer: lacks cls_token, pos_embed.* more"
    ):
        MultispectralTrunk("vit-small", path)
    found = torch.load(path, weights_only=True)["state_dict"]
    torch.save({"state_dict": found | {"module.encoder_q.extra": torch.ones(1)}}, path)
    with pytest.raises(DataError, match="has unexpected extra"):
        MultispectralTrunk("resnet18", path)
    found["module.encoder_q.conv1.weight"] = torch.ones(64, 3, 7, 7)
    torch.save({"state_dict": found}, path)
    with pytest.raises(DataError, match=r"has another shape for conv1\.weight"):
        MultispectralTrunk("resnet18", path)
    for content in ({"state_dict": {}}, [1, 2]):
        torch.save(content, path)
        with pytest.raises(DataError, match="dictionary of tensors"):
            MultispectralTrunk("resnet18", path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match=r"moco\.pth: expected a checkpoint"):
        MultispectralTrunk("resnet18", path)
    with pytest.raises(DataError, match=r"absent\.safetensors: expected a checkpoint"):
        MultispectralTrunk("resnet18", tmp_path / "absent.safetensors")


class Harmful:
    def __reduce__(self):
        return (os.mkdir, (os.environ["HARM"],))


def test_a_pickle_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    torch.save({"state_dict": {"x": Harmful()}}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match=r"evil\.pth"):
        MultispectralTrunk("resnet18", tmp_path / "evil.pth")
    assert not (tmp_path / "harm").exists()


def test_random_networks_follow_their_seed_and_leave_the_global_one():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = MultispectralTrunk(seed=1), MultispectralTrunk(seed=1), MultispectralTrunk(seed=2)
    assert torch.equal(torch.rand(1), expected)
    assert one.identity() == same.identity() != other.identity()


@pytest.mark.skipif("GRATICULE_DATA" not in os.environ, reason="GRATICULE_DATA does not name the folder of real data")
def test_real_patches():
    rasterio = pytest.importorskip("rasterio")
    paths = sorted((Path(os.environ["GRATICULE_DATA"]) / "satellite/sentinel2_patches").glob("*.tif"))[:4]
    rows = []
    for path in paths:
        with rasterio.open(path) as file:
            rows.append(file.read(window=((96, 160), (96, 160))))
    features = StatisticsTrunk((1, 9, 33, 64))(rows)
    assert features.shape == (4, 84)
    assert 0 <= features.min() < features.max() < 2
    assert MultispectralTrunk()(rows).std(axis=0).max() > 0.01
