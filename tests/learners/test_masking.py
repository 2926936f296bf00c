from dataclasses import replace

import numpy as np
import pytest
import torch

from graticule.encoders.region_encoder import owners, patch_centres
from graticule.errors import SettingError
from graticule.learners.masking import KINDS, LEFT_OUT, Masking, rank, sampled
from tests.region_tokens import planted

CHANCES = {"random": 0.2, "area": 0.4, "modality": 0.1, "attribute": 0.3}
GRID = patch_centres(9)
every_kind = pytest.mark.parametrize("chances", [CHANCES, *({kind: 1.0} for kind in KINDS)])


def draw(tokens, chances=None, seed=0, **options):
    torch.manual_seed(seed)
    grid = GRID if tokens.patches is not None else GRID[:0]
    return Masking(chances or CHANCES, **options)(tokens.to("cpu"), grid)


def by_region(tokens, entities, patches):
    """For each region the values of its entities and of the patches that are seen, in a naive loop."""
    rows = []
    for i in range(len(tokens)):
        row = list(map(bool, entities[tokens.offsets[i] : tokens.offsets[i + 1]]))
        if patches is not None:
            row += [bool(value) for value, seen in zip(patches[i], tokens.seen[i], strict=True) if seen]
        rows.append(row)
    return rows


@every_kind
@pytest.mark.parametrize("side", [0, 3])
@pytest.mark.parametrize("modalities", ["TGI", "TI", "GI"])
def test_no_target_is_seen_in_full_and_every_region_has_both(chances, side, modalities):
    for seed in range(3):
        tokens = planted(60, side=side, fewest=0, most=9, seed=seed)
        masks = draw(tokens, chances, seed, modalities=modalities)
        hidden = masks.hide_tags | masks.hide_geometry
        assert not (masks.context[0] & masks.targets[0] & ~hidden).any()
        assert not (hidden & ~(masks.context[0] & masks.targets[0])).any()
        assert not (masks.hide_tags & masks.hide_geometry).any()
        if side:
            assert not (masks.context[1] & masks.targets[1]).any()
            assert not ((masks.context[1] | masks.targets[1]) & ~torch.from_numpy(tokens.seen)).any()
        contexts, targets = by_region(tokens, *masks.context), by_region(tokens, *masks.targets)
        for kind, context, target in zip(masks.kinds.tolist(), contexts, targets, strict=True):
            assert all(c or t for c, t in zip(context, target, strict=True))  # nothing is forgotten
            if kind == LEFT_OUT:
                assert not any(target)
                assert all(context)
            else:
                assert any(context)
                assert any(target)
            if len(context) > 1 and kind == LEFT_OUT:
                assert set(chances) <= {"modality", "attribute"}  # of these some regions have nothing to hide


@every_kind
def test_only_images_are_masked_where_entities_are_no_tokens(chances):
    tokens = planted(60, side=3)
    masks = draw(tokens, chances, modalities="I")
    assert not (masks.context[0] | masks.targets[0] | masks.hide_tags | masks.hide_geometry).any()
    asked = masks.kinds != LEFT_OUT
    assert asked.all() == ("random" in chances or "area" in chances)
    assert (masks.targets[1].any(dim=1) == asked).all()


def frequencies(kinds):
    return torch.bincount(kinds, minlength=len(KINDS)).double().numpy() / len(kinds)


def test_kinds_come_as_often_as_asked():
    """Within four standard deviations of the binomial."""
    kinds = torch.cat([draw(planted(500, side=3), seed=seed).kinds for seed in range(8)])
    asked = np.array([CHANCES[kind] for kind in KINDS])
    assert (np.abs(frequencies(kinds) - asked) < 4 * np.sqrt(asked * (1 - asked) / len(kinds))).all()


def test_a_kind_that_cannot_be_leaves_its_chance_to_the_others():
    kinds = torch.cat([draw(planted(500), seed=seed).kinds for seed in range(8)])
    asked = np.array([0.2, 0.4, 0.0, 0.3]) / 0.9
    assert (np.abs(frequencies(kinds) - asked) <= 4 * np.sqrt(asked * (1 - asked) / len(kinds))).all()


def test_a_single_entity_has_an_attribute_mask_or_is_left_out():
    lonely = planted(50, fewest=1, most=1)
    assert set(draw(lonely).kinds.tolist()) == {KINDS.index("attribute")}
    without = draw(lonely, {"random": 1.0, "area": 1.0})
    assert set(without.kinds.tolist()) == {LEFT_OUT}
    assert not without.targets[0].any()


def test_random_masks_hide_the_share_that_was_asked_and_leave_the_least_context():
    tokens = planted(200, fewest=2, most=30)
    for share, least in ((0.5, 0.1), (0.9, 0.1), (0.9, 0.4)):
        masks = draw(tokens, {"random": 1.0}, target_share=share, least_context=least)
        found = [sum(row) for row in by_region(tokens, masks.targets[0], None)]
        for number, n in zip(found, np.diff(tokens.offsets), strict=True):
            assert number == max(1, min(round(share * n), n - max(1, int(np.ceil(least * n - 1e-6)))))


def test_area_masks_hide_all_tokens_of_a_box_and_none_outside():
    tokens = planted(100, fewest=40, most=60)
    masks = draw(tokens, {"area": 1.0}, boxes=1, least_context=0.0)
    shares = []
    for i in range(100):
        part = slice(tokens.offsets[i], tokens.offsets[i + 1])
        xy, target = tokens.position[part, :2].astype(float), masks.targets[0][part].numpy()
        low, high = xy[target].min(axis=0), xy[target].max(axis=0)
        inside = ((xy >= low) & (xy <= high)).all(axis=1)
        assert (inside == target).all()
        shares.append(target.mean())
    assert 0.35 < np.mean(shares) < 0.45  # tokens lie evenly, boxes within the region


def test_boxes_are_as_large_and_as_wide_as_asked():
    """A dense grid of patches measures the boxes."""
    side = 60
    tokens = planted(40, side=side, fewest=1, most=1)
    tokens.seen[:] = True
    torch.manual_seed(0)
    masking = Masking({"area": 1.0}, "I", boxes=1, least_context=0.0)
    boxes = masking(tokens.to("cpu"), patch_centres(side * side)).targets[1].view(40, side, side)
    height, width = boxes.any(dim=2).sum(dim=1), boxes.any(dim=1).sum(dim=1)
    assert (height * width == boxes.sum(dim=(1, 2))).all()
    area, aspect = height * width / side**2, width / height
    assert 0.33 < area.min() < 0.37
    assert 0.43 < area.max() < 0.47
    assert 0.45 < aspect.min() < 0.75
    assert 1.6 < aspect.max() < 2.1


def test_modality_masks_hide_one_modality_whole():
    tokens = planted(100, side=3)
    masks = draw(tokens, {"modality": 1.0})
    seen = torch.from_numpy(tokens.seen)
    images = masks.targets[1].any(dim=1)
    assert (masks.targets[1] == (seen & images[:, None])).all()
    assert (masks.targets[0] == ~images[owners(torch.from_numpy(tokens.offsets))]).all()
    assert 0.3 < images.double().mean() < 0.7


def test_attribute_masks_keep_the_token_and_hide_what_there_is():
    tokens = planted(300, fewest=4, most=12)
    masks = draw(tokens, {"attribute": 1.0})
    assert masks.context[0].all()
    assert torch.equal(masks.targets[0], masks.hide_tags | masks.hide_geometry)
    assert masks.hide_tags[masks.targets[0]].double().mean().item() == pytest.approx(0.5, abs=0.06)
    assert masks.targets[0].double().mean().item() == pytest.approx(0.5, abs=0.06)
    assert not draw(tokens, {"attribute": 1.0}, modalities="T").hide_geometry.any()
    assert not draw(tokens, {"attribute": 1.0}, modalities="G").hide_tags.any()


def test_masks_follow_the_seed_alone():
    tokens = planted(side=3)
    assert torch.equal(draw(tokens).targets[0], draw(tokens).targets[0])
    assert not torch.equal(draw(tokens).targets[0], draw(tokens, seed=1).targets[0])


def test_no_regions_have_no_masks():
    tokens = planted(3, side=3).take(np.array([], dtype=np.int64))
    masks = draw(tokens)
    assert masks.kinds.shape == (0,)
    assert masks.targets[1].shape == (0, 9)


def test_rank_equals_the_naive_loop():
    rng = np.random.default_rng(0)
    owner, score = rng.integers(0, 7, 50), rng.random(50)
    expected = [sum(o == owner[i] and s < score[i] for o, s in zip(owner, score, strict=True)) for i in range(50)]
    assert rank(torch.from_numpy(score), torch.from_numpy(owner), 7).tolist() == expected


def test_large_regions_are_sampled_evenly_and_small_ones_are_whole():
    tokens = planted(20, fewest=0, most=30)
    tokens = replace(tokens, position=np.arange(tokens.offsets[-1])[:, None] * np.ones((1, 8)))
    torch.manual_seed(0)
    drawn = [sampled(tokens.to("cpu"), 10) for _ in range(300)]
    lengths = np.diff(tokens.offsets)
    assert all((d.offsets.diff().numpy() == lengths.clip(max=10)).all() for d in drawn)
    counts = np.bincount(np.concatenate([d.position[:, 0].long().numpy() for d in drawn]), minlength=lengths.sum())
    chances = np.repeat(np.minimum(1, 10 / lengths.clip(min=1)), lengths)
    assert (np.abs(counts / 300 - chances) <= 4.5 * np.sqrt(chances * (1 - chances) / 300)).all()
    one = drawn[0]
    rows = one.position[:, 0].long().numpy()
    assert (one.geometry.numpy() == tokens.geometry[rows]).all()
    assert (one.tags.numpy() == tokens.tags[rows]).all()


@pytest.mark.parametrize(
    ("chances", "options", "match"),
    [
        ({"rndom": 1.0}, {}, "'rndom'.*'random'"),
        ({"random": 0.0}, {}, "not all 0"),
        ({"random": 2.0, "area": -1.0}, {}, ">= 0"),
        ({}, {}, "not all 0"),
        ({"random": 1.0}, {"target_share": 1.0}, "target_share"),
        ({"random": 1.0}, {"least_context": 1.0}, "least_context"),
    ],
)
def test_impossible_masks_are_refused(chances, options, match):
    with pytest.raises(SettingError, match=match):
        Masking(chances, **options)
