"""Draws by weight and by cell against naive counts; pure functions of name, seed and number."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.data.balanced import SAMPLERS, DensitySampler, StratifiedSampler, sampler
from graticule.data.loader import EpochSampler
from graticule.errors import DataError, SettingError
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import offset_km, uniform_places

OPTIONS = {"cell_km": 500.0, "debias": 0.5}
places = st.lists(
    st.tuples(st.sampled_from([-180.0, -179.99, 0.0, 0.01, 179.99]), st.sampled_from([-90.0, -89.99, 0.0, 60.0, 90.0])),
    min_size=1,
    max_size=40,
).map(lambda rows: np.array(rows))
balanced = pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind != "rows"])


def make(kind, points, size=8, name="text", seed=0, **options):
    return sampler(kind, name, points, size, seed, **OPTIONS | options)


def town_and_country(town=300, country=40):
    """Most rows within some 100 km of one place, the others all over the Earth."""
    rng = np.random.default_rng(0)
    around = offset_km(np.repeat([[179.99, 60.0]], town, axis=0), *rng.normal(0, 30, (2, town, 1)))[:, 0]
    return np.concatenate([around, uniform_places(country, seed=1)])


@balanced
@given(points=places, size=st.integers(1, 50), numbers=st.lists(st.integers(0, 99), min_size=1, max_size=4))
@settings(deadline=None, max_examples=40)
def test_a_draw_holds_different_rows_and_depends_on_its_number_alone(kind, points, size, numbers):
    forth, back = make(kind, points, size), make(kind, points, size)
    expected = {number: forth.draw(number).tolist() for number in numbers}
    assert {number: back.draw(number).tolist() for number in reversed(numbers)} == expected
    for rows in expected.values():
        assert len(rows) == len(set(rows)) == min(size, len(points))
        assert set(rows) <= set(range(len(points)))


@balanced
def test_numbers_names_and_seeds_draw_differently(kind):
    points = uniform_places(200, seed=0)
    draws = [make(kind, points).draw(0), make(kind, points).draw(1)]
    draws += [make(kind, points, name="image").draw(0), make(kind, points, seed=1).draw(0)]
    assert len({tuple(rows.tolist()) for rows in draws}) == 4


@pytest.mark.parametrize(("kind", "power"), [("area", 1.0), ("density", 0.5), ("density", 0.0)])
def test_shares_are_density_to_the_power_and_draws_follow_them(kind, power):
    points = town_and_country()
    cells = equal_area_cells(points, OPTIONS["cell_km"]).tolist()
    density = [sum(other == cell for other in cells) for cell in cells]
    expected = np.array([d**-power for d in density])
    expected /= expected.sum()
    found = make(kind, points, size=1, debias=power)
    np.testing.assert_allclose(found.shares, expected)
    drawn = Counter(int(found.draw(k)[0]) for k in range(4000))
    in_town = sum(n for row, n in drawn.items() if row < 300) / 4000
    assert in_town == pytest.approx(expected[:300].sum(), abs=4 * math.sqrt(0.25 / 4000))


def test_area_draws_every_cell_alike_and_rows_the_town():
    points = town_and_country()
    area, rows = (make(kind, points, size=10) for kind in ("area", "rows"))
    in_town = {
        kind: np.mean([np.mean(s.draw(k) < 300) for k in range(200)]) for kind, s in (("area", area), ("rows", rows))
    }
    assert in_town["rows"] == pytest.approx(300 / 340, abs=0.05)
    assert in_town["area"] < 0.2


@given(points=places, size=st.integers(1, 50), number=st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_strata_give_as_evenly_as_they_can(points, size, number):
    """Filling cells one row at a time, round after round, ends with these numbers of rows."""
    cells = equal_area_cells(points, OPTIONS["cell_km"])
    held = Counter(cells.tolist())
    drawn = Counter(cells[make("stratified", points, size).draw(number)].tolist())
    quota, left = Counter(), min(size, len(points))
    while left:
        open_cells = [cell for cell in held if quota[cell] < held[cell]]
        if len(open_cells) > left:
            assert all(drawn[cell] - quota[cell] in (0, 1) for cell in open_cells)
            assert sum(drawn[cell] - quota[cell] for cell in open_cells) == left
            open_cells = [cell for cell in open_cells if drawn[cell] > quota[cell]]
        quota.update(open_cells)
        left -= len(open_cells)
    assert quota == drawn


@balanced
def test_every_row_has_its_turn(kind):
    points = town_and_country(town=20, country=20)
    found = make(kind, points, size=10)
    assert {row for k in range(300) for row in found.draw(k).tolist()} == set(range(40))


@balanced
def test_poles_the_antimeridian_and_one_place_many_times(kind):
    seam = np.array([[-180.0, 0.0], [179.9999, 0.0], [0.0, 90.0], [120.0, 90.0], [5.0, -90.0]] + [[7.0, 50.0]] * 95)
    found = make(kind, seam, size=5)
    drawn = Counter(int(row) for k in range(100) for row in found.draw(k))
    assert sum(drawn[row] for row in range(5)) > 100  # of 25 if rows counted alike


def test_rows_are_the_epochs_of_old():
    points = uniform_places(30, seed=0)
    epochs = EpochSampler("text", 30, 8, 0)
    assert all(np.array_equal(make("rows", points).draw(k), epochs.draw(k)) for k in range(9))


def test_what_cannot_be_drawn_is_refused():
    points = uniform_places(5, seed=0)
    with pytest.raises(SettingError, match="Did you mean 'stratified'"):
        make("stratifed", points)
    with pytest.raises(SettingError, match="at least 1 km, got 0"):
        make("area", points, cell_km=0.0)
    for kind in SAMPLERS:
        with pytest.raises(DataError, match="'text' has 0 rows"):
            make(kind, points[:0])
        with pytest.raises(SettingError, match="batch_size=0"):
            make(kind, points, size=0)
    assert isinstance(make("stratified", points), StratifiedSampler)
    assert isinstance(make("density", points), DensitySampler)
