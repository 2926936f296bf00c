"""The profile of an embedding whose answers are known."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from graticule.errors import DataError
from graticule.evaluation.information.profile import _displaced, profile
from graticule.evaluation.information.scale import resolution_km
from graticule.geo.coords import EARTH_RADIUS_KM, great_circle_km, lonlat, uniform_places, unit_sphere


def test_the_profile_of_the_unit_sphere():
    found = profile(unit_sphere, uniform_places(3000), max_degree=10)
    told = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert told["places"] == 3000
    assert told["components"] == 3
    assert told["twonn"]["value"] == pytest.approx(2, rel=0.1)
    assert told["mle"]["value"] == pytest.approx(2, rel=0.05)
    assert told["effective_rank"] == pytest.approx(3, rel=0.01)
    assert told["participation_ratio"] == pytest.approx(3, rel=0.01)
    np.testing.assert_allclose(told["eigenvalues"], 1 / 3, atol=0.02)
    np.testing.assert_allclose(told["degree_fractions"], [1] + [0] * 9, atol=1e-9)
    assert told["half_power_degree"] == 1
    assert told["half_power_km"] == resolution_km(1)
    assert told["half_sill_km"] == pytest.approx(np.pi / 3 * EARTH_RADIUS_KM, rel=0.04)
    assert told["alignment"] == pytest.approx((50 / EARTH_RADIUS_KM) ** 2 / 2, rel=0.05)  # mean square: half
    assert len(told["variogram_km"]) == len(told["variogram_gamma"]) == len(told["variogram_pairs"])


def test_displaced_places_lie_within_the_radius_everywhere():
    points = np.repeat(lonlat(lon=[0, 50, 180, 7], lat=[90, -90, 0, 45]), 500, axis=0)
    away = great_circle_km(points, _displaced(points, 50.0, 0))
    assert away.max() <= 50.001
    assert np.mean(away**2) == pytest.approx(50**2 / 2, rel=0.05)


def test_a_collapsed_embedding_is_refused():
    with pytest.raises(DataError, match="different vectors, got 1"):
        profile(lambda points: np.ones((len(points), 3)), uniform_places(50), max_degree=3)
