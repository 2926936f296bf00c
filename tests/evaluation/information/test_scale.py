"""Variance by degree: planted harmonics, Parseval and a transform by plain products."""

import numpy as np
import pytest

from graticule.encoders.harmonics import harmonics
from graticule.errors import DataError, SettingError
from graticule.evaluation.information import scale as room
from graticule.evaluation.information.scale import degree_spectrum, resolution_km
from graticule.geo.coords import fibonacci_lattice, unit_sphere


def mixture(weights):
    """An embedding that is a linear map of harmonics: weights (columns of `harmonics`, components)."""
    degree = round(len(weights) ** 0.5) - 1
    return lambda points: harmonics(points, degree, "float64") @ weights


def random_weights(max_degree, components=5, seed=0):
    return np.random.default_rng(seed).normal(size=((max_degree + 1) ** 2, components))


@pytest.mark.parametrize("planted", [1, 2, 7, 20])
def test_harmonics_of_one_degree_have_all_their_power_there(planted):
    weights = random_weights(planted)
    weights[1 : planted**2] = 0  # the mean and one degree
    found = degree_spectrum(mixture(weights), max_degree=20)
    expected = np.zeros(20)
    expected[planted - 1] = 1
    np.testing.assert_allclose(found.fractions, expected, atol=1e-12)
    assert found.half_power_degree == planted
    assert found.beyond == pytest.approx(0, abs=1e-12)


def test_power_of_every_degree_is_the_sum_of_squared_coefficients():
    """Parseval: the mean square over the sphere is the sum of squared coefficients over 4 pi."""
    weights = random_weights(12)
    found = degree_spectrum(mixture(weights), max_degree=12)
    power = [np.square(weights[degree**2 : (degree + 1) ** 2]).sum() / (4 * np.pi) for degree in range(1, 13)]
    assert found.variance == pytest.approx(sum(power))
    np.testing.assert_allclose(found.fractions * found.variance, power, rtol=1e-9)
    assert found.fractions.sum() == pytest.approx(1)


def test_variance_beyond_the_highest_degree_is_not_taken_for_lower_degrees():
    weights = random_weights(20)
    power = [np.square(weights[degree**2 : (degree + 1) ** 2]).sum() / (4 * np.pi) for degree in range(1, 21)]
    found = degree_spectrum(mixture(weights), max_degree=10)
    np.testing.assert_allclose(found.fractions * found.variance, power[:10], rtol=1e-9)
    assert found.beyond == pytest.approx(sum(power[10:]) / sum(power), rel=0.2)


def test_a_rotated_field_has_the_same_spectrum():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]

    def bump(axis):
        return lambda points: np.exp(3 * unit_sphere(points) @ axis)[:, None]

    along, across = (degree_spectrum(bump(axis), max_degree=15) for axis in (np.array([0.0, 0, 1]), turn[0]))
    np.testing.assert_allclose(along.fractions, across.fractions, atol=1e-9)
    points = fibonacci_lattice(200_000)
    assert along.variance == pytest.approx(bump(turn[0])(points).var(), rel=1e-4)


def test_white_noise_lies_beyond_but_for_a_quarter():
    """Of noise, every coefficient has 4 pi times the sum of squared shares of area."""
    rng = np.random.default_rng(0)
    found = degree_spectrum(lambda points: rng.normal(size=(len(points), 20)), max_degree=30)
    _, weight, lon = room._lattice(46)
    assert found.beyond == pytest.approx(1 - 31**2 * np.square(weight / 2).sum() / len(lon), abs=0.01)
    assert found.half_power_degree is None


def test_batches_and_components_do_not_matter(monkeypatch):
    weights = random_weights(9)
    whole = degree_spectrum(mixture(weights), max_degree=8)
    calls = []

    def counted(points):
        calls.append(len(points))
        return mixture(weights)(points).astype(np.float32)

    monkeypatch.setattr(room, "BATCH_POINTS", 60)
    np.testing.assert_allclose(degree_spectrum(counted, max_degree=8).fractions, whole.fractions, rtol=1e-4)
    assert max(calls) <= 60 < sum(calls)


def test_a_constant_embedding_has_no_variance():
    found = degree_spectrum(lambda points: np.full((len(points), 3), 0.1, dtype=np.float32), max_degree=5)
    assert (found.variance, found.beyond, found.half_power_degree) == (0, 0, None)
    np.testing.assert_array_equal(found.fractions, np.zeros(5))


def test_resolution():
    assert resolution_km(1) == pytest.approx(20_015, abs=1)
    assert resolution_km(90) == pytest.approx(222.4, abs=0.1)


def test_bad_input():
    for degree in (0, 134):
        with pytest.raises(SettingError, match="1 to 133"):
            degree_spectrum(mixture(random_weights(1)), max_degree=degree)
    with pytest.raises(DataError, match="finite"):
        degree_spectrum(lambda points: np.full((len(points), 2), np.nan), max_degree=3)
    with pytest.raises(DataError, match=r"got shape \(50,\)"):
        degree_spectrum(lambda points: points[:, 0], max_degree=3)
