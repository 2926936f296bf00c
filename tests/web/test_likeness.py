"""The page of what is alike: small maps with the right colours in the right places, answers, lines between regions."""

import numpy as np
import pytest

from graticule.errors import DataError, SettingError
from graticule.geo.region import Region
from graticule.web.document import Figure, Grid
from graticule.web.document_page import write_html

shapely = pytest.importorskip("shapely", reason="shapely is not installed")
matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.figure import Figure as Drawing  # noqa: E402

from graticule.web.figures import small_map  # noqa: E402
from graticule.web.likeness import (  # noqa: E402
    Answer,
    Interpolation,
    Sight,
    draw_region,
    likeness_document,
    nearest_elsewhere,
    rows_between,
)

SIDE = 0.01


def region(entities, lon=0.0, lat=0.0):
    """A square of 0.01 degrees; entities are (tags, geometry in units of its side from its south-western corner)."""
    place = shapely.transform(
        np.array([shapely.box(0, 0, 1, 1), *(g for _, g in entities)], dtype=object), lambda c: c * SIDE + [lon, lat]
    )
    return Region(
        outline=shapely.to_wkb(place[0]),
        ids=tuple(f"way/{i}" for i in range(len(entities))),
        tags=tuple(tags for tags, _ in entities),
        geometries=tuple(shapely.to_wkb(g) for g in place[1:]),
        shares=(1.0,) * len(entities),
    )


LAKE = shapely.box(0.1, 0.5, 0.6, 0.9) - shapely.box(0.3, 0.65, 0.4, 0.75)
TOWN = [
    ({"building": "yes"}, shapely.box(0.7, 0.7, 0.8, 0.8)),
    ({"landuse": "residential"}, shapely.box(0.5, 0, 1, 1)),
    ({"natural": "water"}, LAKE),
    ({"highway": "primary"}, shapely.LineString([(0, 0.3), (1, 0.3)])),
    ({"highway": "bus_stop"}, shapely.Point(0.2, 0.2)),
    ({"leisure": "park"}, shapely.MultiPolygon([shapely.box(0.85, 0.8, 0.95, 0.9), shapely.box(0.85, 0.5, 0.95, 0.6)])),
    ({"boundary": "administrative"}, shapely.box(0, 0, 1, 1)),
]


def picture(drawn, **options):
    """Pixels of the region from south-west to north-east, as a function of position."""
    figure = Drawing(figsize=(3, 3), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_region(axes, drawn, **options)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3] / 255

    def at(x, y):
        column, row = (round((0.5 + (value - 0.5) / 1.06) * 299) for value in (x, y))
        return pixels[row, column]

    return at


@pytest.mark.parametrize(("lon", "lat"), [(0, 0), (179.995, 0.3), (-180.0, -0.2)])
def test_each_class_has_its_colour_and_holes_stay_open(lon, lat):
    at = picture(region(TOWN, lon, lat))
    for place, colour in {
        (0.2, 0.8): small_map.WATER,
        (0.35, 0.7): small_map.PAPER,
        (0.55, 0.7): small_map.WATER,
        (0.75, 0.75): small_map.BUILDING,
        (0.9, 0.85): small_map.GREEN,
        (0.9, 0.55): small_map.GREEN,
        (0.6, 0.95): small_map.AREAS["landuse"]["residential"],
        (0.5, 0.3): small_map.STREET_CLASSES["primary"][0],
        (0.3, 0.1): small_map.PAPER,
    }.items():
        np.testing.assert_allclose(at(*place), to_rgb(colour), atol=0.07, err_msg=str(place))
    assert at(0.2, 0.2).max() < 0.9  # a dot on the paper


def test_nothing_is_drawn_beside_an_outline_that_is_no_square():
    triangle = shapely.Polygon([(0, 0), (SIDE, 0), (0, SIDE)])
    whole = shapely.to_wkb(shapely.box(0, 0, SIDE, SIDE))
    at = picture(Region(shapely.to_wkb(triangle), ("way/1",), ({"natural": "water"},), (whole,), (1.0,)))
    np.testing.assert_allclose(at(0.3, 0.3), to_rgb(small_map.WATER), atol=0.01)
    np.testing.assert_allclose(at(0.8, 0.8), [1, 1, 1], atol=0.01)


def test_a_marked_entity_is_set_off():
    at = picture(region(TOWN), marked="way/2")
    np.testing.assert_allclose(at(0.1, 0.7), to_rgb(small_map.MARK), atol=0.1)
    with pytest.raises(DataError, match="no entity 'way/77' among its 7"):
        picture(region(TOWN), marked="way/77")


def test_an_empty_region_is_drawn():
    np.testing.assert_allclose(picture(region([]))(0.5, 0.6), to_rgb(small_map.PAPER), atol=0.01)


@pytest.mark.parametrize("lat", [89.99, -90])
def test_a_region_that_touches_a_pole_is_drawn(lat):
    picture(region(TOWN, lat=lat))


@pytest.mark.parametrize(
    ("tags", "kind", "colour"),
    [
        ({"landuse": "basin", "building": "no way"}, 2, small_map.BUILDING),
        ({"landuse": "basin"}, 2, small_map.WATER),
        ({"amenity": "bench"}, 2, None),
        ({"highway": "motorway_link"}, 1, small_map.STREET_CLASSES["motorway"][0]),
        ({"highway": "steps"}, 1, small_map.PATH[0]),
        ({"railway": "rail"}, 1, small_map.OTHER_LINES["railway"][0]),
        ({"name": "x"}, 1, None),
    ],
)
def test_paint(tags, kind, colour):
    paint = small_map.paint_of(tags, kind)
    assert (paint and paint.colour) == colour


def test_more_important_streets_lie_above():
    heights = [
        small_map.paint_of({"highway": name}, 1).height for name in ("steps", "service", "residential", "primary")
    ]
    assert heights == sorted(set(heights))


def sights(cities="aabbc"):
    return [Sight(region(TOWN, lon=i), f"r{i}", city) for i, city in enumerate(cities)]


def document(**changes):
    drawn = sights()
    answers = [[Answer(drawn[2], 0.9), Answer(drawn[4], -0.5)], []]
    marked = Sight(drawn[1].region, "way/2", "a", entity="way/2")
    given = {
        "queries": [drawn[0], marked],
        "answers_by_method": {"Ours": answers, "TagPool": answers[:1] * 2},
        "interpolations": [Interpolation("Park to port", drawn, np.linspace(0, 1, 5))],
    }
    return likeness_document(**(given | changes))


def test_methods_stand_side_by_side_below_each_query():
    shown = document()
    assert [chapter.title for chapter in shown.chapters] == ["Regions", "Single entities", "From one region to another"]
    grids = [block for chapter in shown.chapters for block in chapter.blocks if isinstance(block, Grid)]
    assert [[figure.caption for figure in grid.figures] for grid in grids] == [["**Ours**", "**TagPool**"]] * 2
    assert grids[0].figures[0].alt == "r0 in a; Ours finds r2 in b (0.90); r4 in c (-0.50)"
    (line,) = [block for block in shown.chapters[-1].blocks if isinstance(block, Figure)]
    assert line.alt.startswith("0%: r0 in a; 25%: r1 in a")


def test_the_page_is_written_alike_each_time(tmp_path):
    page = write_html(document(), tmp_path / "a.html").read_text("utf-8")
    assert page == write_html(document(), tmp_path / "b.html").read_text("utf-8")
    assert page.count("<img") == 5


def test_a_document_of_nothing(tmp_path):
    write_html(likeness_document([], {}, []), tmp_path / "a.html")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers_by_method": {"Ours": []}}, "'Ours' must answer each of the 2 queries, got 0"),
        ({"answers_by_method": {"Ours": [[Answer(sights()[1], 1)], []]}}, "same city, 'a'"),
        (
            {"interpolations": [Interpolation("x", sights(), [0, 1])]},
            "'x' needs two regions or more .* 5 regions, 2 shares",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        document(**changes)


def test_nearest_elsewhere_equals_a_loop():
    rng = np.random.default_rng(0)
    vectors, cities = rng.normal(size=(30, 4)), list("abc" * 10)
    rows, similarity = nearest_elsewhere(vectors, cities, 4)

    def cosine(i):
        return vectors[i] @ vectors[4] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[4])

    assert rows.tolist() == sorted((i for i in range(30) if cities[i] != "b"), key=cosine, reverse=True)[:5]
    np.testing.assert_allclose(similarity, [cosine(i) for i in rows])
    assert len(nearest_elsewhere(vectors, ["a"] * 30, 4)[0]) == 0


def test_a_line_on_a_circle_passes_the_rows_in_order():
    angle = np.linspace(0, np.pi / 2, 9)
    circle = np.column_stack([np.cos(angle), np.sin(angle)]) * np.arange(1, 10)[:, None]
    rows, shares = rows_between(circle, 1, 7, 5)
    assert rows[0] == 1
    assert rows[-1] == 7
    assert (np.diff(rows) > 0).all()
    assert shares.tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(("first", "last", "count"), [(1, 1, 3), (0, 1, 1), (0, 1, 9)])
def test_a_line_that_cannot_be_is_refused(first, last, count):
    with pytest.raises(SettingError, match="2 to 4 points"):
        rows_between(np.eye(4), first, last, count)
