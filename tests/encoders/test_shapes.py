import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.encoders.shape_edges import edges
from graticule.encoders.shapes import (
    CHUNK,
    MAP_DIRECTIONS,
    MAP_LONGEST_KM,
    MAP_OCTAVES,
    MEASURES,
    OWN_LOWEST,
    OWN_OCTAVES,
    POSITION_DIM,
    SHAPE_DIM,
    fourier,
    looks,
    place,
    shapes,
)
from graticule.errors import DataError
from graticule.geo.coords import EARTH_RADIUS_KM, offset_km
from graticule.geo.measure import area_km2

shapely = pytest.importorskip("shapely")

CENTRE = np.array([[11.5, 48.1]])
MAP = slice(MEASURES + 4 * OWN_OCTAVES, SHAPE_DIM)


def lay(geometry, centre=CENTRE):
    """A geometry in km east and north of a place -> the same in degrees."""
    return shapely.transform(geometry, lambda xy: np.concatenate([offset_km(centre, *p)[0] for p in xy[:, :, None]]))


def of(*geometries, centre=CENTRE, laid=True):
    rows = np.array([lay(g, centre) if laid else g for g in geometries], dtype=object)
    return edges(rows, np.repeat(centre, len(rows), axis=0))


def everything(*geometries, centre=CENTRE, laid=True):
    shape = of(*geometries, centre=centre, laid=laid)
    return np.concatenate([looks(shape), place(shape, np.full(len(geometries), 0.6))], axis=1)


def star(seed, corners=9, radius=0.05, at=(0.1, -0.05)):
    """A polygon whose boundary goes once round, with a hole."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners)) + np.linspace(0, 0.01, corners)
    away = radius * rng.uniform(0.4, 1, corners)
    shell = np.stack([away * np.cos(angle), away * np.sin(angle)], axis=-1)
    polygon = shapely.polygons(shell + at)
    return shapely.difference(polygon, shapely.buffer(shapely.Point(at), 0.08 * radius, quad_segs=3))


def box(width, height, at=(0.0, 0.0)):
    return shapely.box(at[0] - width / 2, at[1] - height / 2, at[0] + width / 2, at[1] + height / 2)


def quadrature(geometry, k):
    """The transform by Gauss-Legendre nodes in every triangle or segment: an oracle that shares no formula."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    nodes, weights = (nodes + 1) / 2, weights / 2
    total, mass, first = 0.0, 0.0, np.zeros(2)
    points, masses = [], []
    if shapely.get_dimensions(geometry) == 2:
        for triangle in shapely.get_parts(shapely.constrained_delaunay_triangles(geometry)):
            a, b, c = shapely.get_coordinates(triangle)[:3]
            u, v = np.meshgrid(nodes, nodes)
            w = np.outer(weights, weights) * u * 2 * shapely.area(triangle)
            points.append((a + (u[..., None] * (b - a)) + (u * v)[..., None] * (c - b)).reshape(-1, 2))
            masses.append(w.reshape(-1))
    else:
        for line in shapely.get_parts(geometry):
            xy = shapely.get_coordinates(line)
            for a, b in itertools.pairwise(xy):
                points.append(a + nodes[:, None] * (b - a))
                masses.append(weights * np.hypot(*(b - a)))
    points, masses = np.concatenate(points), np.concatenate(masses)
    mass = masses.sum()
    first = (points * masses[:, None]).sum(axis=0) / mass
    total = (masses * np.exp(-1j * (points - first) @ k)).sum()
    return total / mass


LINE = shapely.LineString([(0, 0), (0.03, 0.01), (0.05, -0.02), (0.05, -0.09)])
LINES = shapely.MultiLineString([[(0, 0), (0.1, 0.02)], [(0.02, 0.03), (0.05, -0.02), (0.07, 0)]])
TWO = shapely.MultiPolygon([star(3), star(4, at=(-0.2, 0.1))])


@pytest.mark.parametrize("geometry", [star(0), star(1, 30), star(2, 5), TWO, LINE, LINES], ids=str)
def test_transform_is_the_integral(geometry):
    shape = of(geometry)
    wavenumber, directions, factors = np.array([9.0]), 6, [1, 2, 4, 16]
    real, imaginary = fourier(shape, wavenumber, directions, factors)
    angles = np.pi * np.arange(directions) / directions
    for i, factor in enumerate(factors):
        for j, angle in enumerate(angles):
            expected = quadrature(geometry, 9 * factor * np.array([np.cos(angle), np.sin(angle)]))
            assert real[i, 0, j] + 1j * imaginary[i, 0, j] == pytest.approx(expected, abs=1e-7)


def test_rectangle_is_a_product_of_sincs():
    shape = of(box(0.04, 0.1, (0.2, 0.1)))
    real, imaginary = fourier(shape, np.array([20.0]), 4, [1, 2, 4])
    for i, factor in enumerate([1, 2, 4]):
        for j, angle in enumerate(np.pi * np.arange(4) / 4):
            x, y = 20 * factor * np.cos(angle) * 0.02, 20 * factor * np.sin(angle) * 0.05
            assert real[i, 0, j] == pytest.approx(np.sinc(x / np.pi) * np.sinc(y / np.pi), abs=1e-8)
    assert np.abs(imaginary).max() < 1e-8


def test_disc_is_a_bessel_function():
    special = pytest.importorskip("scipy.special")
    shape = of(shapely.buffer(shapely.Point(0, 0), 0.05, quad_segs=256))
    real, _ = fourier(shape, np.array([10.0]), 3, [1, 4, 16])
    x = 10 * 0.05 * np.array([1, 4, 16])
    np.testing.assert_allclose(real[:, 0], np.repeat((2 * special.j1(x) / x)[:, None], 3, axis=1), atol=2e-5)


def test_short_edges_against_many_digits():
    """Phases along an edge around the switch to the series, and far below it."""
    mpmath = pytest.importorskip("mpmath")
    for length in (1e-9, 1e-6, 0.99e-4, 1.01e-4, 1e-3):
        line = shapely.LineString([(0, 0), (length, 0), (length, 0.1)])
        shape = of(line)
        real, imaginary = fourier(shape, np.array([1.0]), 1, [1, 64])
        with mpmath.workdps(40):
            for i, k in enumerate((1, 64)):
                total = mpmath.mpf(length) + mpmath.mpf("0.1")
                x = (mpmath.mpf(length) ** 2 / 2 + mpmath.mpf(length) * mpmath.mpf("0.1")) / total
                mean = (1 - mpmath.expj(-k * mpmath.mpf(length))) / (1j * k)
                value = (mean + mpmath.expj(-k * mpmath.mpf(length)) * mpmath.mpf("0.1")) / total * mpmath.expj(k * x)
                assert complex(real[i, 0, 0], imaginary[i, 0, 0]) == pytest.approx(complex(value), abs=2e-8)


def test_points_are_sums_of_unit_masses():
    places = np.array([[0.0, 0.0], [0.1, 0.02], [0.03, -0.2]])
    real, imaginary = fourier(of(shapely.MultiPoint(places)), np.array([15.0]), 5, [1, 2])
    angles = np.pi * np.arange(5) / 5
    for i, factor in enumerate((1, 2)):
        k = 15 * factor * np.stack([np.cos(angles), np.sin(angles)])
        expected = np.exp(-1j * (places - places.mean(axis=0)) @ k).mean(axis=0)
        np.testing.assert_allclose(real[i, 0] + 1j * imaginary[i, 0], expected, atol=1e-7)


def test_measures_of_known_shapes():
    rows = looks(
        of(
            shapely.Point(0.1, 0.2),
            shapely.LineString([(0, 0), (0.1, 0)]),
            box(0.1, 0.1),
            shapely.difference(box(0.2, 0.1), box(0.02, 0.02)),
            shapely.MultiPoint([(0, 0), (0.1, 0)]),
            shapely.LineString([(0, 0), (0.1, 0), (0.1, 0.1)]),
        )
    )
    np.testing.assert_array_equal(rows[:, :3], np.eye(3)[[0, 1, 2, 2, 0, 1]])
    np.testing.assert_allclose(rows[:, 3], [0, 0, 0, 0, 1, 0])
    np.testing.assert_allclose(rows[:, 4], [0, 0, 0, 0, np.log(2), 0])
    np.testing.assert_allclose(rows[:, 5], [0, 0, 0, np.log(2), 0, 0])
    area = np.array([0, 0, 1e4, 2e4 - 400, 0, 0])
    np.testing.assert_allclose(rows[:, 6], np.log10(1 + area) / 4, atol=1e-6)
    length = np.array([0, 100, 400, 680, 0, 200])
    np.testing.assert_allclose(rows[:, 7], np.log10(1 + length) / 2, atol=1e-6)
    np.testing.assert_allclose(rows[[1, 2], 8], np.log10(101) / 2, atol=1e-6)  # sides of segment and square
    np.testing.assert_allclose(rows[[1, 2], 9], [0, np.log10(101) / 2], atol=1e-4)
    np.testing.assert_allclose(rows[:4, 10], [0, 0, np.pi / 4, 4 * np.pi * 19600 / 680**2], atol=1e-6)
    np.testing.assert_allclose(rows[:, 11], [1, 1, 1, (600 + 0) / 680, 1, (200 + 100 * 2**0.5) / 400], atol=1e-6)
    np.testing.assert_allclose(rows[:3, 12], [0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(rows[0, MEASURES + OWN_OCTAVES : MAP.start], 0, atol=1e-15)
    assert (rows[0, MEASURES : MEASURES + OWN_OCTAVES] == 1).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=7), st.booleans())
def test_length_around_hulls(corners, closed):
    """Of few corners it is known without a hull; spikes, repeated corners and straight lines among them."""
    xy = 0.01 * np.array([*corners, corners[0], corners[0]] if closed else corners)
    shape = shapely.Polygon(xy) if closed else shapely.LineString(xy)
    hull = shape.convex_hull
    assert of(shape).hull[0] == pytest.approx(hull.length * (1 if hull.geom_type == "Polygon" else 2), abs=1e-6)


def test_position_of_known_shapes():
    tilted = shapely.affinity.rotate(box(0.1, 0.02, (0.15, -0.3)), 30)
    rows = place(of(shapely.Point(0.15, -0.3), box(0.1, 0.1), tilted), np.full(3, 0.6))
    np.testing.assert_allclose(rows[:, :2], [[0.5, -1], [0, 0], [0.5, -1]], atol=1e-6)
    np.testing.assert_allclose(rows[:2, 4:6], 0, atol=1e-6)
    ratio = (0.1**2 - 0.02**2) / (0.1**2 + 0.02**2)
    np.testing.assert_allclose(rows[2, 4:6], ratio * np.array([0.5, 3**0.5 / 2]), atol=1e-6)
    np.testing.assert_allclose(rows[2, 2:4], np.log10([101, 21]) / 2, atol=1e-6)
    np.testing.assert_allclose(rows[:, 6], np.log10(0.6))
    np.testing.assert_allclose(rows[:, 7], [0, 1 / 3, 1 / 3], atol=1e-6)


def test_by_own_size_and_by_metres():
    """What is relative to the shape stays under scaling and turning; what is in metres of the map does not."""
    shape = star(8, 12, at=(0, 0))
    rows = looks(of(shape, shapely.affinity.scale(shape, 3, 3), shapely.affinity.rotate(shape, 37, (0, 0))))
    own = rows[:, MEASURES : MAP.start].reshape(3, 4, OWN_OCTAVES)
    np.testing.assert_allclose(own[1], own[0], atol=1e-5)
    np.testing.assert_allclose(own[2], own[0], atol=0.03)
    np.testing.assert_allclose(own[2, :, :2], own[0, :, :2], atol=1e-3)  # low wavenumbers: 8 directions are plenty
    assert np.abs(rows[1, MAP] - rows[0, MAP]).max() > 0.2
    assert np.abs(rows[2, MAP] - rows[0, MAP]).max() > 0.02
    metres = rows[0, MAP].reshape(2, MAP_OCTAVES, MAP_DIRECTIONS)
    expected = quadrature(shape, 2 * np.pi / 0.064 * np.array([0, 1.0]))  # north, 64 m
    assert metres[:, 2, 2] == pytest.approx([expected.real, expected.imag], abs=1e-6)
    assert MAP_LONGEST_KM / 4**2 == 0.064
    assert OWN_LOWEST * 2 ** (OWN_OCTAVES - 1) == 6


def changed(polygon, start, reverse):
    rings = []
    for ring in shapely.get_rings(polygon):
        xy = np.roll(shapely.get_coordinates(ring)[:-1], start, axis=0)
        rings.append(shapely.linearrings(xy[::-1] if reverse else xy))
    return shapely.polygons(rings[0], rings[1:][::-1] or None)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(0, 7), st.booleans(), st.floats(1e-4, 1.0))
def test_start_direction_and_order_do_not_matter(seed, start, reverse, size):
    one, two = star(seed, 8, size), star(seed + 1, 11, size, at=(0.1 + 3 * size, 0))
    one = shapely.difference(one, box(size / 30, size / 30, (0.1 + size / 8, -0.05)))
    if one.geom_type != "Polygon":
        return
    degrees = [lay(part) for part in (one, two)]
    there = shapely.multipolygons(degrees)
    again = shapely.multipolygons([changed(part, start, reverse) for part in degrees[::-1]])
    rows = everything(there, again, *degrees, *(changed(part, start, reverse) for part in degrees), laid=False)
    np.testing.assert_allclose(rows[1], rows[0], atol=1e-6)
    np.testing.assert_allclose(rows[4:6], rows[2:4], atol=1e-6)


def test_lines_read_either_way_and_cut_in_pieces():
    xy = shapely.get_coordinates(lay(LINE))
    cut = shapely.MultiLineString([xy[:2], xy[1:]])
    rows = everything(shapely.LineString(xy), shapely.LineString(xy[::-1]), cut, laid=False)
    np.testing.assert_allclose(rows[1], rows[0], atol=1e-6)
    rest = [i for i in range(rows.shape[1]) if i not in (3, 4, 11)]
    np.testing.assert_allclose(rows[2, rest], rows[0, rest], atol=1e-6)


@pytest.mark.parametrize("to", [(0.0, 0.0), (179.999, -16.5), (-180.0, 71.0), (25.0, 89.9999), (10.0, -90.0)])
def test_moved_with_its_region(to):
    there = np.array([to])
    kinds = (star(5), LINE, TWO, shapely.Point(0.1, 0.1))
    np.testing.assert_allclose(everything(*kinds, centre=there), everything(*kinds), atol=2e-5)


def test_longitudes_that_run_on_past_180():
    there = np.array([[179.999, -16.5]])
    polygon = lay(star(6), there)
    run_on = shapely.transform(polygon, lambda xy: np.where([True, False], np.where(xy < 0, xy + 360, xy), xy))
    assert shapely.bounds(run_on)[2] > 180
    rows = everything(run_on, centre=there, laid=False), everything(star(6))
    np.testing.assert_allclose(rows[0], rows[1], atol=2e-5)


def test_moved_inside_its_region_only_the_centre_changes():
    rows = everything(star(7, at=(0, 0)), star(7, at=(0.2, -0.1)))
    np.testing.assert_allclose(rows[1, :SHAPE_DIM], rows[0, :SHAPE_DIM], atol=1e-6)
    np.testing.assert_allclose(rows[1, SHAPE_DIM:][:2] - rows[0, SHAPE_DIM:][:2], [0.2 / 0.3, -0.1 / 0.3], atol=1e-6)


DEGENERATE = {
    "point": "POINT (11.5 48.1)",
    "same points": "MULTIPOINT (11.5 48.1, 11.5 48.1, 11.5 48.1)",
    "line without length": "LINESTRING (11.5 48.1, 11.5 48.1)",
    "lines without length": "MULTILINESTRING ((11.5 48.1, 11.5 48.1, 11.5 48.1), (11.5 48.1, 11.5 48.1))",
    "doubled vertices": "LINESTRING (11.5 48.1, 11.5 48.1, 11.501 48.1, 11.501 48.1)",
    "polygon without area": "POLYGON ((11.5 48.1, 11.501 48.1, 11.502 48.1, 11.5 48.1))",
    "there and back": "POLYGON ((11.5 48.1, 11.501 48.11, 11.5 48.1, 11.5 48.1))",
    "all one": "POLYGON ((11.5 48.1, 11.5 48.1, 11.5 48.1, 11.5 48.1))",
    "bow-tie": "POLYGON ((11.5 48.1, 11.51 48.11, 11.51 48.1, 11.5 48.11, 11.5 48.1))",
    "almost a bow-tie": "POLYGON ((11.5 48.1, 11.51 48.11, 11.51 48.1, 11.5 48.1101, 11.5 48.1))",
    "tiny": "POLYGON ((11.5 48.1, 11.50000001 48.1, 11.50000001 48.10000001, 11.5 48.1))",
    "far beyond": "POLYGON ((-170 -80, 170 -80, 170 80, -170 80, -170 -80))",
    "antipode": "POINT (-168.5 -48.1)",
    "closed line": "LINEARRING (11.5 48.1, 11.51 48.11, 11.51 48.1, 11.5 48.1)",
    "collection": "GEOMETRYCOLLECTION (POINT (11.5 48.1), GEOMETRYCOLLECTION (LINESTRING (11.5 48.1, 11.5 48.2)))",
    "with heights": "POLYGON Z ((11.5 48.1 3, 11.51 48.1 4, 11.51 48.11 5, 11.5 48.1 3))",
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_always_finite_never_zero(name):
    one = shapely.from_wkt(DEGENERATE[name])
    geometry, position = shapes([one], CENTRE, [0.6])
    for values in (geometry, position):
        assert np.isfinite(values).all()
        assert np.abs(values).max() > 0
    assert geometry.shape == (1, SHAPE_DIM)
    assert position.shape == (1, POSITION_DIM)
    assert np.abs(geometry).max() < 20
    assert np.abs(geometry[:, MEASURES:]).max() <= 1


def test_degenerate_shapes_are_what_they_look_like():
    wkt = [DEGENERATE[n] for n in ("point", "same points", "line without length", "all one", "doubled vertices")]
    flat, plain = "POLYGON ((11.5 48.1, 11.501 48.1, 11.5 48.1))", "LINESTRING (11.5 48.1, 11.501 48.1)"
    rows = everything(*shapely.from_wkt([*wkt, plain, flat]), laid=False)
    for other in (1, 2, 3):
        np.testing.assert_allclose(rows[other, 6:], rows[0, 6:], atol=1e-7)
    np.testing.assert_allclose(rows[4], rows[5], atol=1e-9)
    rest = [i for i in range(rows.shape[1]) if i not in (1, 2, 7, 11)]
    np.testing.assert_allclose(rows[6, rest], rows[5, rest], atol=1e-6)
    only = everything(shapely.from_wkt("LINESTRING (11.5 48.1, 11.5 48.2)"), laid=False)
    both = everything(shapely.from_wkt(DEGENERATE["collection"]), laid=False)
    np.testing.assert_array_equal(both, only)


def test_rows_do_not_depend_on_others():
    rng = np.random.default_rng(0)
    kinds = [lay(g) for g in (star(1), LINE, shapely.Point(0, 0.1), TWO, LINES)]
    many = [kinds[i] for i in rng.integers(0, len(kinds), CHUNK + 7)]
    together = shapes(many, np.repeat(CENTRE, len(many), axis=0), np.full(len(many), 0.6))
    for i in (0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 6):
        alone = shapes([many[i]], CENTRE, [0.6])
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_allclose(a[0], b[i], atol=1e-6)


def test_no_shapes():
    geometry, position = shapes([], np.zeros((0, 2)), np.zeros(0))
    assert geometry.shape == (0, SHAPE_DIM)
    assert position.shape == (0, POSITION_DIM)


@pytest.mark.parametrize("bad", [None, "POLYGON EMPTY", "GEOMETRYCOLLECTION EMPTY", "POINT EMPTY"])
def test_no_geometry_is_said(bad):
    rows = [shapely.Point(11, 48), bad if bad is None else shapely.from_wkt(bad)]
    with pytest.raises(DataError, match="empty one in row 1"):
        shapes(rows, np.repeat(CENTRE, 2, axis=0), [1, 1])


def test_bad_input_is_said():
    point = shapely.Point(11, 48)
    with pytest.raises(DataError, match="NaN or infinity in the geometry of row 1"):
        shapes([point, shapely.LineString([(11, 48), (np.inf, 48)])], np.repeat(CENTRE, 2, axis=0), [1, 1])
    with pytest.raises(DataError, match="each of 1 shapes"):
        shapes([point], np.repeat(CENTRE, 2, axis=0), [1])
    with pytest.raises(DataError, match="not positive"):
        shapes([point], CENTRE, [0])


def test_area_and_length_are_metric():
    """A degree of longitude is shorter in the north; the frame knows."""
    for lat in (0.0, 60.0):
        centre = np.array([[10.0, lat]])
        shape = of(shapely.box(9.999, lat - 0.001, 10.001, lat + 0.001), centre=centre, laid=False)
        side = np.radians(0.002) * EARTH_RADIUS_KM
        assert shape.area[0] == pytest.approx(side**2 * np.cos(np.radians(lat)), rel=1e-5)
        assert shape.length[0] == pytest.approx(2 * side * (1 + np.cos(np.radians(lat))), rel=1e-5)


def test_a_real_town():
    """Every entity of an extract: finite, never zero, areas as on the sphere, the transform never above the mass."""
    osmium = pytest.importorskip("osmium")
    if not (folder := os.environ.get("GRATICULE_DATA")):
        pytest.skip("GRATICULE_DATA names no folder with real data")
    make, found = osmium.geom.WKBFactory(), []
    path = f"{folder}/osm/boston-2020.osm.pbf"
    for entity in osmium.FileProcessor(path).with_areas().with_filter(osmium.filter.EmptyTagFilter()):
        if entity.is_node():
            found.append(make.create_point(entity))
        elif entity.is_area():
            found.append(make.create_multipolygon(entity))
        elif entity.is_way() and not entity.is_closed():
            found.append(make.create_linestring(entity))
    geometries = shapely.from_wkb(found)
    centres = shapely.get_coordinates(shapely.centroid(geometries)) + 0.002
    rows = np.concatenate(shapes(geometries, centres, np.full(len(geometries), 0.5)), axis=1)
    assert len(rows) > 500
    assert np.isfinite(rows).all()
    assert (np.abs(rows[:, MEASURES:SHAPE_DIM]).max(axis=1) > 0.01).all()
    assert np.abs(rows[:, MEASURES:SHAPE_DIM]).max() <= 1
    np.testing.assert_allclose(10 ** (4 * rows[:, 6]) - 1, area_km2(geometries) * 1e6, rtol=1e-3, atol=1e-3)
