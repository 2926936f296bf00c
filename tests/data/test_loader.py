import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.data.loader import EpochSampler, TokenSampler, colocate, without_neighbours
from graticule.errors import DataError, SettingError
from graticule.geo.coords import great_circle_km, offset_km, uniform_places
from graticule.geo.placed import Placed


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 9))
def test_every_row_at_most_once_an_epoch(rows, size, seed):
    sampler = EpochSampler("text", rows, size, seed)
    draws = rows // min(size, rows)
    for epoch in range(3):
        drawn = np.concatenate([sampler.draw(epoch * draws + k) for k in range(draws)])
        assert len(drawn) == draws * min(size, rows)
        assert len(set(drawn.tolist())) == len(drawn)
        assert set(drawn.tolist()) <= set(range(rows))
        assert rows - len(drawn) < min(size, rows)


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(1, 20), st.lists(st.integers(0, 200), min_size=1, max_size=10))
def test_a_draw_depends_on_its_number_alone(rows, size, numbers):
    forth, back = EpochSampler("text", rows, size, 7), EpochSampler("text", rows, size, 7)
    expected = {number: forth.draw(number).tolist() for number in numbers}
    assert {number: back.draw(number).tolist() for number in reversed(numbers)} == expected


def test_epochs_names_and_seeds_are_shuffled_differently():
    first = EpochSampler("text", 50, 50, 0)
    others = [EpochSampler("image", 50, 50, 0).draw(0), EpochSampler("text", 50, 50, 1).draw(0), first.draw(1)]
    for other in others:
        assert not np.array_equal(first.draw(0), other)


def test_all_rows_are_drawn_in_the_long_run():
    sampler = EpochSampler("text", 10, 4, 0)  # two rows of every shuffle wait
    assert {row for k in range(40) for row in sampler.draw(k).tolist()} == set(range(10))


def test_nothing_to_draw_is_an_error():
    with pytest.raises(DataError, match="'text' has 0 rows"):
        EpochSampler("text", 0, 4, 0)
    with pytest.raises(SettingError, match="batch_size=0"):
        EpochSampler("text", 4, 0, 0)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 90), st.integers(0, 9))
def test_draws_by_tokens_hold_every_row_once_an_epoch_and_keep_the_budget(lengths, budget, seed):
    lengths = np.array(lengths)
    sampler = TokenSampler("osm", lengths, budget, seed)
    for epoch in range(3):
        draws = [sampler.draw(epoch * sampler.draws_per_epoch + k) for k in range(sampler.draws_per_epoch)]
        assert sorted(np.concatenate(draws).tolist()) == list(range(len(lengths)))
        for rows in draws:
            assert len(rows)
            assert lengths[rows].sum() <= max(budget, 2 * lengths.max()) + lengths[rows].max()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.lists(st.integers(0, 99), min_size=1, max_size=9))
def test_a_draw_by_tokens_depends_on_its_number_alone(lengths, numbers):
    forth, back = (TokenSampler("osm", np.array(lengths), 50, 7) for _ in range(2))
    expected = {number: forth.draw(number).tolist() for number in numbers}
    assert {number: back.draw(number).tolist() for number in reversed(numbers)} == expected


def test_no_tokens_to_draw_is_an_error():
    with pytest.raises(DataError, match="'osm' has 0 rows"):
        TokenSampler("osm", np.array([], dtype=int), 4, 0)
    with pytest.raises(SettingError, match="batch_tokens=0"):
        TokenSampler("osm", np.array([3]), 0, 0)


def crowd(n, seed):
    """Places crowded around the antimeridian, the poles and Greenwich, so that neighbours exist."""
    rng = np.random.default_rng(seed)
    centres = np.array([[180.0, 0], [-180, 60], [0, 90], [77, -90], [0, 51.5]])[rng.integers(5, size=n)]
    moved = [offset_km(c[None], [e], [k])[0, 0] for c, (e, k) in zip(centres, rng.normal(0, 40, (n, 2)), strict=True)]
    return Placed(np.array(moved), np.arange(n), np.array([f"{seed}-{i}" for i in range(n)]))


def naive_colocate(sources, within_km):
    first, *others = sources
    kept = []
    for row in range(len(sources[first])):
        partners = [row]
        for name in others:
            km = [float(great_circle_km(sources[first].lonlat[row], p)) for p in sources[name].lonlat]
            best = min(range(len(km)), key=km.__getitem__)
            partners.append(best if km[best] <= within_km else -1)
        if min(partners) >= 0:
            kept.append(partners)
    return kept


@pytest.mark.parametrize("within_km", [15, 30, 60])
def test_colocate_is_the_nearest_partner_in_every_modality(within_km):
    sources = {"text": crowd(40, 1), "image": crowd(50, 2), "photo": crowd(30, 3)}
    expected = naive_colocate(sources, within_km)
    assert 0 < len(expected) < 40
    found = colocate(sources, within_km=within_km)
    assert [list(rows) for rows in zip(*(found[n].features.tolist() for n in sources), strict=True)] == expected
    for rows in found.values():
        assert great_circle_km(found["text"].lonlat, rows.lonlat).max() <= within_km


def test_colocate_across_the_antimeridian():
    east, west = Placed(np.array([[179.999, 10.0]]), np.zeros(1)), Placed(np.array([[-179.999, 10.0]]), np.zeros(1))
    assert len(colocate({"a": east, "b": west}, within_km=1)["b"]) == 1
    with pytest.raises(DataError, match=r"No place within 0.1 km is shared by a, b"):
        colocate({"a": east, "b": west}, within_km=0.1)


def test_colocate_of_one_modality_changes_nothing():
    rows = crowd(5, 0)
    assert colocate({"a": rows}, within_km=1)["a"].ids.tolist() == rows.ids.tolist()


@pytest.mark.parametrize("within_km", [0, 10, 80, 1e6])
def test_without_neighbours_is_the_naive_loop(within_km):
    rows, held_out = crowd(60, 4), np.concatenate([crowd(6, 5).lonlat, uniform_places(5, seed=6)])
    expected = [i for i, p in enumerate(rows.lonlat) if all(float(great_circle_km(p, q)) > within_km for q in held_out)]
    assert without_neighbours(rows, held_out, within_km=within_km).tolist() == expected


def test_without_neighbours_of_nothing():
    rows = crowd(3, 0)
    assert without_neighbours(rows, np.empty((0, 2)), within_km=10).tolist() == [0, 1, 2]
    assert without_neighbours(rows.take(np.array([], np.int64)), rows.lonlat, within_km=10).tolist() == []
    assert without_neighbours(rows, rows.lonlat, within_km=math.inf).tolist() == []
