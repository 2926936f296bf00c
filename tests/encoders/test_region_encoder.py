import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from graticule.encoders.region_encoder import RegionEncoder, patch_centres, pooled, region_encoder
from graticule.encoders.transformer import Transformer, plan
from graticule.errors import DataError, SettingError
from tests.region_tokens import GEOMETRY_DIM, PATCH_DIM, TAG_DIM, planted

NAMES = ["T", "G", "TG", "I", "TI", "GI", "TGI"]


def encoder(side=2, seed=0, **options):
    torch.manual_seed(seed)
    options = {"width": 16, "depth": 2, "heads": 2} | options
    built = RegionEncoder(TAG_DIM, GEOMETRY_DIM, 8, PATCH_DIM if side else 0, side * side, **options)
    return built.fit_statistics(planted(side=side)).eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_transformer_equals_the_naive_loop_over_tokens():
    torch.manual_seed(0)
    model = Transformer(8, 2, 2).double()
    groups = torch.tensor([3, 0, 3, 3, 0, 7, 3, 0, 0, 0, 0, 0])
    x = torch.randn(12, 8, dtype=torch.float64)
    y = x.clone()
    for block in model.blocks:
        qkv = block.qkv(block.norm1(y))
        mixed = torch.zeros_like(y)
        for i in range(12):
            others = [j for j in range(12) if groups[j] == groups[i]]
            for head in (slice(0, 4), slice(4, 8)):
                q, k, v = (qkv[:, 8 * part : 8 * part + 8][:, head] for part in range(3))
                weights = [math.exp(float(q[i] @ k[j]) / 2) for j in others]
                mixed[i, head] = sum(w * v[j] for w, j in zip(weights, others, strict=True)) / sum(weights)
        y = y + block.out(mixed)
        y = y + block.down(torch.nn.functional.gelu(block.up(block.norm2(y))))
    torch.testing.assert_close(model(x, groups), model.norm(y))


def test_the_last_layers_are_averaged_after_a_norm_each():
    torch.manual_seed(0)
    model, x, groups = Transformer(8, 3, 2), torch.randn(5, 8), torch.zeros(5, dtype=torch.int64)
    outputs = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, out: outputs.append(out))
    found = model(x, groups, layers=2)
    normed = [torch.nn.functional.layer_norm(out, (8,)) for out in outputs[-2:]]
    torch.testing.assert_close(found, model.norm((normed[0] + normed[1]) / 2))
    with pytest.raises(SettingError, match="1 to 3 last layers, got 4"):
        model(x, groups, layers=4)


def test_buckets_cover_all_tokens_with_little_padding():
    lengths = np.random.default_rng(0).lognormal(3, 1, 500).astype(int).clip(1, 1000)
    groups = torch.repeat_interleave(torch.arange(500), torch.from_numpy(lengths))
    order, buckets = plan(groups)
    assert sorted(order.tolist()) == list(range(len(groups)))
    assert [b.tokens.stop for b in buckets[:-1]] == [b.tokens.start for b in buckets[1:]]
    assert sum(b.shape[0] for b in buckets) == 500
    assert sum(math.prod(b.shape) for b in buckets) < 1.25 * len(groups)


@pytest.mark.parametrize("modalities", NAMES)
def test_batch_mates_and_padding_never_change_a_vector(modalities):
    model, tokens = encoder(modalities=modalities), planted(side=2, fewest=0, most=40)
    together = model(tokens.to("cpu"))
    for i in (0, 7, 39):
        alone = model(tokens.take(np.array([i])).to("cpu"))
        part = slice(tokens.offsets[i], tokens.offsets[i + 1])
        close(alone.regions[0], together.regions[i])
        close(alone.entities, together.entities[part])
        if "I" in modalities:
            close(alone.patches[0], together.patches[i])


def test_order_of_entities_does_not_count_for_a_region_and_is_kept_for_entities():
    model, tokens = encoder(), planted(1, side=2, fewest=12)
    order = np.random.default_rng(0).permutation(tokens.offsets[-1])
    turned = replace(tokens, tags=tokens.tags[order], geometry=tokens.geometry[order], position=tokens.position[order])
    expected, found = model(tokens.to("cpu")), model(turned.to("cpu"))
    close(found.regions, expected.regions)
    close(found.patches, expected.patches)
    close(found.entities, expected.entities[order])


def test_pooled_equals_the_naive_loop():
    values, owner = torch.randn(6, 2), torch.tensor([0, 0, 0, 2, 2, 3])
    found = pooled(values, owner, 5)
    for i in range(5):
        rows = [values[j] for j in range(6) if owner[j] == i]
        for column in range(2):
            numbers = [float(row[column]) for row in rows]
            mean = sum(numbers) / len(numbers) if rows else 0.0
            amount = math.log(1 + sum(max(0.0, number) for number in numbers))
            expected = [mean, max(numbers, default=0.0), amount]
            assert found[i, column::2].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_region_without_tokens_has_zeros_and_zero_regions_are_none():
    tokens = planted(4, side=2, fewest=0, most=0)
    tokens.seen[1] = False
    found = encoder()(tokens.to("cpu"))
    assert torch.isfinite(found.regions).all()
    assert (found.regions[1] == 0).all()
    assert (found.regions[0] != 0).any()
    nothing = encoder()(tokens.take(np.array([], dtype=np.int64)).to("cpu"))
    assert nothing.regions.shape == (0, 96)
    assert nothing.patches.shape == (0, 4, 16)


@pytest.mark.parametrize("modalities", NAMES)
def test_what_is_left_out_is_not_read(modalities):
    model, tokens = encoder(modalities=modalities), planted(side=2).to("cpu")
    other = planted(side=2, seed=5).to("cpu")
    changes = {
        "T": replace(tokens, tag_sets=tokens.tag_sets.flip(0)),
        "G": replace(tokens, geometry=-tokens.geometry),
        "I": replace(tokens, patches=other.patches),
    }
    expected = model(tokens).regions
    for name, changed in changes.items():
        assert torch.equal(model(changed).regions, expected) == (name not in modalities)
    assert (
        expected.shape[1]
        == model.region_dim
        == 48 * (len(modalities) if modalities == "I" else 1 + ("I" in modalities))
    )


def test_hidden_attributes_and_tokens_are_not_read():
    model, tokens = encoder(), planted(side=2).to("cpu")
    some = torch.arange(len(tokens.tags)) % 3 == 0
    patches = torch.arange(4).expand(40, 4) % 2 == 0
    changed_tags = replace(tokens, tags=torch.where(some, 1, tokens.tags))
    changed_geometry = replace(tokens, geometry=torch.where(some[:, None], 9.0, tokens.geometry))
    none = torch.zeros_like(some)
    close(model(changed_tags, some, none).regions, model(tokens, some, none).regions)
    close(model(changed_geometry, none, some).regions, model(tokens, none, some).regions)
    changed = replace(
        changed_tags,
        geometry=changed_geometry.geometry,
        position=torch.where(some[:, None], 0.1, tokens.position),
        patches=torch.where(patches[:, :, None], 9.0, tokens.patches),
    )
    expected, found = model(tokens, keep=(~some, ~patches)), model(changed, keep=(~some, ~patches))
    close(found.regions, expected.regions)
    assert (found.entities[some] == 0).all()
    assert (found.patches[patches] == 0).all()
    assert (found.entities[~some] != 0).any(dim=1).all()


def test_keeping_some_equals_having_only_those():
    model, tokens = encoder(side=0), planted()
    keep = np.random.default_rng(0).random(tokens.offsets[-1]) < 0.5
    kept = model(tokens.to("cpu"), keep=(torch.from_numpy(keep), None))
    only = model(tokens.where(keep).to("cpu"))
    close(kept.regions, only.regions)
    close(kept.entities[torch.from_numpy(keep)], only.entities)


def test_unseen_patches_do_not_count_and_the_grid_starts_in_the_north_west():
    model, tokens = encoder(), planted(side=2).to("cpu")
    changed = replace(tokens, patches=torch.where(tokens.seen[:, :, None], tokens.patches, 50.0))
    close(model(changed).regions, model(tokens).regions)
    assert patch_centres(4).tolist() == [[-0.5, 0.5], [0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]]


def test_statistics_are_those_of_the_training_tokens():
    tokens = planted(side=2)
    model = encoder()
    seen = tokens.patches[tokens.seen].astype(np.float64)
    for found, values in (
        (model.geometry_mean, tokens.geometry.mean(axis=0, dtype=np.float64)),
        (model.position_deviation, tokens.position[:, 2:].std(axis=0, dtype=np.float64)),
        (model.patch_mean, seen.mean(axis=0)),
        (model.patch_deviation, seen.std(axis=0)),
    ):
        np.testing.assert_allclose(found.numpy(), values, rtol=1e-4, atol=1e-5)


def test_far_outliers_stay_finite_and_are_cut():
    model, tokens = encoder(), planted(side=2).to("cpu")
    far, farther = (replace(tokens, geometry=torch.full_like(tokens.geometry, v)) for v in (3e3, 6e4))
    close(model(far).regions, model(farther).regions)


def test_config_and_weights_rebuild_the_encoder():
    model, tokens = encoder(seed=1, modalities="TI"), planted(side=2).to("cpu")
    again = region_encoder(**model.config).eval()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(tokens).regions, model(tokens).regions)
    with pytest.raises(SettingError, match=r"'withd'.*'width'"):
        region_encoder(**model.config, withd=3)


def test_a_place_token_is_read_and_must_be_given():
    model, tokens = encoder(place_dim=3), planted(side=2).to("cpu")
    here, there = (model(tokens, place=value * torch.ones(40, 3)).regions for value in (0.0, 1.0))
    assert (here - there).abs().amax(dim=1).min() > 1e-4
    with pytest.raises(DataError, match=r"\(40, 3\), got None"):
        model(tokens)
    with pytest.raises(DataError, match=r"None, got \(40, 3\)"):
        encoder()(tokens, place=torch.zeros(40, 3))


def test_wrong_tokens_and_options_are_named():
    with pytest.raises(DataError, match=r"'patches': 4, 'patch_dim': 5.*'patches': 0, 'patch_dim': 0"):
        encoder()(planted().to("cpu"))
    tokens = planted(side=2)
    with pytest.raises(DataError, match=r"'geometry_dim': 6.*'geometry_dim': 2"):
        encoder()(replace(tokens, geometry=tokens.geometry[:, :2]).to("cpu"))
    for options, match in (
        ({"modalities": "TX"}, "'TX'"),
        ({"side": 0, "modalities": "I"}, "only with patches"),
        ({"heads": 3}, "heads=3 width=16"),
    ):
        with pytest.raises(SettingError, match=match):
            encoder(**options)
    with pytest.raises(SettingError, match="square grid, got 5"):
        RegionEncoder(4, 4, 8, 3, 5)


def test_half_precision_agrees():
    model, tokens = encoder(), planted(side=2).to("cpu")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = model(tokens).regions
    exact = model(tokens).regions
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()
