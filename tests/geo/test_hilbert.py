"""Keys along a Hilbert curve against its definition by recursion, and what they are for: small boxes."""

import numpy as np

from graticule.geo import hilbert
from graticule.geo.coords import lonlat, uniform_places
from graticule.geo.hilbert import KEYS, LEVELS, hilbert_keys


def curve(level):
    """Cells (x, y) of a square of 2^level a side in the order of the curve, by Hilbert's construction."""
    if level == 0:
        return [(0, 0)]
    half, side = curve(level - 1), 1 << (level - 1)
    first = [(y, x) for x, y in half]  # the quarter at the left below: axes exchanged
    second = [(x, y + side) for x, y in half]
    third = [(x + side, y + side) for x, y in half]
    last = [(2 * side - 1 - y, side - 1 - x) for x, y in half]  # at the right below: exchanged about the other diagonal
    return first + second + third + last


def centres(cells, level):
    x, y = (np.array(cells) + 0.5).T / (1 << level)
    return lonlat(lon=x * 360 - 180, lat=y * 180 - 90)


def test_order_of_the_cells_is_hilberts(monkeypatch):
    for level in range(1, 7):
        cells = curve(level)
        monkeypatch.setattr(hilbert, "LEVELS", level)
        np.testing.assert_array_equal(hilbert_keys(centres(cells, level)), np.arange(4**level))


def test_finer_keys_only_add_digits():
    coarse = np.array(curve(5))
    keys = hilbert_keys(centres(coarse, 5))
    np.testing.assert_array_equal(keys >> (2 * (LEVELS - 5)), np.arange(4**5))


def test_poles_seam_duplicates_and_no_rows():
    places = lonlat(lon=[-180, 180, -180, 179.9999999, 12, 12, 0], lat=[-90, -90, 90, 90, 48, 48, 90])
    keys = hilbert_keys(places)
    assert keys[0] == keys[1] == 0  # 180 E is 180 W
    assert keys[4] == keys[5]
    assert keys.min() >= 0
    assert keys.max() < KEYS
    assert hilbert_keys(lonlat(lon=[179.99999999], lat=[-90]))[0] == KEYS - 1
    assert hilbert_keys(lonlat(lon=[], lat=[])).shape == (0,)


def test_rows_in_a_run_of_the_order_are_close_together():
    places = uniform_places(4096, seed=3)
    ordered = places[np.argsort(hilbert_keys(places), kind="stable")]
    area = [np.prod(np.ptp(run, axis=0)) for run in np.split(ordered, 64)]
    assert np.median(area) < 3 * 360 * 180 / 64
