import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.errors import SettingError
from graticule.geo.coords import EARTH_RADIUS_KM, great_circle_km, unit_sphere
from graticule.learners.places import PlaceQueue, RandomPlaces, RingPlaces, displaced


def numbered(start, n):
    """Places that carry their number."""
    numbers = torch.arange(start, start + n, dtype=torch.float64)
    return torch.stack([numbers, -numbers], dim=-1)


def test_queue_starts_empty():
    queue = PlaceQueue(8)
    assert queue(numbered(0, 3)).shape == (0, 2)
    queue.remember(numbered(0, 3))
    assert sorted(queue(numbered(3, 3))[:, 0].tolist()) == [0, 1, 2]


@given(size=st.integers(1, 12), batches=st.lists(st.integers(1, 15), max_size=8))
@settings(deadline=None, max_examples=60)
def test_queue_keeps_the_newest_batches(size, batches):
    """What is held is whole, distinct, as much as fits, and never older than what has fallen out."""
    queue, batch_of, start = PlaceQueue(size), {}, 0
    for number, n in enumerate(batches):
        queue.remember(numbered(start, n))
        batch_of |= {float(i): number for i in range(start, start + n)}
        start += n
        held = queue(numbered(0, 1))
        assert torch.equal(held[:, 1], -held[:, 0])
        names = set(held[:, 0].tolist())
        assert len(names) == len(held) == min(size, start)
        oldest_held = min(batch_of[name] for name in names)
        assert all(batch_of[name] <= oldest_held for name in set(batch_of) - names)


def test_queue_is_part_of_the_state():
    queue, again = PlaceQueue(5), PlaceQueue(5)
    queue.remember(numbered(0, 3))
    again.load_state_dict(queue.state_dict())
    assert torch.equal(again(numbered(0, 1)), queue(numbered(0, 1)))


def test_queue_needs_the_places_it_holds_no_longer():
    queue, batch = PlaceQueue(4), numbered(0, 2)
    queue.remember(batch)
    batch.zero_()
    assert sorted(queue(batch)[:, 0].tolist()) == [0, 1]


def test_random_places_are_uniform_by_area():
    """The sine of the latitude and the longitude are uniform: Kolmogorov-Smirnov distance below the 0.1 % level."""
    torch.manual_seed(0)
    n = 20_000
    places = RandomPlaces(n)(torch.zeros(1, 2, dtype=torch.float64)).numpy()
    assert places.shape == (n, 2)
    assert places.dtype == np.float64
    even = (np.arange(n) + 0.5) / n
    for values in ((np.sin(np.radians(places[:, 1])) + 1) / 2, (places[:, 0] + 180) / 360):
        assert np.abs(np.sort(values) - even).max() < 1.95 / np.sqrt(n)
    octant = (unit_sphere(places) > 0) @ [1, 2, 4]
    assert np.abs(np.bincount(octant, minlength=8) / n - 1 / 8).max() < 0.01
    assert np.linalg.norm(unit_sphere(places).mean(axis=0)) < 0.03


def test_random_places_are_new_every_time_and_follow_the_seed():
    places, seen = RandomPlaces(10), torch.zeros(1, 2, dtype=torch.float64)
    torch.manual_seed(1)
    first, second = places(seen), places(seen)
    places.remember(seen)
    torch.manual_seed(1)
    assert not torch.equal(first, second)
    assert torch.equal(first, places(seen))


@pytest.mark.parametrize("centre", [[10.0, 50.0], [-180.0, 0.0], [77.0, 90.0], [0.0, -90.0]])
@pytest.mark.parametrize(("low_km", "high_km"), [(0, 5), (100, 200), (4000, 9000)])
def test_displaced_places_are_uniform_by_area_of_the_ring(centre, low_km, high_km):
    """Kolmogorov-Smirnov at the 0.1 % level: the area of the cap below a place, 1 - cos(d / R), and the bearing."""
    torch.manual_seed(0)
    n = 5000
    moved = displaced(torch.tensor([centre], dtype=torch.float64).expand(n, 2), low_km, high_km).numpy()
    km = great_circle_km(np.array([centre]), moved)
    assert km.min() >= low_km - 1e-6
    assert km.max() <= high_km + 1e-6
    caps = [math.sin(edge / EARTH_RADIUS_KM / 2) ** 2 for edge in (low_km, high_km)]
    share = (np.sin(km / EARTH_RADIUS_KM / 2) ** 2 - caps[0]) / (caps[1] - caps[0])
    even = (np.arange(n) + 0.5) / n
    assert np.abs(np.sort(share) - even).max() < 1.95 / np.sqrt(n)
    xyz, here = unit_sphere(moved), unit_sphere(np.array(centre))
    across = np.linalg.qr(np.concatenate([here[:, None], np.eye(3)], axis=1))[0][:, 1:3]
    bearing = np.sort(np.arctan2(*(xyz @ across).T) / (2 * np.pi) + 0.5)
    assert np.abs(bearing - even).max() < 1.95 / np.sqrt(n)


def test_places_in_rings_lie_around_rows():
    torch.manual_seed(0)
    seen = torch.tensor([[0.0, 0.0], [179.9, 0.0], [0.0, 90.0]], dtype=torch.float64)
    rings = RingPlaces(300, 50.0)
    found = rings(seen)
    assert found.shape == (300, 2)
    assert found.dtype == torch.float64
    nearest, row = great_circle_km(found[:, None], seen[None]).min(dim=1)
    assert nearest.min() >= 50 - 1e-6
    assert nearest.max() <= 100 + 1e-6
    assert (row.bincount() > 60).all()
    torch.manual_seed(0)
    rings.remember(seen)
    assert torch.equal(rings(seen), found)
    with pytest.raises(SettingError, match="above 0 km, got 0"):
        RingPlaces(3, 0.0)


@pytest.mark.parametrize("kind", [RandomPlaces, PlaceQueue, lambda count: RingPlaces(count, 9.0)])
@pytest.mark.parametrize("count", [0, -3])
def test_impossible_counts(kind, count):
    with pytest.raises(SettingError, match=f"at least 1, got {count}"):
        kind(count)
