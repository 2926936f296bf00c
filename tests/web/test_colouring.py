"""Colours of entities: surroundings scaled down, like beside like, a planted truth that plain components miss."""

import numpy as np
import pytest

from graticule.errors import DataError
from graticule.web import colouring
from graticule.web.region_page import entity_colours, three_colours


def city(seed=0, squares=60, rare=20):
    """Vectors of four kinds in squares whose surroundings are five times as loud; kind 0 is most of them, 3 is rare."""
    rng = np.random.default_rng(seed)
    kinds = np.concatenate([np.repeat([0, 1, 2], [1500, 200, 60]), np.full(rare, 3)])
    square = rng.integers(0, squares, len(kinds))
    places_km = np.stack([square % 8, square // 8], axis=1) * colouring.SQUARE_KM + rng.uniform(
        0.01, 0.19, (len(kinds), 2)
    )
    own, around = np.linalg.qr(rng.normal(size=(24, 24)))[0][:, :4].T, rng.normal(size=(squares, 24))
    vectors = (
        4 * own[kinds]
        + 5 * (around @ around[:6].T / 6 @ around[:6])[square] / 12
        + 0.3 * rng.normal(size=(len(kinds), 24))
    )
    return vectors, places_km, kinds


def told_apart(colours, kinds):
    """The share of rows of each kind whose nearest other row is of this kind, averaged over kinds."""
    apart = np.square(colours[:, None].astype(float) - colours[None]).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    right = kinds[apart.argmin(axis=1)] == kinds
    return np.mean([right[kinds == kind].mean() for kind in np.unique(kinds)])


def test_kinds_are_told_apart_that_surroundings_drown_in_plain_components():
    vectors, places_km, kinds = city()
    assert told_apart(entity_colours(vectors, places_km), kinds) > 0.9
    assert told_apart(three_colours(vectors), kinds) < 0.7


def test_the_same_entities_have_the_same_colours_each_time():
    vectors, places_km, _ = city()
    np.testing.assert_array_equal(entity_colours(vectors, places_km), entity_colours(vectors, places_km))


def test_means_of_squares_vary_by_one_at_most_in_every_direction():
    vectors, places_km, _ = city()
    plain = colouring.without_surroundings(vectors, places_km)
    names = [tuple(one) for one in np.floor(places_km / colouring.SQUARE_KM)]
    large = [name for name in set(names) if names.count(name) >= colouring.LEAST_ENTITIES]
    groups = [np.array([one == name for one in names]) for name in large]
    means = np.array([plain[group].mean(axis=0) for group in groups])
    weights = np.array([group.sum() for group in groups]) / sum(group.sum() for group in groups)
    variance = np.linalg.eigvalsh((means * weights[:, None]).T @ means)
    assert 0.9 < variance[-1] <= 1


def test_centres_are_the_means_of_what_is_nearest_to_them():
    vectors = np.concatenate([np.full((40, 2), 9.0), np.zeros((400, 2)), np.full((5, 2), -7.0)])
    np.testing.assert_allclose(sorted(colouring.centres(vectors, 50).tolist()), [[-7, -7], [0, 0], [9, 9]], atol=1e-12)


def test_entities_lie_between_the_centres_that_they_are_like():
    known, placed = np.eye(5), np.arange(15.0).reshape(5, 3)
    found = colouring.between(np.array([[1.0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0]]), known, placed)
    np.testing.assert_allclose(found[0], placed[0], atol=1e-6)
    weights = 1 / np.array([0.5, 0.5, 1.5, 1.5]) ** 2  # squared distances; of the last three, alike far, any two
    pairs = [(2, 3), (2, 4), (3, 4)]
    choices = [np.average(placed[[0, 1, *pair]], axis=0, weights=weights) for pair in pairs]
    assert any(np.allclose(found[1], choice, atol=1e-6) for choice in choices)


def test_groups_stay_groups_when_they_are_laid_out():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(6), 20)
    placed = colouring.laid_out(10 * rng.normal(size=(6, 30))[group] + rng.normal(size=(120, 30)))
    assert placed.shape == (120, 3)
    assert told_apart(placed, group) > 0.99
    assert (np.diff(placed.std(axis=0)) <= 0).all()


def test_each_entity_needs_a_place():
    with pytest.raises(DataError, match="3 vectors, 2 places"):
        colouring.colour_space(np.zeros((3, 4)), np.zeros((2, 2)))
