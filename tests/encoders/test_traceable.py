"""The forms for graphs are the others, to rounding."""

import numpy as np
import pytest
import torch

from graticule.encoders.harmonics import harmonics
from graticule.encoders.hashgrid import weighted_rows
from graticule.encoders.traceable import gathered_rows, harmonics_by_degree, nearest_of_all
from graticule.encoders.voronoi import _nearest
from graticule.geo.coords import uniform_places, unit_sphere

POLES = [(lon, lat) for lat in (-90.0, 90.0) for lon in (-180.0, 33.3)]
PLACES = np.concatenate([uniform_places(50, seed=3), POLES])


@pytest.mark.parametrize("degree", [0, 1, 2, 7, 40, 200])
@pytest.mark.parametrize("damping", [0.0, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_harmonics(degree, damping, dtype):
    """As near the truth as the ordinary form of that precision: at high degrees float32 has errors near the poles."""
    truth = harmonics(PLACES, degree, "float64", damping)
    ordinary = abs(harmonics(PLACES, degree, dtype, damping) - truth).max()
    got = harmonics_by_degree(torch.from_numpy(PLACES), degree, dtype, damping)
    assert got.dtype == getattr(torch, dtype)
    bound = 2 * ordinary + (1e-6 if dtype == "float32" else 1e-12) * abs(truth).max()
    np.testing.assert_allclose(got.numpy(), truth, rtol=0, atol=bound)
    none = harmonics_by_degree(torch.empty(0, 2, dtype=torch.float64), degree, dtype, damping)
    assert none.shape == (0, truth.shape[1])


def test_nearest_sites():
    xyz, sites = (torch.from_numpy(unit_sphere(uniform_places(n, seed=n))) for n in (40, 100))
    assert torch.equal(nearest_of_all(xyz, sites, 6), _nearest(xyz, sites, 6))


def test_weighted_rows():
    rng = np.random.default_rng(0)
    table = torch.from_numpy(rng.standard_normal((30, 3)))
    index, weight = torch.from_numpy(rng.integers(0, 30, (2, 7, 4))), torch.from_numpy(rng.random((2, 7, 4)))
    torch.testing.assert_close(gathered_rows(table, index, weight), weighted_rows(table, index, weight))
