"""Baselines on coordinates: interpolation against loops, planted fields, edges of the map."""

import numpy as np
import pytest

from graticule.evaluation.baselines import BASELINES, constant, interpolation, linear, waves
from graticule.evaluation.predictors import Inputs, score
from graticule.geo.coords import great_circle_km, lonlat, uniform_places, unit_sphere


def ask(baseline, train, label, test, classes=0, **options):
    """The baseline at places, without vectors."""
    rows = (Inputs(np.empty((len(points), 0)), points) for points in (train, test))
    return baseline(next(rows), label, next(rows), classes, **options)


@pytest.mark.parametrize("classes", [0, 4])
@pytest.mark.parametrize(("neighbours", "power"), [(5, 1), (20, 2), (1, 1)])
def test_interpolation_is_the_naive_loop(classes, neighbours, power):
    rng = np.random.default_rng(0)
    train, test = uniform_places(120, seed=1), uniform_places(40, seed=2)
    label = rng.integers(0, 4, 120) if classes else rng.normal(size=120)
    predicted = ask(interpolation, train, label, test, classes, neighbours=neighbours, power=power)
    for place, found in zip(test, predicted, strict=True):
        distance = great_circle_km(place, train)
        nearest = np.argsort(distance)[:neighbours]
        weight = distance[nearest] ** -float(power)
        if classes:
            expected = max(range(4), key=lambda c: weight[label[nearest] == c].sum())
        else:
            expected = (weight * label[nearest]).sum() / weight.sum()
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_neighbours_are_found_across_the_antimeridian_and_the_pole():
    train = lonlat(lon=[179.9, 170.0, -90.0], lat=[0.0, 0.0, 89.9])
    test = lonlat(lon=[-179.9, 90.0], lat=[0.0, 89.9])
    np.testing.assert_allclose(ask(interpolation, train, np.array([5.0, 1.0, 7.0]), test, neighbours=1), [5.0, 7.0])


def test_a_known_place_gives_back_its_label():
    places = uniform_places(30)
    label = np.arange(30.0)
    np.testing.assert_allclose(ask(interpolation, places, label, places), label, atol=1e-3)


def test_fewer_places_than_neighbours():
    places = uniform_places(2)
    assert np.isfinite(ask(interpolation, places, np.array([1.0, 2.0]), uniform_places(5, seed=1))).all()


def test_linear_baselines_recover_fields_of_their_own_kind():
    train, test = uniform_places(600, seed=1), uniform_places(200, seed=2)
    tilted = unit_sphere(np.vstack([train, test])) @ [1.0, -2.0, 0.5]
    assert score(tilted[600:], ask(linear(unit_sphere), train, tilted[:600], test)) > 0.9999
    x, y, z = unit_sphere(np.vstack([train, test])).T
    wavy = x * y * z + z**9
    assert score(wavy[600:], ask(linear(waves(10)), train, wavy[:600], test)) > 0.999
    assert score(wavy[600:], ask(linear(waves(3)), train, wavy[:600], test)) < 0.7


def test_constant():
    places = uniform_places(4)
    np.testing.assert_array_equal(ask(constant, places, np.array([1, 1, 0, 2]), places, 3), [1, 1, 1, 1])
    np.testing.assert_array_equal(ask(constant, places, np.array([1.0, 1.0, 0.0, 2.0]), places), [1.0] * 4)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("classes", [0, 3])
def test_every_baseline_answers_each_place(name, classes):
    train, test = uniform_places(50), uniform_places(9, seed=1)
    label = np.arange(50) % 3 if classes else np.arange(50.0)
    predicted = ask(BASELINES[name], train, label, test, classes)
    assert predicted.shape == (9,)
    assert np.isfinite(predicted).all()
    if classes:
        assert set(predicted) <= {0, 1, 2}
