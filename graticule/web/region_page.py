"""A city as one HTML page that works offline: its regions and map entities, coloured by their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.errors import DataError, need
from graticule.geo.coords import Points, from_unit_sphere, local_km, lonlat, unit_sphere
from graticule.web.colouring import colour_space
from graticule.web.page import (
    Floats,
    check_directions,
    cosine_error,
    filled,
    names_entry,
    number_table,
    pack,
    percentiles,
    principal_components,
    quantise,
    scores_entry,
)

COMPONENTS = 48  # numbers kept of each vector
UNIT_KM = 1e-4  # coordinates in the page are whole decimetres
SIMPLIFIED_KM = 2e-4  # entities are drawn within 20 cm of their geometry
SAME = 1e-9  # what components may differ by and still be one colour
FARTHEST = 3.0  # standard deviations at which values are clipped for the colours
POINT, LINE, AREA = 0, 1, 2

Shapes = NDArray[np.object_]


@dataclass(frozen=True)
class EntityLayer:
    """Map entities of a page: ids such as "way/2", shapely geometries in lon/lat degrees, (n, d) vectors, labels.

    A label is what an entity is in a few characters, such as "landuse=forest".
    """

    ids: Sequence[str]
    geometries: Sequence[Any]
    vectors: ArrayLike
    labels: Sequence[str] | None = None


def write_region_map(
    path: str | Path,
    *,
    outlines: Sequence[Any],
    ids: Sequence[str],
    vectors: ArrayLike,
    counts: Sequence[int] | None = None,
    entities: EntityLayer | None = None,
    title: str = "Regions",
    about: str | None = None,
) -> Path:
    """Write one self-contained page that draws regions in the colours of their `vectors` (n, d).

    `outlines`: n shapely polygons in lon/lat degrees, whose longitudes may run on past 180. `counts`: the entities in
    each. `entities` are drawn when zoomed in. `about`: a paragraph under the title, with the licence of the map data.
    A click on a region or entity colours all others by cosine similarity to it. The plane is azimuthal equidistant
    about the middle of the outlines, so true at the poles and across the antimeridian. The page asks the network for
    nothing; similarities are computed from int8 scores on at most 48 principal components.

    Raises DataError for lengths that differ, no region, outlines that are no polygons, empty geometries, vectors with
    NaN or only zeros.
    """
    values, shapes = _checked("region", ids, outlines, vectors, counts=counts)
    if not len(shapes):
        raise DataError("A map of regions needs at least one region, got none.")
    if (wrong := need("shapely", "osm").get_dimensions(shapes) != AREA).any():
        row = int(wrong.argmax())
        raise DataError(
            f"The outline of a region must be a polygon; that of {ids[row]!r} is a {shapes[row].geom_type}."
        )
    centre = _centre(shapes)
    colours, shares = _colours(values)
    regions = _layer_entry(ids, _in_km(shapes, centre), values, colours, shares.tolist())
    data = {
        "unit_m": UNIT_KM * 1000,
        "regions": {**regions, "counts": None if counts is None else [int(count) for count in counts]},
        "entities": None if entities is None or not len(entities.ids) else _entities_entry(entities, centre),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(filled("regions.html", title, about, data), encoding="utf-8")
    return path


def three_colours(vectors: ArrayLike) -> NDArray[np.uint8]:
    """(n, d) vectors -> (n, 3) red, green and blue of regions: components 1 to 3 of the standardised vectors.

    Standardised values are clipped at three standard deviations, so that rare features do not take the components,
    and each component is stretched so that its 2nd and 98th percentile become 0 and 255. The same vectors give the
    same colours, in any order; what all vectors share has the grey 128. The page mutes them a little, all alike.
    """
    values = number_table(vectors)
    if not np.isfinite(values).all():
        raise DataError("Vectors that become colours must be finite numbers.")
    return _colours(values)[0]


def _colours(vectors: Floats) -> tuple[NDArray[np.uint8], Floats]:
    """Colours (n, 3) and the shares of the variance that they show (at most 3,)."""
    colours = np.full((len(vectors), 3), 128, dtype=np.uint8)
    if not len(vectors):
        return colours, np.zeros(0)
    spread = vectors.std(axis=0, dtype=np.float64)
    differs = spread > 1e-6 * np.abs(vectors).max(axis=0)
    standard = (vectors - vectors.mean(axis=0, dtype=np.float64))[:, differs] / spread[differs]
    standard = np.clip(standard, -FARTHEST, FARTHEST)
    weights = np.full(len(vectors), 1 / len(vectors))
    axes, shares = principal_components(standard, weights, 3)
    for channel, column in enumerate((standard @ axes).T):
        low, high = percentiles(column, weights)
        if not high > low:
            low, high = column.min(), column.max()
        colours[:, channel] = _stretched(column, low, high)
    return colours, shares


def entity_colours(vectors: ArrayLike, places_km: Points) -> NDArray[np.uint8]:
    """(n, d) vectors and (n, 2) where they lie -> (n, 3) red, green and blue of the entities of a page.

    Those of `colour_space`, of which each component is stretched from its least, 0, to its largest, 255; a component
    in which nothing differs is 128.
    """
    values = number_table(vectors)
    colours = np.full((len(values), 3), 128, dtype=np.uint8)
    for channel, column in enumerate(colour_space(values, places_km).T if len(values) else ()):
        low, high = column.min(), column.max()
        if high > low + SAME * (1 + abs(low)):
            colours[:, channel] = _stretched(column, low, high)
    return colours


def _stretched(column: Floats, low: float, high: float) -> Floats:
    return np.asarray(np.rint(255 * np.clip((column - low) / (high - low), 0, 1)))


def simple_parts(geometries: Sequence[Any] | Shapes) -> tuple[Shapes, NDArray[np.int64]]:
    """Shapely geometries -> the points, lines and polygons they consist of, and the row each comes from."""
    shapely = need("shapely", "osm")
    parts, rows = np.asarray(geometries, dtype=object), np.arange(len(geometries))
    while (shapely.get_type_id(parts) > 3).any():  # collections may hold collections
        parts, index = shapely.get_parts(parts, return_index=True)
        rows = rows[index]
    return parts, rows


def _checked(
    what: str,
    ids: Sequence[str],
    geometries: Sequence[Any],
    vectors: ArrayLike,
    **columns: Sequence[Any] | None,
) -> tuple[Floats, Shapes]:
    shapely = need("shapely", "osm")
    shapes = np.empty(len(geometries), dtype=object)
    shapes[:] = list(geometries)
    values = number_table(vectors, f"{what} vectors")
    given = {"geometries": shapes, "vectors": values, **{name: c for name, c in columns.items() if c is not None}}
    for name, column in given.items():
        if len(column) != len(ids):
            raise DataError(f"Each {what} needs one of {name}: {len(ids)} ids, {len(column)} {name}.")
    if (bad := ~shapely.is_geometry(shapes)).any():
        raise DataError(f"The {what} {ids[bad.argmax()]!r} needs a shapely geometry, got {shapes[bad.argmax()]!r:.60}.")
    if (bad := shapely.is_empty(shapes)).any():
        raise DataError(f"The geometry of the {what} {ids[bad.argmax()]!r} is empty ({bad.sum()} such): drop these.")
    check_directions(values, f"{what} vectors")
    return values, shapes


def _centre(shapes: Shapes) -> Points:
    """The middle of the outlines: (1, 2) lon/lat degrees."""
    west, south, east, north = need("shapely", "osm").bounds(shapes).T
    middles = lonlat(lon=(west + east) / 2, lat=(south + north) / 2, where="region")
    return from_unit_sphere(unit_sphere(middles).sum(axis=0, keepdims=True))


def _in_km(shapes: Shapes, centre: Points) -> Shapes:
    """East and north of the centre in km."""
    return np.asarray(need("shapely", "osm").transform(shapes, lambda points: local_km(points, centre)))


def _entities_entry(entities: EntityLayer, centre: Points) -> dict[str, Any]:
    """Large areas first, points last: what is drawn later, and found first under the pointer, is smaller."""
    shapely = need("shapely", "osm")
    values, shapes = _checked("entity", entities.ids, entities.geometries, entities.vectors, labels=entities.labels)
    shapes = shapely.simplify(_in_km(shapes, centre), SIMPLIFIED_KM)
    order = np.lexsort(
        [-shapely.area(shapes), shapely.get_dimensions(shapes) != AREA, shapely.get_dimensions(shapes) == 0]
    )
    labels = None if entities.labels is None else [entities.labels[i] for i in order]
    colours = entity_colours(values[order], shapely.get_coordinates(shapely.centroid(shapes[order])))
    entry = _layer_entry([entities.ids[i] for i in order], shapes[order], values[order], colours)
    return {**entry, "labels": names_entry(labels), "counts": None}


def _layer_entry(
    ids: Sequence[str], shapes_km: Shapes, vectors: Floats, colours: NDArray[np.uint8], shares: Sequence[float] = ()
) -> dict[str, Any]:
    """`shares`: of the variance that colours show, where they are principal components."""
    scores = quantise(vectors, np.full(len(vectors), 1 / len(vectors)), COMPONENTS)
    return {
        **scores_entry(scores),
        "count": len(vectors),
        "dimensions": vectors.shape[1],
        "cosine_error": round(cosine_error(vectors, scores), 5),
        "ids": [str(identity) for identity in ids],
        "labels": None,
        "colours": pack(colours),
        "colour_shares": [round(float(share), 5) for share in shares],
        "shapes": _shapes_entry(shapes_km),
    }


def _shapes_entry(shapes_km: Shapes) -> dict[str, str]:
    """Points, lines and rings one after the other: their kind, shape and number of vertices, and steps between these.

    Steps are whole units from the vertex before, that of another part too: small numbers, which compress well.
    """
    shapely = need("shapely", "osm")
    parts, rows = simple_parts(shapes_km)
    kinds = shapely.get_dimensions(parts)
    rings, polygons = shapely.get_rings(parts, return_index=True)
    other = np.flatnonzero(kinds != AREA)
    outlines, owners = np.concatenate([rings, parts[other]]), np.concatenate([polygons, other])
    order = np.argsort(owners, kind="stable")
    outlines, owners = outlines[order], owners[order]
    vertices = np.rint(shapely.get_coordinates(outlines) / UNIT_KM)
    steps = np.diff(vertices, axis=0, prepend=0)
    return {
        "kinds": pack(kinds[owners].astype("u1")),
        "rows": pack(rows[owners].astype("<u4")),
        "lengths": pack(shapely.get_num_coordinates(outlines).astype("<u4")),
        "steps": pack(np.ascontiguousarray(steps.T).astype("<i4")),
    }
