import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from graticule.encoders.region_encoder import RegionEncoder, mean, patch_centres, region_encoder
from graticule.encoders.transformer import Transformer, plan
from graticule.errors import DataError, SettingError
from tests.region_tokens import FREQUENT, GEOMETRY_DIM, PATCH_DIM, TAG_DIM, planted

NAMES = ["T", "G", "TG", "I", "TI", "GI", "TGI"]


def encoder(side=2, seed=0, **options):
    torch.manual_seed(seed)
    options = {"width": 16, "depth": 2, "heads": 2, "frequent": FREQUENT} | options
    built = RegionEncoder(TAG_DIM, GEOMETRY_DIM, 8, PATCH_DIM if side else 0, side * side, **options)
    return built.fit_statistics(planted(side=side)).eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def of_two_tags(n=40, seed=1, tags=8):
    """Planted regions whose entities have up to two of 8 tags, the first 6 of them frequent; the text is their sum."""
    tokens, rng = planted(n, seed=seed), np.random.default_rng(seed)
    sets = [(), *((a, b) for a in range(tags) for b in range(a, tags))]
    vectors, held = rng.normal(size=(tags, TAG_DIM)), np.zeros((len(sets), tags))
    for row, one in enumerate(sets):
        held[row, list(one)] = 1
    number = rng.integers(0, len(sets), tokens.offsets[-1])
    texts, frequent = (values.astype(np.float32) for values in (held @ vectors, held[:, :FREQUENT]))
    return replace(tokens, tags=number, tag_sets=texts, frequent=frequent), held.astype(bool), vectors


@torch.no_grad()
@pytest.mark.parametrize("where_dim", [0, 5])
def test_transformer_equals_the_naive_loop_over_tokens(where_dim):
    torch.manual_seed(0)
    model = Transformer(8, 2, 2, where_dim=where_dim).double()
    groups = torch.tensor([3, 0, 3, 3, 0, 7, 3, 0, 0, 0, 0, 0])
    x = torch.randn(12, 8, dtype=torch.float64)
    where = torch.randn(12, where_dim, dtype=torch.float64) if where_dim else None
    y = x.clone()
    for block in model.blocks:
        qkv = block.qkv(block.norm1(y))
        if where is not None:
            for i in range(12):
                qkv[i, :16] += sum(where[i, k] * block.where.weight[:, k] for k in range(where_dim))
        mixed = torch.zeros_like(y)
        for i in range(12):
            others = [j for j in range(12) if groups[j] == groups[i]]
            for head in (slice(0, 4), slice(4, 8)):
                q, k, v = (qkv[:, 8 * part : 8 * part + 8][:, head] for part in range(3))
                weights = [math.exp(float(q[i] @ k[j]) / 2) for j in others]
                mixed[i, head] = sum(w * v[j] for w, j in zip(weights, others, strict=True)) / sum(weights)
        y = y + block.out(mixed)
        y = y + block.down(torch.nn.functional.gelu(block.up(block.norm2(y))))
    torch.testing.assert_close(model(x, groups, where=where), model.norm(y))


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


@pytest.mark.parametrize("position", ["keys", "added"])
def test_what_an_entity_is_by_itself_does_not_depend_on_its_region_nor_on_its_place(position):
    model, tokens = encoder(position=position), planted(side=2).to("cpu")
    some = torch.arange(len(tokens.tags)) % 2 == 0
    moved = replace(tokens, position=-tokens.position, geometry=torch.where(some[:, None], tokens.geometry, 0.5))
    found, other = model(tokens), model(moved)
    torch.testing.assert_close(found.own[some], other.own[some])
    assert (found.own[~some] - other.own[~some]).abs().amax(dim=1).min() > 1e-4
    assert (found.entities[some] - other.entities[some]).abs().amax() > 1e-3
    assert model.entity_dim == found.own.shape[1] + found.entities.shape[1]


def test_mean_equals_the_naive_loop():
    values, owner = torch.randn(6, 2), torch.tensor([0, 0, 0, 2, 2, 3])
    found = mean(values, owner, 5)
    for i in range(5):
        rows = [values[j] for j in range(6) if owner[j] == i]
        for column in range(2):
            numbers = [float(row[column]) for row in rows]
            expected = sum(numbers) / len(numbers) if rows else 0.0
            assert found[i, column].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("modalities", ["TGI", "GI", "I", "T"])
def test_a_region_is_what_is_counted_and_then_the_means(modalities):
    """In a naive loop over the entities that are seen, with hidden tags, in regions without entities too."""
    model, tokens = encoder(modalities=modalities), planted(side=2, fewest=0, most=9)
    rng = np.random.default_rng(0)
    entities, tags = (rng.random(tokens.offsets[-1]) < share for share in (0.7, 0.3))
    hidden, patches = rng.random((40, FREQUENT)) < 0.3, rng.random((40, 4)) < 0.5
    tensors = [torch.from_numpy(part) for part in (tags, entities, patches, hidden)]
    found = model(tokens.to("cpu"), tensors[0], keep=tuple(tensors[1:3]), hide_frequent=tensors[3])
    assert (np.diff(tokens.offsets) == 0).any()
    for i in range(40):
        rows = [row for row in range(tokens.offsets[i], tokens.offsets[i + 1]) if entities[row]]
        counts = [len(rows)] if modalities != "I" else []
        if "T" in modalities:
            for tag in range(FREQUENT):
                with_tag = [row for row in rows if tokens.tags[row] == tag + 1 and not tags[row]]
                counts.append(0 if hidden[i, tag] else len(with_tag))
        seen = (
            [found.patches[i, k] for k in range(4) if tokens.seen[i, k] and patches[i, k]] if "I" in modalities else []
        )
        groups = [[found.entities[row] for row in rows]] if modalities != "I" else []
        groups += [seen] if "I" in modalities else []
        means = [sum(group) / len(group) if group else torch.zeros(16) for group in groups]
        close(found.means[i], torch.stack(means))
        close(found.regions[i], torch.cat([torch.tensor(counts, dtype=torch.float32).log1p(), *means]))


@pytest.mark.parametrize(("position", "alone", "together"), [("keys", False, True), ("added", True, True)])
def test_what_a_token_says_depends_on_where_it_lies_only_where_position_is_added(position, alone, together):
    """In the keys it counts for whom a token listens to: for nothing where there is no other, or no attention."""
    model, one, many = encoder(side=0, position=position), planted(fewest=1, most=1), planted(fewest=5)

    def moved(tokens):
        here, there = (model(part.to("cpu")) for part in (tokens, replace(tokens, position=-tokens.position)))
        changes = [(here.entities - there.entities).abs().amax(dim=1), (here.regions - there.regions).abs().amax(dim=1)]
        small, large = (bool((torch.cat(changes) < 1e-5).all()), bool((torch.cat(changes) > 1e-4).all()))
        assert small != large
        return large

    assert moved(one) == alone
    assert moved(many) == together
    for block in model.transformer.blocks:
        torch.nn.init.zeros_(block.out.weight)
    assert moved(many) == alone


def test_where_patches_lie_counts_for_whom_they_listen_to():
    model, tokens = encoder(), planted(side=2, fewest=4).to("cpu")
    expected = model(tokens).regions
    model.grid.neg_()
    assert (model(tokens).regions - expected).abs().amax(dim=1).min() > 1e-5
    for block in model.transformer.blocks:
        torch.nn.init.zeros_(block.out.weight)
    expected = model(tokens).regions
    model.grid.neg_()
    close(model(tokens).regions, expected)


def test_least_squares_recovers_the_text_of_tags_from_sums():
    tokens, held, vectors = of_two_tags()
    only = ~held[:, FREQUENT:].any(axis=1)  # sets of frequent tags alone
    alone = replace(tokens, tags=tokens.tags * 0, tag_sets=tokens.tag_sets[only], frequent=tokens.frequent[only])
    found = encoder(side=0).fit_statistics(alone).frequent_text
    np.testing.assert_allclose(found, vectors[:FREQUENT], atol=2e-3)
    every = encoder(side=0).fit_statistics(tokens).frequent_text.numpy().astype(np.float64)
    left = tokens.tag_sets - tokens.frequent @ every
    np.testing.assert_allclose(tokens.frequent.T @ left, 1e-3 * every, atol=1e-4)  # normal equations, with the ridge


def exact(tokens, vectors, **options):
    model = encoder(side=0, **options).fit_statistics(tokens)
    model.frequent_text.copy_(torch.from_numpy(vectors[:FREQUENT]))
    return model


def test_tokens_with_hidden_frequent_tags_are_those_of_entities_without_them():
    """Where the text is exactly the sum. An entity that loses its last frequent tag is left without any tags."""
    tokens, held, vectors = of_two_tags()
    model, rng = exact(tokens, vectors), np.random.default_rng(2)
    hidden = rng.random((40, FREQUENT)) < 0.4
    numbers = {tuple(row): number for number, row in enumerate(held)}
    owner, tags, lost = np.repeat(np.arange(40), np.diff(tokens.offsets)), tokens.tags.copy(), 0
    for i, number in enumerate(tokens.tags):
        left, gone = held[number].copy(), hidden[owner[i]] & held[number, :FREQUENT]
        left[:FREQUENT] &= ~gone
        if gone.any() and not left[:FREQUENT].any():
            lost += left.any()
            left[:] = False
        tags[i] = numbers[tuple(left)]
    assert lost > 5  # tags that are not frequent went with the frequent ones
    assert (tags != tokens.tags).sum() > 50
    found = model(tokens.to("cpu"), hide_frequent=torch.from_numpy(hidden))
    expected = model(replace(tokens, tags=tags).to("cpu"))
    torch.testing.assert_close(found.regions, expected.regions, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.entities, expected.entities, atol=1e-4, rtol=1e-4)
    seen = model(tokens.to("cpu"))
    assert (found.entities - seen.entities).abs().max() > 1e-2
    nothing = model(tokens.to("cpu"), hide_frequent=torch.zeros(40, FREQUENT, dtype=torch.bool))
    close(nothing.regions, seen.regions)


def test_whether_an_entity_has_a_hidden_tag_is_not_read():
    tokens, held, vectors = of_two_tags()
    model = exact(tokens, vectors)
    hidden = torch.zeros(40, FREQUENT, dtype=torch.bool)
    hidden[:, 0] = True
    other = held.copy()
    other[:, 0] ^= held[:, 1:FREQUENT].any(axis=1)  # of every entity that has another frequent tag
    texts, frequent = (values.astype(np.float32) for values in (other @ vectors, other[:, :FREQUENT]))
    changed = replace(tokens, tag_sets=texts, frequent=frequent).to("cpu")
    shown = tokens.to("cpu")
    found, expected = (model(part, hide_frequent=hidden).regions for part in (changed, shown))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (model(changed).regions - model(shown).regions).abs().amax(dim=1).min() > 1e-3


def test_an_entity_of_which_no_frequent_tag_is_left_carries_no_text():
    """Not even of its other tags, or of errors of the least squares."""
    tokens = planted(side=0)
    model = encoder(side=0)
    hidden = torch.ones(40, FREQUENT, dtype=torch.bool)
    frequent = tokens.frequent.any(axis=1)[:, None]
    spoilt = replace(tokens, tag_sets=np.where(frequent, 7 - tokens.tag_sets, tokens.tag_sets))
    expected = model(tokens.to("cpu"), hide_frequent=hidden)
    close(model(spoilt.to("cpu"), hide_frequent=hidden).entities, expected.entities)
    bare = replace(tokens, tags=np.where(tokens.tags <= FREQUENT, 0, tokens.tags))
    close(model(bare.to("cpu")).regions, expected.regions)


@pytest.mark.parametrize("modalities", ["G", "GI", "I"])
def test_frequent_tags_are_not_read_without_tags(modalities):
    model, tokens = encoder(modalities=modalities), planted(side=2)
    assert model.frequent == 0
    assert not any(name.startswith("named") for name, _ in model.named_parameters())
    expected = model(tokens.to("cpu")).regions
    hidden = torch.ones(40, FREQUENT, dtype=torch.bool)
    assert torch.equal(model(tokens.to("cpu"), hide_frequent=hidden).regions, expected)
    assert torch.equal(model(replace(tokens, frequent=None).to("cpu")).regions, expected)


def test_a_region_without_tokens_has_zeros_and_zero_regions_are_none():
    tokens = planted(4, side=2, fewest=0, most=0)
    tokens.seen[1] = False
    found = encoder()(tokens.to("cpu"))
    assert torch.isfinite(found.regions).all()
    assert (found.regions[1] == 0).all()
    assert (found.regions[0] != 0).any()
    nothing = encoder()(tokens.take(np.array([], dtype=np.int64)).to("cpu"))
    assert nothing.regions.shape == (0, 2 * 16 + 1 + FREQUENT)
    assert nothing.means.shape == (0, 2, 16)
    assert nothing.patches.shape == (0, 4, 16)


@pytest.mark.parametrize("modalities", NAMES)
def test_what_is_left_out_is_not_read(modalities):
    model, tokens = encoder(modalities=modalities), planted(side=2).to("cpu")
    other = planted(side=2, seed=5).to("cpu")
    changes = {
        "T": replace(tokens, tag_sets=tokens.tag_sets.flip(0), frequent=tokens.frequent.flip(0)),
        "G": replace(tokens, geometry=-tokens.geometry),
        "I": replace(tokens, patches=other.patches),
    }
    expected = model(tokens).regions
    for name, changed in changes.items():
        assert torch.equal(model(changed).regions, expected) == (name not in modalities)
    counts = (modalities != "I") + FREQUENT * ("T" in modalities)
    assert expected.shape[1] == model.region_dim == counts + 16 * ((modalities != "I") + ("I" in modalities))


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
    tokens, hidden = planted(side=2).to("cpu"), torch.arange(FREQUENT).expand(40, FREQUENT) % 2 == 0
    for position in ("keys", "added"):
        model = encoder(seed=1, modalities="TI", position=position)
        again = region_encoder(**model.config).eval()
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.frequent_text, model.frequent_text)
        assert torch.equal(again(tokens, hide_frequent=hidden).regions, model(tokens, hide_frequent=hidden).regions)
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
    for frequent, width in ((None, 0), (tokens.frequent[:, :2], 2)):
        with pytest.raises(DataError, match=f"'frequent': 6.*'frequent': {width}"):
            encoder()(replace(tokens, frequent=frequent).to("cpu"))
    with pytest.raises(DataError, match=r"'geometry_dim': 6.*'geometry_dim': 2"):
        encoder()(replace(tokens, geometry=tokens.geometry[:, :2]).to("cpu"))
    for options, match in (
        ({"modalities": "TX"}, "'TX'"),
        ({"side": 0, "modalities": "I"}, "only with patches"),
        ({"heads": 3}, "heads=3 width=16"),
        ({"position": "kyes"}, "'kyes'.*'keys'"),
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
