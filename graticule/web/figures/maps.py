"""Values on a map in the Equal Earth projection, of the world or of the part that has the places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from graticule.data.land import is_land
from graticule.errors import MissingExtra, need
from graticule.geo.coords import EARTH_RADIUS_KM, lonlat
from graticule.web.figures.frame import Floats, blank, column, sentence, style
from graticule.web.figures.projection import Extent, Sides, around, equal_earth, extent_of, inverse_equal_earth, sides

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAND, SEA, RIM = (0.83, 0.84, 0.82), (0.925, 0.94, 0.95), "#b9c0c6"
STRETCH_PERCENT = (2.0, 98.0)  # colours are stretched between these percentiles
LAND_PIXELS = 900  # across the map
MOST_DOTS = 20_000


@style()
def world_map(
    points: ArrayLike,
    values: ArrayLike,
    label: str,
    *,
    title: str = "",
    centre: float | None = None,
    limits: tuple[float, float] | None = None,
    cells_km: float | None = None,
) -> Figure:
    """Values (n,) of places (n, 2) lon/lat degrees; `label` names the values and their unit beside the colours.

    Places within 120 by 90 degrees get a map of their own surroundings, also across the antimeridian. `centre`:
    colours diverge from this value. `limits` of the colours: the 2nd and 98th percentile if not given. `cells_km`:
    mean values of hexagons of about this width (equal in area) instead of dots. Of more than 20,000 dots a random
    20,000 are drawn. Without the package of the land mask there is no land. Projection: Savric et al. 2018.
    """
    array = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    places = lonlat(lon=array[:, 0], lat=array[:, 1], where="points row")
    numbers = column(values, "values of a map", len(places))
    there = np.isfinite(numbers)
    if not there.any():
        return sentence("No place has a value.", title)
    if missing := int((~there).sum()):
        label += f" ({missing:,} {'place' if missing == 1 else 'places'} without a value left out)"
    places, numbers = places[there], numbers[there]
    extent = extent_of(places)
    left, right, bottom, top = sides(extent)
    figure, axes = blank(height_in=3.9 * min((top - bottom) / (right - left), 1.3) + 0.75, title=title)
    ground = _draw_ground(axes, extent)
    low, high = _limits(numbers, centre) if limits is None else limits
    colours = {"cmap": _colours(centre), "vmin": low, "vmax": high, "zorder": 3}
    x, y = equal_earth(around(places, extent.meridian_deg))
    if cells_km is None:
        shown = _dots(axes, x, y, numbers, colours)
    else:
        wide = max(2, round((right - left) * EARTH_RADIUS_KM / cells_km))
        shown = _hexagons(axes, x, y, numbers, wide, (left, right, bottom, top), colours)
    shown.set_clip_path(ground)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", rasterization_zorder=4)
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    ends = beyond[bool((numbers < low).any()), bool((numbers > high).any())]
    where: dict[str, Any] = {"orientation": "horizontal", "shrink": 0.62, "aspect": 32, "pad": 0.03}
    bar = figure.colorbar(shown, ax=axes, extend=ends, **where)
    bar.outline.set_visible(False)
    bar.set_label(label, wrap=True)
    return figure


def _dots(axes: Axes, x: Floats, y: Floats, values: Floats, colours: dict[str, Any]) -> Any:
    """Dots in random order, so that no part of the table lies on top; smaller where many."""
    order = np.random.default_rng(0).permutation(len(x))[:MOST_DOTS]
    area = float(np.clip(14_000 / len(order), 1.4, 24))
    smooth = len(order) <= 2000  # smooth edges of many dots make large files
    return axes.scatter(x[order], y[order], area, values[order], linewidths=0, antialiased=smooth, **colours)


def _hexagons(
    axes: Axes, x: Floats, y: Floats, values: Floats, wide: int, within: Sides, colours: dict[str, Any]
) -> Any:
    """Mean values of hexagons, `wide` across: equal in area on the map, and so on the ground."""
    left, right, bottom, top = within
    grid = (wide, max(1, round(wide * (top - bottom) / (right - left) / np.sqrt(3))))
    return axes.hexbin(x, y, values, gridsize=grid, extent=within, linewidths=0.3, antialiased=False, **colours)


def _draw_ground(axes: Axes, extent: Extent) -> Any:
    """Sea, land, meridians and parallels inside the rim of the world or a frame with degrees; what to clip with."""
    axes.grid(False)
    axes.set(xticks=[], yticks=[], facecolor=SEA)
    lat = np.linspace(extent.south_deg, extent.north_deg, 91)
    ground = axes.patch
    if extent.whole:
        axes.axis("off")
        rim = np.concatenate([_meridian(180, lat), _meridian(-180, lat[::-1])])
        polygon = need("matplotlib.patches", "viz").Polygon
        ground = axes.add_patch(polygon(rim, facecolor=SEA, edgecolor=RIM, linewidth=0.8, clip_on=False, zorder=-1))
    if (land := _land(extent)) is not None:
        axes.imshow(land, extent=sides(extent), interpolation="bilinear", zorder=0).set_clip_path(ground)
    step = _step(extent)
    line: dict[str, Any] = {"color": RIM, "linewidth": 0.35, "zorder": 1}
    for lon in np.arange(-180, 180, step):
        if extent.west_deg <= (offset := (lon - extent.meridian_deg + 180) % 360 - 180) <= extent.east_deg:
            axes.plot(*_meridian(offset, lat).T, **line)
    for parallel in np.arange(-90 + step, 90, step):
        if extent.south_deg <= parallel <= extent.north_deg:
            axes.plot(*equal_earth(np.array([[-180.0, parallel], [180.0, parallel]])), **line)
    if not extent.whole:
        _label_degrees(axes, extent, step)
    return ground


def _meridian(lon: float, lat: Floats) -> Floats:
    return np.stack(equal_earth(np.stack([np.full_like(lat, lon), lat], axis=1)), axis=1)


def _label_degrees(axes: Axes, extent: Extent, step: float) -> None:
    axes.spines[:].set_visible(True)
    west, east = extent.meridian_deg + extent.west_deg, extent.meridian_deg + extent.east_deg
    lon, lat = np.arange(np.ceil(west / step), east / step) * step, np.arange(-90, 90.01, step)
    lat = np.asarray(lat[(lat >= extent.south_deg) & (lat <= extent.north_deg)])
    x, _ = equal_earth(np.stack([lon - extent.meridian_deg, np.full_like(lon, extent.south_deg)], axis=1))
    _, y = equal_earth(np.stack([np.zeros_like(lat), lat], axis=1))
    turned = (lon + 180) % 360 - 180
    axes.set_xticks(x, [f"{abs(v):g}° {'W' if v < 0 else 'E'}" for v in turned], fontsize=7)
    axes.set_yticks(y, [f"{abs(v):g}° {'S' if v < 0 else 'N'}" for v in lat], fontsize=7)


def _step(extent: Extent) -> float:
    """Degrees between meridians: about four in the picture."""
    span = min(extent.east_deg - extent.west_deg, 2 * (extent.north_deg - extent.south_deg))
    return 30.0 if extent.whole else next((s for s in (1.0, 2.0, 5.0, 10.0, 15.0) if span / s <= 5), 30.0)


def _land(extent: Extent) -> Floats | None:
    """(rows, columns, 4) picture of land in the plane, clear elsewhere; None without the package of the land mask."""
    left, right, bottom, top = sides(extent)
    shape = (max(1, round(LAND_PIXELS * (top - bottom) / (right - left))), LAND_PIXELS)
    x = left + (np.arange(shape[1]) + 0.5) / shape[1] * (right - left)
    y = top - (np.arange(shape[0]) + 0.5) / shape[0] * (top - bottom)
    places = inverse_equal_earth(x, y[:, None])
    dry = np.zeros(shape)
    inside = np.isfinite(places).all(axis=2)
    try:
        dry[inside] = is_land(around(places[inside], -extent.meridian_deg))
    except MissingExtra:
        return None
    return np.concatenate([np.broadcast_to(LAND, (*shape, 3)), dry[..., None]], axis=2)


def _limits(values: Floats, centre: float | None) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(values, STRETCH_PERCENT))
    if centre is not None:
        reach = max(abs(low - centre), abs(high - centre)) or 1.0
        return centre - reach, centre + reach
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _colours(centre: float | None) -> Any:
    """Violet to yellow without the palest end, or orange to violet around white-grey: both safe for colour-blind."""
    maps, colours = need("matplotlib", "viz").colormaps, need("matplotlib.colors", "viz")
    if centre is None:
        return colours.ListedColormap(maps["viridis"](np.linspace(0, 0.95, 256)))
    return maps["PuOr_r"]
