from dataclasses import replace

import numpy as np
import pytest
import torch

from graticule.encoders.region_encoder import owners, patch_centres
from graticule.errors import SettingError
from graticule.learners.masking import KINDS, LEFT_OUT, Masking, rank, sampled
from tests.region_tokens import FREQUENT, planted
from tests.region_tokens import KINDS as TAGS

CHANCES = {"random": 0.2, "area": 0.3, "modality": 0.1, "attribute": 0.2, "alike": 0.2}
UNLIKE = torch.eye(FREQUENT)
GRID = patch_centres(9)
every_kind = pytest.mark.parametrize("chances", [CHANCES, *({kind: 1.0} for kind in KINDS)])


def draw(tokens, chances=None, seed=0, likeness=UNLIKE, **options):
    torch.manual_seed(seed)
    grid = GRID if tokens.patches is not None else GRID[:0]
    return Masking(chances or CHANCES, **options)(tokens.to("cpu"), grid, likeness)


def with_frequent(tokens, share=1.0, each=1):
    """The same regions, each set of tags with `each` frequent tags in a row, for a share of the sets."""
    frequent = np.zeros((TAGS + 1, FREQUENT), np.float16)
    for row in range(1, 1 + round(share * TAGS)):
        frequent[row, [(row + more) % FREQUENT for more in range(each)]] = 1
    return replace(tokens, frequent=frequent)


def hidden_tags(tokens, masks):
    """(t, frequent) of each entity: the frequent tags that it has, and those of them that are hidden."""
    held = torch.from_numpy(tokens.frequent.astype(bool))[torch.from_numpy(tokens.tags)]
    if masks.hide_frequent is None:
        return held, torch.zeros_like(held)
    return held, held & masks.hide_frequent[owners(torch.from_numpy(tokens.offsets))]


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
@pytest.mark.parametrize("each", [1, 3])
def test_no_target_is_seen_in_full_and_every_region_has_both(chances, side, modalities, each):
    likeness = torch.rand(FREQUENT, FREQUENT, generator=torch.Generator().manual_seed(0)).fill_diagonal_(1.0)
    for seed in range(3):
        tokens = with_frequent(planted(60, side=side, fewest=0, most=9, seed=seed), 0.7, each)
        masks = draw(tokens, chances, seed, likeness, modalities=modalities)
        hidden = masks.hide_tags | masks.hide_geometry
        _, lost = hidden_tags(tokens, masks)
        assert not (masks.context[0] & masks.targets[0] & ~hidden & ~lost.any(dim=1)).any()
        assert not (hidden & ~(masks.context[0] & masks.targets[0])).any()
        assert not (masks.hide_tags & masks.hide_geometry).any()
        if masks.hide_frequent is not None:
            assert (masks.hide_frequent.any(dim=1) == (masks.kinds == KINDS.index("alike"))).all()
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
                assert set(chances) <= {"modality", "attribute", "alike"}  # of these some regions have nothing to hide


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
    kinds = torch.cat([draw(with_frequent(planted(500, side=3)), seed=seed).kinds for seed in range(8)])
    asked = np.array([CHANCES[kind] for kind in KINDS])
    assert (np.abs(frequencies(kinds) - asked) < 4 * np.sqrt(asked * (1 - asked) / len(kinds))).all()


def test_a_kind_that_cannot_be_leaves_its_chance_to_the_others():
    tokens = planted(500, side=3)
    without_image = replace(with_frequent(tokens), patches=None, seen=None)
    for regions, likeness, impossible in (
        (without_image, UNLIKE, "modality"),
        (with_frequent(tokens, 0), UNLIKE, "alike"),  # no frequent tag in any region
        (replace(tokens, frequent=None), None, "alike"),  # no frequent tags at all
        (replace(tokens, frequent=None), torch.zeros(0, 0), "alike"),
    ):
        kinds = torch.cat([draw(regions, seed=seed, likeness=likeness).kinds for seed in range(8)])
        asked = np.array([CHANCES[kind] * (kind != impossible) for kind in KINDS])
        asked /= asked.sum()
        assert (np.abs(frequencies(kinds) - asked) <= 4 * np.sqrt(asked * (1 - asked) / len(kinds))).all()


def test_a_single_entity_has_an_attribute_mask_or_is_left_out():
    lonely = with_frequent(planted(50, fewest=1, most=1))
    assert set(draw(lonely).kinds.tolist()) == {KINDS.index("attribute")}
    assert set(draw(lonely, {"alike": 1.0}).kinds.tolist()) == {LEFT_OUT}
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


def test_masks_of_tags_alike_hide_them_from_all_entities_of_a_region():
    """In a naive loop: what is in the context and what is asked for follows from the tags that are hidden."""
    seen_kinds = set()
    for side in (0, 3):
        tokens = with_frequent(planted(300, side=side, fewest=2, most=12), 0.8, each=2)
        masks = draw(tokens, {"alike": 1.0}, tags=2)
        held, lost = hidden_tags(tokens, masks)
        for i in range(300):
            rows = range(tokens.offsets[i], tokens.offsets[i + 1])
            if not held[rows].any():
                assert masks.kinds[i] == LEFT_OUT
                continue
            shown = held[rows].any(dim=0)
            assert masks.kinds[i] == KINDS.index("alike")
            assert 1 <= masks.hide_frequent[i].sum() <= 2
            assert not (masks.hide_frequent[i] & ~shown).any()  # nothing is alike here
            kept = []
            for row in rows:
                loses, left = bool(lost[row].any()), bool((held[row] & ~lost[row]).any())
                context, target = bool(masks.context[0][row]), bool(masks.targets[0][row])
                seen_kinds.add((loses, left))
                if (context, target) != (not loses or left, loses):
                    assert (context, target) == (True, False)
                    kept.append(row)
            everything = side == 0 and bool(lost[rows].any(dim=1).all())
            assert len(kept) == everything  # one token is left to a region
            if side:
                assert not masks.targets[1][i].any()
                assert torch.equal(masks.context[1][i], torch.from_numpy(tokens.seen[i]))
        assert not (masks.hide_tags | masks.hide_geometry).any()
    assert seen_kinds == {(True, True), (True, False), (False, True), (False, False)}


def test_a_region_that_loses_all_of_its_entities_keeps_one_that_is_not_asked_for():
    tokens = planted(200, fewest=2, most=6)
    tokens = replace(tokens, tags=np.ones_like(tokens.tags))
    masks = draw(tokens, {"alike": 1.0}, least_context=0.5)
    assert (masks.hide_frequent == UNLIKE[0].bool()).all()
    assert torch.equal(masks.context[0], ~masks.targets[0])
    owner = owners(torch.from_numpy(tokens.offsets))
    assert (torch.bincount(owner[masks.context[0]], minlength=200) == 1).all()
    places = torch.arange(len(owner))[masks.context[0]] - torch.from_numpy(tokens.offsets[:-1])
    assert len(set(places.tolist())) > 3  # any of them


def test_tags_alike_are_hidden_together_and_each_tag_of_the_region_as_often():
    """Six tags of which a region shows three; the first is like the fourth, which it does not show, and the fifth."""
    tokens = planted(1, fewest=6, most=6)
    tokens = replace(tokens, tags=np.array([1, 1, 1, 1, 2, 3])).take(np.zeros(600, np.int64))
    likeness = torch.eye(FREQUENT) - 0.5
    likeness[0, [3, 4]] = likeness[[3, 4], 0] = 0.95
    likeness[1, 2] = likeness[2, 1] = 0.6
    masks = draw(tokens, {"alike": 1.0}, likeness=likeness, tags=1, alike=(0.6, 0.6))
    rows = [tuple(row.nonzero().flatten().tolist()) for row in masks.hide_frequent]
    assert set(rows) == {(0, 3, 4), (1, 2)}
    assert rows.count((0, 3, 4)) / 600 == pytest.approx(1 / 3, abs=4 * (2 / 9 / 600) ** 0.5)
    for low, high in ((0.61, 0.9), (0.3, 0.9)):  # thresholds in between hide the second alone, sometimes
        masks = draw(tokens, {"alike": 1.0}, likeness=likeness, tags=1, alike=(low, high))
        both = masks.hide_frequent[:, [1, 2]].all(dim=1).sum().item() / 400
        assert both == pytest.approx((0.6 - low) / (high - low) if low < 0.6 else 0, abs=0.12)


def test_everything_above_the_threshold_is_hidden_with_what_was_drawn():
    vectors = torch.nn.functional.normalize(torch.randn(FREQUENT, 3, generator=torch.Generator().manual_seed(3)))
    likeness = vectors @ vectors.T
    tokens = with_frequent(planted(300, fewest=2, most=8), 0.5)
    masks = draw(tokens, {"alike": 1.0}, likeness=likeness, tags=3, alike=(0.4, 0.4))
    held, _ = hidden_tags(tokens, masks)
    more = 0
    for i in range(300):
        shown = held[tokens.offsets[i] : tokens.offsets[i + 1]].any(dim=0)
        hidden = masks.hide_frequent[i]
        closures = [
            {j for j in range(FREQUENT) if likeness[drawn, j] >= 0.4 or j == drawn} for drawn in shown.nonzero()
        ]
        inside = [one for one in closures if hidden[list(one)].all()]
        assert set(hidden.nonzero().flatten().tolist()) == set().union(*inside)
        more += len(inside) > 1
    assert more > 50  # of several tags drawn


def test_as_many_tags_are_drawn_as_asked():
    """One to three draws, each as likely, out of six tags that all regions show."""
    tokens = planted(1, fewest=6, most=6)
    tokens = replace(tokens, tags=np.arange(1, 7)).take(np.zeros(2000, np.int64))
    counts = torch.bincount(draw(tokens, {"alike": 1.0}).hide_frequent.sum(dim=1), minlength=4) / 2000
    expected = [0, (1 + 1 / 6 + 1 / 36) / 3, (5 / 6 + 15 / 36) / 3, 20 / 36 / 3]
    assert counts.tolist() == pytest.approx(expected, abs=0.045)


def test_masks_follow_the_seed_alone():
    tokens = planted(side=3)
    assert torch.equal(draw(tokens).targets[0], draw(tokens).targets[0])
    assert torch.equal(draw(tokens).hide_frequent, draw(tokens).hide_frequent)
    assert not torch.equal(draw(tokens).targets[0], draw(tokens, seed=1).targets[0])


def test_no_regions_have_no_masks():
    tokens = planted(3, side=3).take(np.array([], dtype=np.int64))
    masks = draw(tokens)
    assert masks.kinds.shape == (0,)
    assert masks.targets[1].shape == (0, 9)
    assert masks.hide_frequent.shape == (0, FREQUENT)


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
    assert (one.frequent.numpy() == tokens.frequent).all()


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
