from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import DataError
from graticule.geo.tokens import Tokens, join, padded

lengths = st.lists(st.integers(0, 5), max_size=6)


def tokens(sizes, seed=0, images=False, sets=4, frequent=2):
    rng = np.random.default_rng(seed)
    t, n = sum(sizes), len(sizes)
    tag_sets = np.concatenate([np.zeros((1, 3)), rng.normal(size=(sets, 3))]).astype(np.float32)
    return Tokens(
        offsets=np.cumsum([0, *sizes]).astype(np.int64),
        tags=rng.integers(0, sets + 1, t),
        geometry=rng.normal(size=(t, 5)).astype(np.float32),
        position=rng.normal(size=(t, 4)).astype(np.float32),
        tag_sets=tag_sets,
        frequent=(rng.random((sets + 1, frequent)) < 0.5).astype(np.float32) * tag_sets.any(axis=1)[:, None]
        if frequent
        else None,
        patches=rng.normal(size=(n, 4, 6)).astype(np.float32) if images else None,
        seen=rng.random((n, 4)) < 0.5 if images else None,
    )


def entities(part):
    """What the entities of each region are: the same however the tables of tags lie."""
    frequent = np.zeros((len(part.tag_sets), 0)) if part.frequent is None else part.frequent
    sets = np.concatenate([part.tag_sets, frequent], axis=1)
    return [
        [(*sets[part.tags[i]], *part.geometry[i], *part.position[i]) for i in range(start, end)]
        for start, end in zip(part.offsets[:-1], part.offsets[1:], strict=True)
    ]


def check(part):
    assert not part.tag_sets[0].any()
    assert part.frequent is None or (not part.frequent[0].any() and len(part.frequent) == len(part.tag_sets))
    assert part.offsets[0] == 0
    assert part.offsets[-1] == len(part.tags) == len(part.geometry) == len(part.position)
    assert part.offsets.dtype == part.tags.dtype == np.int64
    assert part.tags.max(initial=0) < len(part.tag_sets)


@settings(deadline=None)
@given(lengths, st.data())
def test_take_is_indexing(sizes, data):
    whole = tokens(sizes, images=True)
    rows = data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=8)) if sizes else []
    part = whole.take(np.array(rows, dtype=np.int64))
    check(part)
    assert len(part) == len(rows)
    assert entities(part) == [entities(whole)[row] for row in rows]
    np.testing.assert_array_equal(part.patches, whole.patches[rows])
    np.testing.assert_array_equal(part.lengths, whole.lengths[rows])
    assert len(part.tag_sets) <= len(set(part.tags.tolist()) | {0})


@settings(deadline=None)
@given(lengths, st.integers(0, 9))
def test_where_keeps_regions(sizes, seed):
    whole = tokens(sizes)
    keep = np.random.default_rng(seed).random(sum(sizes)) < 0.5
    part = whole.where(keep)
    check(part)
    assert len(part) == len(whole)
    kept = [keep[a:b] for a, b in zip(whole.offsets[:-1], whole.offsets[1:], strict=True)]
    assert entities(part) == [
        [entity for entity, stays in zip(row, which, strict=True) if stays]
        for row, which in zip(entities(whole), kept, strict=True)
    ]


@settings(deadline=None)
@given(st.lists(lengths, min_size=1, max_size=4), st.booleans(), st.sampled_from([0, 2]))
def test_join_is_concatenation(many, images, frequent):
    parts = [tokens(sizes, seed, images, seed + 1, frequent) for seed, sizes in enumerate(many)]
    whole = join(parts)
    assert (whole.frequent is not None) == (frequent > 0)
    check(whole)
    assert entities(whole) == [row for part in parts for row in entities(part)]
    np.testing.assert_array_equal(whole.lengths, np.concatenate([part.lengths for part in parts]))
    assert (whole.patches is not None) == images
    again = join([whole.take(np.array([i])) for i in range(len(whole))]) if len(whole) else whole
    assert entities(again) == entities(whole)


def test_no_tags_stay_no_tags():
    parts = [tokens([3], seed) for seed in range(3)]
    bare = [Tokens(**{**part.arrays(), "tags": np.zeros(3, np.int64)}) for part in parts]
    assert not join(bare).tags.any()
    assert not join(bare).take(np.array([2, 0])).tags.any()


def test_join_refuses_what_does_not_fit():
    with pytest.raises(DataError, match="at least one part"):
        join([])
    with pytest.raises(DataError, match="with images and regions without"):
        join([tokens([2], images=True), tokens([1])])
    with pytest.raises(DataError, match="with 0 and 2 frequent tags cannot be joined"):
        join([tokens([2]), tokens([1], frequent=0)])
    with pytest.raises(DataError, match="with 2 and 3 frequent tags"):
        join([tokens([2], frequent=3), tokens([1])])


def naive(values, offsets):
    longest = max(np.diff(offsets), default=0)
    out, there = np.zeros((len(offsets) - 1, longest, *values.shape[1:])), np.zeros((len(offsets) - 1, longest), bool)
    for row, (a, b) in enumerate(pairwise(offsets)):
        for column in range(b - a):
            out[row, column], there[row, column] = values[a + column], True
    return out, there


@settings(deadline=None)
@given(lengths, st.sampled_from([(), (3,), (2, 2)]), st.sampled_from([np.float32, np.int64]))
def test_padded_is_a_loop(sizes, shape, dtype):
    offsets = np.cumsum([0, *sizes])
    values = (np.random.default_rng(0).normal(size=(sum(sizes), *shape)) * 9).astype(dtype)
    expected, there = naive(values, offsets)
    for filled, present in (
        padded(values, offsets),
        (x.numpy() for x in padded(torch.as_tensor(values), torch.as_tensor(offsets))),
    ):
        np.testing.assert_array_equal(filled, expected)
        np.testing.assert_array_equal(present, there)
        assert filled.dtype == dtype
        assert present.dtype == np.bool_
        assert filled.shape == expected.shape


def test_padded_lets_gradients_through():
    values = torch.ones(3, 2, requires_grad=True)
    filled, _ = padded(values, torch.tensor([0, 1, 1, 3]))
    filled.sum().backward()
    assert values.grad is not None
    assert (values.grad == 1).all()


def test_as_tensors():
    whole = tokens([2, 0, 1], images=True)
    there = whole.to("cpu")
    assert "frequent" in whole.arrays()
    assert len(there) == 3
    for name, values in whole.arrays().items():
        assert isinstance(getattr(there, name), torch.Tensor)
        np.testing.assert_array_equal(getattr(there, name).numpy(), values)
    np.testing.assert_array_equal(there.lengths, whole.lengths)
    bare = tokens([1], frequent=0).to("cpu")
    assert bare.patches is None
    assert bare.frequent is None
