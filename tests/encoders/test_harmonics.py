"""Spherical harmonics against an arbitrary-precision oracle, the addition theorem and quadrature."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.encoders.harmonics import MAX_DEGREE, harmonics
from graticule.errors import SettingError
from graticule.geo.coords import fibonacci_lattice, uniform_places, unit_sphere

HARD = np.array([[12.3, 89.99], [-179.9999, 45.0], [100.0, -89.0], [33.3, 0.1], [-60.0, -60.0], [10.0, 90.0]])


def exact(lon, lat, degree, order):
    """Definition with 60 digits: Legendre functions by their three-term recurrence in the degree, then the norm."""
    mpmath.mp.dps = 60
    lon, lat, m = mpmath.radians(lon), mpmath.radians(lat), abs(order)
    before, value = mpmath.mpf(0), mpmath.fac2(2 * m - 1) * mpmath.cos(lat) ** m
    for k in range(m + 1, degree + 1):
        before, value = value, ((2 * k - 1) * mpmath.sin(lat) * value - (k + m - 1) * before) / (k - m)
    ratio = mpmath.factorial(degree - m) / mpmath.factorial(degree + m)
    value *= mpmath.sqrt((2 * degree + 1) / (4 * mpmath.pi) * ratio)
    if order == 0:
        return float(value)
    return float(mpmath.sqrt(2) * value * (mpmath.cos(m * lon) if order > 0 else mpmath.sin(m * lon)))


@pytest.mark.parametrize(("max_degree", "dtype", "bound"), [(40, "float32", 1e-4), (200, "float64", 1e-10)])
def test_values_are_those_of_the_definition(max_degree, dtype, bound):
    rng = np.random.default_rng(0)
    wanted = [(max_degree, m) for m in (-max_degree, -2, -1, 0, 1, 2, max_degree)] + [(max_degree - 1, 0)]
    wanted += [(int(n), int(rng.integers(-n, n + 1))) for n in rng.integers(0, max_degree + 1, 12)]
    columns = [n * n + n + m for n, m in wanted]
    got = harmonics(HARD, max_degree, dtype)[:, columns]
    expected = np.array([[exact(lon, lat, n, m) for n, m in wanted] for lon, lat in HARD])
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


def test_first_degrees_in_closed_form():
    x, y, z = unit_sphere(uniform_places(50)).T
    root = np.sqrt(3 / (4 * np.pi))
    expected = [np.full(50, np.sqrt(1 / (4 * np.pi))), root * y, root * z, root * x]
    expected += [np.sqrt(15 / np.pi) / 2 * x * y, np.sqrt(15 / np.pi) / 2 * y * z]
    expected += [np.sqrt(5 / np.pi) / 4 * (3 * z**2 - 1), np.sqrt(15 / np.pi) / 2 * x * z]
    expected += [np.sqrt(15 / np.pi) / 4 * (x**2 - y**2)]
    np.testing.assert_allclose(harmonics(uniform_places(50), 2, "float64"), np.stack(expected, 1), atol=1e-14)


def test_addition_theorem():
    a, b = uniform_places(40, seed=1), uniform_places(40, seed=2)
    products = harmonics(a, 120, "float64") * harmonics(b, 120, "float64")
    cosine = (unit_sphere(a) * unit_sphere(b)).sum(1)
    for degree in (0, 1, 7, 60, 120):
        legendre = np.polynomial.legendre.legval(cosine, np.eye(degree + 1)[degree])
        got = products[:, degree**2 : (degree + 1) ** 2].sum(1)
        np.testing.assert_allclose(got, (2 * degree + 1) / (4 * np.pi) * legendre, atol=1e-10)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-5), ("float64", 1e-12)])
def test_orthonormal_by_quadrature(dtype, bound):
    degree = 20
    sines, weights = np.polynomial.legendre.leggauss(degree + 1)
    lons = np.arange(2 * degree + 2) * 360 / (2 * degree + 2) - 180
    lon, sine = (grid.ravel() for grid in np.meshgrid(lons, sines))
    weight = np.repeat(weights, len(lons)) * 2 * np.pi / len(lons)
    columns = harmonics(np.stack([lon, np.degrees(np.arcsin(sine))], 1), degree, dtype).astype(np.float64)
    np.testing.assert_allclose(columns.T @ (weight[:, None] * columns), np.eye(len(columns[0])), atol=bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_with_the_right_length_everywhere_at_the_highest_degree(dtype):
    lattice = fibonacci_lattice(10_000)
    corners = np.array([[lon, lat] for lon in (-180.0, 0.0, 180.0) for lat in (-90.0, -89.999999, 90.0)])
    expected = (MAX_DEGREE + 1) ** 2 / (4 * np.pi)  # addition theorem for a point and itself
    for points in (*np.array_split(lattice, 10), corners):
        columns = harmonics(points, MAX_DEGREE, dtype)
        assert columns.dtype == dtype
        squares = np.einsum("ij,ij->i", columns, columns)
        assert np.isfinite(squares).all()
        np.testing.assert_allclose(squares, expected, rtol=1e-3 if dtype == "float32" else 1e-10)


@settings(deadline=None, max_examples=30)
@given(st.floats(-180, 180), st.floats(-90, 90), st.integers(0, 40))
def test_mirrored_latitude_flips_the_sign_of_odd_columns(lon, lat, degree):
    north, south = harmonics(np.array([[lon, lat], [lon, -lat]]), degree, "float64")
    n = np.repeat(np.arange(degree + 1), 2 * np.arange(degree + 1) + 1)
    order = np.arange(len(n)) - n * (n + 1)
    np.testing.assert_allclose(south, north * (-1.0) ** (n + order), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_is_numpy(dtype):
    points = uniform_places(700)  # more than one block at this degree
    got = harmonics(torch.from_numpy(points), 40, dtype)
    assert got.dtype == getattr(torch, dtype)
    np.testing.assert_allclose(got.numpy(), harmonics(points, 40, dtype), atol=1e-5 if dtype == "float32" else 1e-11)


def test_blocks_do_not_show():
    points = uniform_places(1000)
    whole = harmonics(points, 40)
    alone = np.concatenate([harmonics(points[i : i + 7], 40) for i in range(0, 1000, 7)])
    np.testing.assert_array_equal(whole, alone)
    assert harmonics(points[:0], 40).shape == (0, 1681)


def test_damping_divides_each_degree():
    points = uniform_places(20)
    plain, damped = harmonics(points, 6, "float64"), harmonics(points, 6, "float64", damping=1.5)
    for degree in range(7):
        columns = slice(degree**2, (degree + 1) ** 2)
        np.testing.assert_allclose(damped[:, columns] * (1 + degree) ** 1.5, plain[:, columns], atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1,), "from 0 to 200, got -1"), ((201,), "got 201"), ((3, "float16"), "got dtype 'float16'")],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        harmonics(HARD, *arguments)
