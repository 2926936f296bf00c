"""The fast paths against the encoder itself, and against one place at a time."""

import numpy as np
import pytest
import torch

from graticule.encoders import fast
from graticule.encoders.fast import embed, embed_grid
from graticule.encoders.folded import fold
from graticule.encoders.location import location_encoder
from graticule.errors import SettingError
from graticule.geo.coords import lonlat, uniform_places
from graticule.geo.grid import Axes, grid_points

SMALL = {"width": 24, "depth": 2, "dim": 12}
HASH = {"levels": 4, "finest": 60, "log2_entries": 9, "init_scale": 1.0}
FOLDED = {
    "mlp": {"body": "mlp", "max_degree": 9},
    "linear": {"body": "linear", "max_degree": 6, "width": None, "depth": None},
    "residual": {"max_degree": 40, "damping": 1.0},
    "siren": {"body": "siren", "max_degree": 9},
    "residual siren": {"body": "residual-siren", "max_degree": 7},
    "constant": {"body": "mlp", "max_degree": 0},
    "low frequencies": {"name": "graticule", "max_degree": 12, "low_frequency": 5},
    "low frequencies beyond the degree": {"max_degree": 4, "low_frequency": 8},
    "joined": {"name": "harmonics+hash-grid", "max_degree": 10, **HASH},
    "joined behind others": {"name": "cartesian+hash-grid+harmonics", "max_degree": 5, "low_frequency": 3, **HASH},
    "twice": {"name": "harmonics+harmonics", "max_degree": 3},
}
OTHERS = {
    "no harmonics": {"name": "spherical-fourier", "frequencies_per_scale": 8, "low_frequency": 3},
    "capsules": {"name": "equal-earth", "frequencies_per_sigma": 8, "body": "capsules"},
    "double": {"max_degree": 6, "dtype": "float64"},
}
CASES = FOLDED | OTHERS
HARD = [(lon, lat) for lat in (-90.0, -89.999, 0.0, 66.6, 90.0) for lon in (-180.0, 0.0, np.nextafter(180, 0), 180.0)]
PLACES = np.concatenate([uniform_places(700), HARD, uniform_places(3), uniform_places(3)])
LON = np.concatenate([[-180.0, -180.0, 180.0], np.linspace(-179, 179, 37)])  # with duplicates and both ends
LAT = np.array([90.0, 90.0, 89.9999, 33.3, 0.0, -1e-9, -66.6, -90.0])


def made(name):
    encoder = location_encoder(**{"name": "harmonics"} | {k: v for k, v in (SMALL | CASES[name]).items() if v})
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)  # also biases that begin at 0
    return encoder.eval()


@pytest.fixture(params=sorted(CASES))
def encoder(request):
    return made(request.param)


def itself(encoder, points):
    with torch.inference_mode():
        return encoder(torch.from_numpy(points)).numpy()


def one_by_one(encoder, points):
    return np.concatenate([itself(encoder, points[i : i + 1]) for i in range(len(points))])


def close(got, expected):
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max(initial=0)))


def alike(rounded, exact):
    lengths = np.linalg.norm(rounded, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((rounded * exact).sum(1) / lengths).min() > 0.9995  # narrow networks round worse than real ones


@pytest.mark.parametrize("name", CASES)
def test_what_is_folded(name):
    for dtype in (torch.float32, torch.bfloat16):
        assert (fold(made(name), dtype) is not None) == (name in FOLDED)


def test_scattered_places(encoder):
    close(embed(encoder, PLACES), itself(encoder, PLACES))
    alike(embed(encoder, PLACES, precision="bfloat16"), itself(encoder, PLACES))


@pytest.mark.parametrize("name", sorted(FOLDED))
def test_every_place_is_what_it_is_alone(name):
    encoder, points = made(name), PLACES[600:900]
    close(embed(encoder, points), one_by_one(encoder, points))
    grid = grid_points(Axes(LON, LAT))
    close(embed(encoder, grid), one_by_one(encoder, grid))


def test_a_grid(encoder):
    points = grid_points(Axes(LON, LAT))
    close(embed(encoder, points), itself(encoder, points))
    alike(embed(encoder, points, precision="bfloat16"), itself(encoder, points))
    shuffled = np.random.default_rng(0).permutation(len(points))
    close(embed(encoder, points[shuffled]), embed(encoder, points)[shuffled])


def test_a_grid_in_bands(encoder, monkeypatch):
    monkeypatch.setattr(fast, "HIGHEST", 3)
    axes = Axes(LON, LAT)
    bands = list(embed_grid(encoder, axes))
    assert [len(band) for band in bands] == [3, 3, 2]
    close(np.concatenate(bands).reshape(-1, encoder.dim), itself(encoder, grid_points(axes)))


@pytest.mark.parametrize("columns", [1, 5, 31, 32, 1024, 1025, 2500])
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_grids_of_any_shape(columns, rows):
    encoder = made("joined")
    axes = Axes(np.linspace(-180, 180, columns), np.array([90.0, 12.0])[:rows])
    points = grid_points(axes)
    expected = itself(encoder, points)
    close(embed(encoder, points), expected)
    bands = list(embed_grid(encoder, axes))
    assert sum(map(len, bands)) == rows
    for band, wanted in zip(bands, expected.reshape(1, -1, columns, encoder.dim) if rows else [], strict=True):
        close(band, wanted)


def test_a_grid_at_the_highest_degree():
    encoder = made("mlp")
    encoder = location_encoder("harmonics", body="mlp", max_degree=200, damping=1.0, **SMALL).eval()
    points = grid_points(Axes(LON, LAT))
    close(embed(encoder, points), itself(encoder, points))


@pytest.mark.parametrize("spoil", [(100, 0), (100, 1), (0, 0), (0, 1), (-1, 0), (-1, 1)])
def test_not_quite_a_grid(spoil):
    encoder, points = made("residual"), grid_points(Axes(LON, LAT))
    points[spoil] = 0.5
    close(embed(encoder, points), itself(encoder, points))
    close(embed(encoder, points[:-1]), itself(encoder, points[:-1]))


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 511, 512, 1023, 1024, 1025, 3000])
def test_blocks_do_not_show(count):
    encoder, points = made("low frequencies"), uniform_places(count, seed=1)
    got = embed(encoder, points)
    assert got.shape == (count, encoder.dim)
    close(got, itself(encoder, points) if count else got)


@pytest.mark.parametrize("precision", fast.PRECISIONS)
@pytest.mark.parametrize("points", [uniform_places(3000), grid_points(Axes(LON, LAT))], ids=["scattered", "grid"])
def test_threads_do_not_show(precision, points):
    encoder, before = made("joined"), torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(embed(encoder, points, precision=precision))
    torch.set_num_threads(before)
    if precision == "float32":
        np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-5)
    else:
        alike(*found)


def test_the_first_numbers_alone(encoder):
    close(embed(encoder, PLACES, dim=5), itself(encoder, PLACES)[:, :5])
    grid = Axes(LON, LAT)
    close(embed(encoder, grid_points(grid), dim=5), itself(encoder, grid_points(grid))[:, :5])
    assert next(embed_grid(encoder, grid, dim=5)).shape[1:] == (len(LON), 5)


def test_nothing_of_the_encoder_or_the_places_is_changed(encoder):
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    points = PLACES.copy()
    points.setflags(write=False)
    for precision in fast.PRECISIONS:
        embed(encoder, points, precision=precision)
    for name, tensor in encoder.state_dict().items():
        assert tensor.dtype == before[name].dtype, name
        assert torch.equal(tensor, before[name]), name


def test_new_weights_are_seen():
    encoder = made("residual")
    first = embed(encoder, PLACES)
    with torch.no_grad():
        encoder.body[0].weight.mul_(2)
    assert np.abs(embed(encoder, PLACES) - first).max() > 1e-2
    close(embed(encoder, PLACES), itself(encoder, PLACES))


def test_unknown_precision():
    with pytest.raises(SettingError, match="Did you mean 'bfloat16'"):
        embed(made("mlp"), lonlat(lon=[1], lat=[2]), precision="bfloat")
    with pytest.raises(SettingError, match="precision"):
        embed_grid(made("mlp"), Axes(LON, LAT), precision="half")
