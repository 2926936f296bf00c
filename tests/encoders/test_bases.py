"""Each basis against its formula written out point by point."""

import math

import numpy as np
import pyproj
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.encoders.bases import (
    BASES,
    EqualEarth,
    HashGrid,
    Space2Vec,
    Sphere2Vec,
    SphericalFourier,
    basis_options,
    build_basis,
)
from graticule.encoders.fourier import EQUAL_EARTH_SCALE, equal_earth, fourier, gaussian_frequencies
from graticule.encoders.harmonics import harmonics
from graticule.encoders.hashgrid import PRIMES, geometric_resolutions, hash_grid
from graticule.errors import SettingError
from graticule.geo.coords import uniform_places, unit_sphere

PLACES = uniform_places(60)


def naive_hash_grid(point, tables, resolutions, smooth):
    """Mueller 2022, section 3, one point, one level and one corner at a time."""
    _, entries, features = tables.shape
    out = []
    for level, cells in enumerate(resolutions):
        position = [(float(c) + 1) / 2 * cells for c in point]
        low = [min(math.floor(p), cells - 1) for p in position]
        share = [p - c for p, c in zip(position, low, strict=True)]
        share = [s * s * (3 - 2 * s) for s in share] if smooth else share
        total = np.zeros(features)
        for corner in range(8):
            side = [corner & 1, corner >> 1 & 1, corner >> 2 & 1]
            x, y, z = (c + s for c, s in zip(low, side, strict=True))
            if (cells + 1) ** 3 <= entries:
                row = x + (cells + 1) * (y + (cells + 1) * z)
            else:
                row = ((x * PRIMES[0]) ^ (y * PRIMES[1]) ^ (z * PRIMES[2])) % entries
            weight = math.prod(s if up else 1 - s for s, up in zip(share, side, strict=True))
            total += weight * tables[level, row]
        out.append(total)
    return np.concatenate(out)


@pytest.mark.parametrize("smooth", [False, True])
def test_hash_grid_is_the_loop(smooth):
    resolutions = (1, 4, 7, 19, 60)
    tables = np.random.default_rng(0).normal(size=(5, 512, 3))
    xyz = np.concatenate([unit_sphere(PLACES), np.eye(3), -np.eye(3), np.ones((1, 3))])
    expected = np.array([naive_hash_grid(point, tables, resolutions, smooth) for point in xyz])
    np.testing.assert_allclose(hash_grid(xyz, tables, resolutions, smooth), expected, atol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_hash_grid_of_equal_rows_is_constant_and_of_coordinates_linear(seed, smooth):
    xyz = np.random.default_rng(seed).uniform(-1, 1, (20, 3))
    np.testing.assert_allclose(hash_grid(xyz, np.full((2, 64, 2), 3.0), (3, 50), smooth), 3.0, atol=1e-12)
    corners = np.stack(np.meshgrid(*[np.linspace(-1, 1, 4)] * 3, indexing="ij"), -1).transpose(2, 1, 0, 3)
    if not smooth:
        np.testing.assert_allclose(hash_grid(xyz, corners.reshape(1, 64, 3), (3,)), xyz, atol=1e-12)


def test_hash_grid_gradient_is_that_of_the_sum_of_weighted_rows():
    tables = torch.randn(3, 32, 2, dtype=torch.float64, requires_grad=True)
    xyz = torch.from_numpy(unit_sphere(PLACES[:6]))
    assert torch.autograd.gradcheck(lambda t: hash_grid(xyz, t, (2, 5, 9)), tables)


def test_resolutions_run_from_coarsest_to_finest():
    steps = geometric_resolutions(12, 8, 400)
    assert (len(steps), steps[0], steps[-1]) == (12, 8, 400)
    ratios = np.array(steps[1:]) / np.array(steps[:-1])
    np.testing.assert_allclose(ratios, 50 ** (1 / 11), rtol=0.06)
    assert geometric_resolutions(1, 5, 9) == (5,)


def test_fourier_is_the_loop():
    frequencies = gaussian_frequencies(2, (1.0, 50.0), 3, seed=4)
    coordinates = np.random.default_rng(1).normal(size=(5, 2))
    for got, row in zip(fourier(coordinates, frequencies, "float64"), coordinates, strict=True):
        expected = []
        for scale in frequencies.astype(np.float64):
            angles = [2 * math.pi * (row[0] * scale[0, k] + row[1] * scale[1, k]) for k in range(3)]
            expected += [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        np.testing.assert_allclose(got, expected, atol=1e-10)


def test_frequencies_have_the_spread_of_their_scale():
    drawn = gaussian_frequencies(3, (2.0, 32.0), 4000, seed=0)
    np.testing.assert_allclose(drawn.std(axis=(1, 2)), [2, 32], rtol=0.03)
    assert not np.array_equal(drawn, gaussian_frequencies(3, (2.0, 32.0), 4000, seed=1))


def test_spherical_fourier_approaches_the_gaussian_kernel():
    """Rahimi and Recht 2007: the mean product of two rows tends to exp(-scale^2 |x - y|^2 / 2)."""
    scale, basis = 3.0, SphericalFourier(scales=(3.0,), frequencies_per_scale=20_000)
    rows, xyz = basis(PLACES[:12]), unit_sphere(PLACES[:12])
    distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1)
    np.testing.assert_allclose(rows @ rows.T / 20_000, np.exp(-((scale * distance) ** 2) / 2), atol=0.03)


def test_equal_earth_is_that_of_proj():
    proj = pyproj.Transformer.from_crs("+proj=longlat +R=1", "+proj=eqearth +R=1", always_xy=True)
    expected = np.stack(proj.transform(PLACES[:, 0], PLACES[:, 1]), 1)
    np.testing.assert_allclose(equal_earth(PLACES) / EQUAL_EARTH_SCALE, expected, atol=1e-8)
    np.testing.assert_allclose(equal_earth(np.array([[180.0, 0.0]])), [[1.0, 0.0]], atol=1e-6)


def test_geoclip_basis_has_three_blocks_of_512():
    basis = EqualEarth()
    frequencies = basis.arrays()["frequencies"]
    assert basis.dim == 3 * 512
    assert frequencies.shape == (3, 2, 256)
    np.testing.assert_allclose(frequencies.std(axis=(1, 2)), [1, 16, 256], rtol=0.1)


def test_space2vec_is_the_loop():
    basis = Space2Vec(radii=5, shortest_deg=0.5, longest_deg=300, dtype="float64")
    for got, (lon, lat) in zip(basis(PLACES[:9]), PLACES[:9], strict=True):
        radii = [0.5 * 600 ** (i / 4) for i in range(5)]
        expected = [f(v / r) for r in radii for f in (math.cos, math.sin) for v in (lon, lat)]
        np.testing.assert_allclose(got, expected, atol=1e-9)


def naive_sphere2vec(kind, lon, lat, radii):
    """Mai 2023, eq. 4-8, as sets of numbers of one point."""
    lon, lat = math.radians(lon), math.radians(lat)
    scaled = [(math.sin(lat / r), math.cos(lat / r), math.sin(lon / r), math.cos(lon / r)) for r in radii]
    found = []
    for sin_lat, cos_lat, sin_lon, cos_lon in scaled:
        if kind[0] == "c":
            found += [sin_lat, cos_lat * cos_lon, cos_lat * sin_lon]
        if kind[0] == "m":
            found += [sin_lat, cos_lat * math.cos(lon), math.cos(lat) * cos_lon]
            found += [cos_lat * math.sin(lon), math.cos(lat) * sin_lon]
        if kind.endswith("+"):
            found += [cos_lat, sin_lon, cos_lon]
        if kind == "dfs":
            found += [sin_lat, cos_lat, sin_lon, cos_lon]
            for _, _, other_sin, other_cos in scaled:
                found += [cos_lat * other_cos, cos_lat * other_sin, sin_lat * other_cos, sin_lat * other_sin]
    return found


@pytest.mark.parametrize("kind", ["c", "c+", "m", "m+", "dfs"])
def test_sphere2vec_is_the_loop(kind):
    basis = Sphere2Vec(kind=kind, radii=4, smallest=0.01, dtype="float64")
    radii = [0.01 ** (i / 3) for i in range(4)]
    found = basis(PLACES[:9])
    assert found.shape == (9, basis.dim)
    torch.testing.assert_close(basis(torch.from_numpy(PLACES[:9])), torch.from_numpy(found))
    for row, (lon, lat) in zip(found, PLACES[:9], strict=True):
        np.testing.assert_allclose(np.sort(row), np.sort(naive_sphere2vec(kind, lon, lat, radii)), atol=1e-12)


@pytest.mark.parametrize("wrong", [{"kind": "n"}, {"radii": 0}, {"smallest": 0}, {"smallest": 2}])
def test_sphere2vec_refuses_what_it_cannot_be(wrong):
    with pytest.raises(SettingError, match=r"kind|radii"):
        Sphere2Vec(**wrong)


def test_small_bases_in_closed_form():
    lon, lat = np.radians(PLACES).T
    wrapped = np.stack([np.sin(lon), np.sin(lat), np.cos(lon), np.cos(lat)], 1)
    np.testing.assert_allclose(build_basis("wrap", dtype="float64")(PLACES), wrapped, atol=1e-15)
    np.testing.assert_allclose(build_basis("cartesian", dtype="float64")(PLACES), unit_sphere(PLACES), atol=1e-15)


def test_joined_bases_stand_side_by_side():
    both = build_basis("harmonics+hash-grid+cartesian", max_degree=4, levels=3, finest=20, seed=5)
    grid = HashGrid(levels=3, finest=20, seed=5)
    assert both.learned == ("1_tables",)
    assert list(both.arrays()) == ["1_tables"]
    expected = np.concatenate([harmonics(PLACES, 4), grid(PLACES), unit_sphere(PLACES)], 1)
    np.testing.assert_allclose(both(PLACES), expected, atol=1e-6)
    trained = {"1_tables": 2 * grid.arrays()["tables"]}
    np.testing.assert_allclose(both(PLACES, trained)[:, 25:37], 2 * grid(PLACES), rtol=1e-5)


def test_an_option_name_means_one_thing():
    """Joined bases share one flat list of options, so two bases may share a name only with the same default."""
    seen = {}
    for name in BASES:
        for option, default in basis_options(name).items():
            assert seen.setdefault(option, default) == default, option


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_basis("harmonic"), "Did you mean 'harmonics'"),
        (lambda: build_basis("harmonics+hashgrid"), "Did you mean 'hash-grid'"),
        (lambda: build_basis("harmonics", max_degre=3), "Did you mean 'max_degree'"),
        (lambda: build_basis("harmonics", max_degree=300), "from 0 to 200, got 300"),
        (lambda: build_basis("wrap", dtype="half"), "got dtype 'half'"),
        (lambda: build_basis("hash-grid", coarsest=9, finest=3), "coarsest=9, finest=3"),
        (lambda: build_basis("hash-grid", log2_entries=40), "got 40"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()
