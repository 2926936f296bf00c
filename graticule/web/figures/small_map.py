"""A region as a small map: areas by what they are, roads by class, points as dots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, need
from graticule.geo.coords import Points, local_km
from graticule.geo.region import Region
from graticule.web.figures.frame import INK, style
from graticule.web.region_page import AREA, LINE, simple_parts

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Paint(NamedTuple):
    """How a part is drawn: from low to high, and of one height large ones first."""

    height: int
    colour: str
    width: float = 0.0  # of a line or dot, in points


PAPER, FRAME, MARK, CASING = "#f8f7f4", "#8a939c", "#d0103a", "#cdc6bb"
GREEN, WATER, BUILDING, INDUSTRY = "#cfe3b8", "#a5cbe4", "#b9b4ae", "#e2d8e8"
GROUND, PONDS, BUILDINGS, SMALL_LINES, STREETS, DOTS = 10, 20, 30, 40, 50, 80
AREAS: dict[str, dict[str, str]] = {  # tag key -> value -> colour, "*" for the others; the first key that fits decides
    "building": {"*": BUILDING},
    "natural": {"beach": "#f2e7bd", "sand": "#f2e7bd", "bare_rock": "#e1deda", "*": GREEN}
    | dict.fromkeys(("water", "bay", "strait"), WATER),
    "water": {"*": WATER},
    "waterway": {"*": WATER},
    "leisure": {"swimming_pool": WATER, "marina": WATER, "pitch": "#bfdcae", "*": GREEN},
    "landuse": {"farmland": "#f0ecd0", "farmyard": "#ead9b8", "residential": "#ece5dd", "quarry": "#d6d2ce", "*": GREEN}
    | dict.fromkeys(("basin", "reservoir", "salt_pond"), WATER)
    | dict.fromkeys(("industrial", "railway", "port", "construction", "brownfield", "landfill"), INDUSTRY)
    | dict.fromkeys(("commercial", "retail", "military", "education"), "#f2dcda"),
    "amenity": {"parking": "#e4e5e8", "grave_yard": GREEN}
    | dict.fromkeys(("school", "university", "college", "kindergarten", "hospital"), "#f3edcf"),
    "tourism": {"zoo": GREEN, "camp_site": GREEN},
    "aeroway": {"*": "#dcdde3"},
    "highway": {"*": "#ffffff"},
}
STREET_CLASSES = {  # the most important last, drawn above the others
    "track": ("#c9a777", 0.6),
    "service": ("#ffffff", 0.8),
    **dict.fromkeys(("pedestrian", "living_street", "residential", "unclassified"), ("#ffffff", 1.3)),
    "tertiary": ("#f9e59b", 1.7),
    "secondary": ("#f5d06e", 2.1),
    "primary": ("#f2b56b", 2.5),
    "trunk": ("#eb9f75", 2.8),
    "motorway": ("#e38b6d", 3.0),
}
PATH = ("#bd9482", 0.45)
OTHER_LINES = {
    "railway": ("#5d5a63", 0.9),
    "waterway": (WATER, 1.3),
    "aeroway": ("#c3c5cf", 1.6),
    "natural": ("#9fb48a", 0.5),
    "barrier": ("#a8a29a", 0.35),
    "power": ("#a6a6ad", 0.35),
}


@style()
def draw_region(axes: Axes, region: Region, *, marked: str | None = None) -> None:
    """Draw a region and a bar of its scale; `marked` is the id of an entity to be set off.

    Coordinates of the axes are km about the middle of the outline, azimuthal equidistant. Entities that no colour is
    known for are left out. Raises DataError where the region has no entity of the marked id.
    """
    shapely = need("shapely", "osm")
    if marked is not None and marked not in region.ids:
        raise DataError(f"The region to be drawn has no entity {marked!r} among its {len(region)}.")
    outline = shapely.from_wkb(region.outline)
    west, south, east, north = outline.bounds
    centre = np.array([[(west + east) / 2, (south + north) / 2]])
    frame = _in_km([outline], centre)
    left, bottom, right, top = frame[0].bounds
    margin = 0.03 * max(right - left, top - bottom)
    axes.set_axis_off()
    axes.set(xlim=(left - margin, right + margin), ylim=(bottom - margin, top + margin), aspect="equal")
    axes.set_rasterization_zorder(DOTS + 10)
    ground = _fill(axes, simple_parts(frame)[0], [PAPER], 1)
    parts, rows = simple_parts(_in_km(shapely.from_wkb(list(region.geometries)), centre))
    before = len(axes.collections)
    _draw_parts(axes, parts, [region.tags[row] for row in rows])
    if marked is not None:
        _draw_mark(axes, parts[[region.ids[row] == marked for row in rows]])
    for artist in axes.collections[before:]:
        artist.set_clip_path(_compound(ground.get_paths()), axes.transData)
    _lines(axes, _rings(simple_parts(frame)[0]), [FRAME], [0.8], DOTS + 11)
    _draw_scale(axes, left, bottom, right - left)


def paint_of(tags: Mapping[str, str], kind: int) -> Paint | None:
    """How a point (kind 0), line (1) or area (2) with these tags is drawn, or None."""
    if kind == AREA:
        for key, colours in AREAS.items():
            if key in tags and (colour := colours.get(tags[key], colours.get("*"))):
                return Paint(BUILDINGS if key == "building" else PONDS if colour == WATER else GROUND, colour)
        return None
    if kind == LINE and "highway" in tags:
        name = tags["highway"].removesuffix("_link")
        if name not in STREET_CLASSES:
            return Paint(SMALL_LINES, *PATH)
        return Paint(STREETS + list(STREET_CLASSES).index(name), *STREET_CLASSES[name])
    if kind == LINE:
        return next((Paint(SMALL_LINES, *look) for key, look in OTHER_LINES.items() if key in tags), None)
    return Paint(DOTS, "#86a86c", 1.1) if tags.get("natural") == "tree" else Paint(DOTS, "#75689a", 1.2)


def _in_km(shapes: Sequence[Any], centre: Points) -> NDArray[np.object_]:
    array = np.asarray(shapes, dtype=object)
    return np.asarray(need("shapely", "osm").transform(array, lambda points: local_km(points, centre)))


def _draw_parts(axes: Axes, parts: NDArray[np.object_], tags: Sequence[Mapping[str, str]]) -> None:
    """All parts of one height and kind together."""
    shapely = need("shapely", "osm")
    kinds = shapely.get_dimensions(parts)
    groups: dict[tuple[int, int], list[tuple[Any, Paint]]] = {}
    for i in np.argsort(-shapely.area(parts), kind="stable"):
        if paint := paint_of(tags[i], int(kinds[i])):
            groups.setdefault((paint.height, int(kinds[i])), []).append((parts[i], paint))
    for (height, kind), drawn in groups.items():
        shapes, paints = zip(*drawn, strict=True)
        colours, widths = [paint.colour for paint in paints], [paint.width for paint in paints]
        if kind == AREA:
            _fill(axes, shapes, colours, height)
        elif kind == LINE:
            coordinates = [shapely.get_coordinates(shape) for shape in shapes]
            if height >= STREETS:
                _lines(axes, coordinates, [CASING], [width + 0.7 for width in widths], STREETS - 1)
            _lines(axes, coordinates, colours, widths, height)
        else:
            x, y = shapely.get_coordinates(shapes).T
            axes.scatter(x, y, s=np.square(widths), c=colours, linewidths=0, zorder=height)


def _draw_mark(axes: Axes, parts: NDArray[np.object_]) -> None:
    shapely = need("shapely", "osm")
    points = shapely.get_dimensions(parts) == 0
    if points.any():
        x, y = shapely.get_coordinates(parts[points]).T
        axes.scatter(x, y, s=42, facecolors="none", edgecolors=MARK, linewidths=1.5, zorder=DOTS + 2)
    _lines(axes, _rings(parts[~points]), [MARK], [1.7], DOTS + 2)


def _fill(axes: Axes, polygons: Iterable[Any], colours: Sequence[str], height: float) -> Any:
    collections = need("matplotlib.collections", "viz")
    edges = ["#98928b"] if height == BUILDINGS else "none"
    paths = [_path(polygon) for polygon in polygons]
    return axes.add_collection(
        collections.PathCollection(paths, facecolors=colours, edgecolors=edges, linewidths=0.25, zorder=height)
    )


def _lines(axes: Axes, lines: Sequence[Any], colours: Sequence[str], widths: Sequence[float], height: float) -> None:
    collections = need("matplotlib.collections", "viz")
    axes.add_collection(collections.LineCollection(lines, colors=colours, linewidths=widths, zorder=height))


def _rings(parts: NDArray[np.object_]) -> list[NDArray[np.float64]]:
    """The coordinates of lines and of the rings of polygons."""
    shapely = need("shapely", "osm")
    lines = [
        *parts[shapely.get_dimensions(parts) == LINE],
        *shapely.get_rings(parts[shapely.get_dimensions(parts) == AREA]),
    ]
    return [shapely.get_coordinates(part) for part in lines]


def _path(polygon: Any) -> Any:
    """A polygon whose holes run the other way round, so that they stay empty."""
    path = need("matplotlib.path", "viz").Path
    turned = need("shapely.geometry.polygon", "osm").orient(polygon)
    rings = [turned.exterior, *turned.interiors]
    return path.make_compound_path(*(path(np.asarray(ring.coords)[:, :2], closed=True) for ring in rings))


def _compound(paths: Sequence[Any]) -> Any:
    return need("matplotlib.path", "viz").Path.make_compound_path(*paths)


def _draw_scale(axes: Axes, left: float, bottom: float, width: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten metres, at most a third of the width."""
    most_m = width * 1000 / 3
    power = 10.0 ** np.floor(np.log10(most_m))
    metres = max(step * power for step in (1, 2, 5) if step * power <= most_m)
    x, y = left + 0.05 * width, bottom + 0.05 * width
    text = f"{metres:g} m" if metres < 1000 else f"{metres / 1000:g} km"
    halo = need("matplotlib.patheffects", "viz").withStroke(linewidth=2.2, foreground="white")
    height = DOTS + 12
    axes.plot(
        [x, x + metres / 1000],
        [y, y],
        color=INK,
        linewidth=1.4,
        zorder=height,
        path_effects=[halo],
        solid_capstyle="butt",
    )
    axes.text(x, y + 0.025 * width, text, fontsize=6.5, color=INK, zorder=height, path_effects=[halo])
