"""Slepian functions against the closed form of a polar cap, the Shannon number and their two orthogonalities."""

import math

import numpy as np
import pytest

from graticule.encoders.harmonics import harmonics
from graticule.encoders.slepian import Slepian, concentrated
from graticule.errors import SettingError
from graticule.geo.coarse_land import mostly_land
from graticule.geo.coords import fibonacci_lattice, uniform_places

DEGREE, RADIUS_DEG = 12, 40.0
COSINE = math.cos(math.radians(RADIUS_DEG))


@pytest.fixture(scope="module")
def cap():
    return concentrated(DEGREE, lambda points: points[:, 1] > 90 - RADIUS_DEG)


def cap_functions(order):
    """Closed form for one order: shares and coefficients of degrees `order` to DEGREE of a cap around the north pole.

    Eigenvectors of the tridiagonal matrix of Gruenbaum 1982, which commutes with the kernel of the cap (Simons 2006,
    section 5); the kernel itself by Gauss-Legendre nodes from the edge of the cap to the pole, exact for polynomials.
    """
    degrees = np.arange(order, DEGREE + 1)
    l = degrees[:-1]  # noqa: E741
    beside = l * (l + 2) - DEGREE * (DEGREE + 2)
    beside = beside * np.sqrt(((l + 1) ** 2 - order**2) / ((2 * l + 1) * (2 * l + 3)))
    commuting = np.diag(-degrees * (degrees + 1) * COSINE) + np.diag(beside, 1) + np.diag(beside, -1)
    nodes, weights = np.polynomial.legendre.leggauss(DEGREE + 1)
    sines, weights = 1 + (1 - COSINE) * (nodes - 1) / 2, weights * (1 - COSINE) / 2
    at_nodes = np.stack([np.zeros(len(sines)), np.degrees(np.arcsin(sines))], 1)
    columns = harmonics(at_nodes, DEGREE, "float64")[:, degrees**2 + degrees + order]
    kernel = columns.T @ (weights[:, None] * columns) * (math.pi if order else 2 * math.pi)
    np.testing.assert_allclose(commuting @ kernel, kernel @ commuting, atol=1e-11)
    functions = np.linalg.eigh(commuting)[1]
    return np.einsum("if,ij,jf->f", functions, kernel, functions), functions


def test_shares_are_those_of_the_closed_form(cap):
    exact = np.concatenate([cap_functions(abs(m))[0] for m in range(-DEGREE, DEGREE + 1)])
    np.testing.assert_allclose(cap[0], np.sort(exact)[::-1], atol=0.01)


def test_functions_are_those_of_the_closed_form(cap):
    shares, functions = cap
    for order in range(DEGREE + 1):
        exact, inner = cap_functions(order)
        for sign in {1, -1} if order else {1}:
            degrees = np.arange(order, DEGREE + 1)
            full = np.zeros((len(shares), len(exact)))
            full[degrees**2 + degrees + sign * order] = inner
            for share, function in zip(exact, full.T, strict=True):
                alike = abs(shares - share) < 0.05
                assert np.square(function @ functions[:, alike]).sum() > 0.98


def test_shares_sum_to_the_shannon_number(cap):
    shares, _ = cap
    shannon = (DEGREE + 1) ** 2 * (1 - COSINE) / 2
    assert shares.sum() == pytest.approx(shannon, rel=0.005)
    assert abs((shares > 0.5).sum() - shannon) < 2


def test_the_whole_sphere_keeps_all_and_nothing_keeps_nothing():
    shares, _ = concentrated(6, lambda points: np.ones(len(points), bool))
    np.testing.assert_allclose(shares, 1, atol=0.01)
    np.testing.assert_allclose(concentrated(6, lambda points: np.zeros(len(points), bool))[0], 0)


def test_no_function_of_the_degree_is_more_concentrated(cap):
    lattice = fibonacci_lattice(20_000)
    rows = harmonics(lattice, DEGREE, "float64") @ np.random.default_rng(0).normal(size=((DEGREE + 1) ** 2, 50))
    squares = rows**2
    inside = squares[lattice[:, 1] > 90 - RADIUS_DEG].sum(0) / squares.sum(0)
    assert inside.max() < cap[0][0]


def test_functions_are_orthonormal_on_the_sphere_and_orthogonal_on_land():
    basis, lattice = Slepian(bandlimit=12, functions=48, dtype="float64"), fibonacci_lattice(30_000)
    rows, land = basis(lattice), mostly_land(lattice)
    on_all, on_land = (4 * np.pi / len(lattice) * part.T @ part for part in (rows, rows[land]))
    np.testing.assert_allclose(on_all, np.eye(48), atol=0.01)
    shares = np.diag(on_land)
    np.testing.assert_allclose(on_land, np.diag(shares), atol=0.03)
    assert shares[:24].min() > 0.8
    assert shares[0] > 0.99
    assert (rows[land] ** 2).mean() > 5 * (rows[~land] ** 2).mean()


def test_the_basis_is_the_sum_over_harmonics():
    basis, places = Slepian(bandlimit=3, functions=5, dtype="float64"), uniform_places(4)
    coefficients, columns = basis.arrays()["coefficients"], harmonics(places, 3, "float64")
    expected = [[sum(c * y for c, y in zip(coefficients[:, f], row, strict=True)) for f in range(5)] for row in columns]
    np.testing.assert_allclose(basis(places), expected, atol=1e-12)


def test_a_trained_encoder_brings_its_own_coefficients():
    basis, places = Slepian(bandlimit=3, functions=5), uniform_places(4)
    turned = {"coefficients": -basis.arrays()["coefficients"]}
    np.testing.assert_array_equal(basis(places, turned), -basis(places))
    basis.arrays()["coefficients"][:] = 0  # a copy
    assert basis(places).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"bandlimit": -1}, "got -1"), ({"bandlimit": 61}, "0 to 60, got 61"), ({"bandlimit": 3}, "16 functions.*=480")],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(SettingError, match=message):
        Slepian(**options)
