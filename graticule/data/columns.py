"""Which columns of a table hold the place, the text and the name of a row, and whether the place can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from graticule.errors import CoordinateError, DataError, need
from graticule.geo.coords import Points

LON = ("lon", "longitude", "lng", "long", "x")
LAT = ("lat", "latitude", "y")
TEXT = ("text", "description", "byline", "abstract", "name", "title")
ID = ("id", "pageid", "page_id", "osm_id", "uid", "uuid", "fid")
GEOMETRY = ("geometry", "geom", "wkb_geometry")
MISSING = ("", "nan", "null", "none", "na", "n/a")  # what an empty number is called in CSV


@dataclass(frozen=True)
class Place:
    """Where a row's coordinate stands: in two columns, or in one of geometries."""

    lon: str | None = None
    lat: str | None = None
    geometry: str | None = None


def guess(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The first column that carries one of `names` (whatever the case), in the order of `names`."""
    found = {column.strip().lower(): column for column in reversed(columns)}
    return next((found[name] for name in names if name in found), None)


def place(columns: Sequence[str], geometries: Sequence[str], lon: str | None, lat: str | None, where: str) -> Place:
    """Find the coordinate of a table with these `columns`, of which `geometries` hold geometries.

    Names given by the caller win, then a geometry column, then the usual names.
    Raises DataError with the columns that are there.
    """
    if lon is None and lat is None and (geometry := guess(geometries, GEOMETRY)):
        return Place(geometry=geometry)
    x, y = lon or guess(columns, LON), lat or guess(columns, LAT)
    if x not in columns or y not in columns:
        absent = " or ".join(repr(name) for name in (lon, lat) if name and name not in columns)
        missing = f"no column {absent}" if absent else "no coordinates"
        raise DataError(f"{where} has {missing}. Its columns: {', '.join(columns)}. Say which: lon=NAME, lat=NAME.")
    return Place(x, y)


def number(value: Any) -> float:
    """The float of a cell; NaN where it is empty. Raises ValueError when it is not a number."""
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (str, int, float, np.number)):
        try:
            return float(value)  # Decimal and its like
        except TypeError as error:
            raise ValueError(f"{value!r} is not a number") from error
    return float(value)


def possible(lon: float, lat: float) -> bool:
    """Whether these are degrees: latitude within 90, longitude within 360; never for NaN."""
    return abs(lat) <= 90 and abs(lon) <= 360


def refuse(lon: float, lat: float, where: str) -> NoReturn:
    """Raise the CoordinateError for a pair that is not `possible`."""
    if not (math.isfinite(lon) and math.isfinite(lat)):
        raise CoordinateError(
            f"lon and lat must be finite numbers; {where} has lon={lon:g}, lat={lat:g}. Drop or fill such rows."
        )
    if abs(lat) > 90:
        hint = " Are lon and lat swapped?" if abs(lat) <= 360 and abs(lon) <= 90 else " Are they in metres?"
        raise CoordinateError(f"lat must lie in [-90, 90] degrees; {where} has lon={lon:g}, lat={lat:g}.{hint}")
    raise CoordinateError(f"lon must lie in [-360, 360] degrees; {where} has lon={lon:g}. Is it in metres?")


def wrapped(lon: float) -> float:
    """A longitude within [-180, 180), as everywhere in the library."""
    return lon if -180 <= lon < 180 else (lon + 180) % 360 - 180


def geometry_point(geometry: Any) -> tuple[float, float]:
    """(lon, lat) of a GeoJSON geometry (dict) or of WKB (bytes); NaN where it is null or empty.

    A point is itself; any other geometry gives a point that lies on it (shapely).
    Raises ValueError for what is no geometry.
    """
    if geometry is None:
        return math.nan, math.nan
    if isinstance(geometry, bytes):
        lon, lat = wkb_points([geometry])[0]
        return float(lon), float(lat)
    if not isinstance(geometry, dict):
        raise ValueError(f"{geometry!r} is not a geometry")
    coordinates = geometry.get("coordinates")
    if geometry.get("type") == "Point" and isinstance(coordinates, list):
        return (number(coordinates[0]), number(coordinates[1])) if len(coordinates) >= 2 else (math.nan, math.nan)
    shape = need("shapely.geometry", "data").shape
    try:
        point = shape(geometry).representative_point()
    except Exception as error:  # shapely raises its own, AttributeError, TypeError, KeyError
        raise ValueError(f"not a geometry: {error}") from error
    return (math.nan, math.nan) if point.is_empty else (float(point.x), float(point.y))


def wkb_points(values: Sequence[bytes | None]) -> Points:
    """WKB geometries -> (n, 2) lon/lat; NaN for null and empty. Plain points need no shapely."""
    point = np.array([v is not None and len(v) == 21 and v[:5] == b"\x01\x01\x00\x00\x00" for v in values], dtype=bool)
    result = np.full((len(values), 2), np.nan)
    packed = b"".join(v[5:] for v, plain in zip(values, point, strict=True) if plain and v is not None)
    result[point] = np.frombuffer(packed, dtype="<f8").reshape(-1, 2)
    rest = {i: value for i, value in enumerate(values) if value is not None and not point[i]}
    if rest:
        result[list(rest)] = _representative(list(rest.values()))
    return result


def _representative(values: list[bytes]) -> NDArray[np.float64]:
    shapely = need("shapely", "data")
    try:
        points = shapely.point_on_surface(shapely.from_wkb(values))
    except shapely.errors.ShapelyError as error:
        raise ValueError(f"not a geometry: {error}") from error
    return np.stack([shapely.get_x(points), shapely.get_y(points)], axis=-1)
