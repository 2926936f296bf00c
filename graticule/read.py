"""All readers under one roof: `graticule.read.wikipedia(...)`. Each returns a source to give to `prepare`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from graticule.data.batches import table_places
from graticule.data.bluemarble import WORLD
from graticule.data.osm.source import osm
from graticule.data.photos import photos
from graticule.data.points import points, uniform_points
from graticule.data.rasters import raster
from graticule.data.sentinel2 import sentinel2
from graticule.data.source import Source
from graticule.data.stac import scene, stac_search
from graticule.data.tables import table
from graticule.data.wikipedia import wikipedia
from graticule.errors import DataError, SettingError, unknown
from graticule.geo.coords import Points, uniform_places

READERS: dict[str, Callable[..., Source]] = {
    "osm": osm,
    "photos": photos,
    "raster": raster,
    "scene": scene,
    "sentinel2": sentinel2,
    "stac": stac_search,
    "table": table,
    "wikipedia": wikipedia,
}
AT_PLACES = ("raster", "scene", "stac")  # readers that sample at places the user names
TABLES = (".csv", ".csv.gz", ".tsv", ".jsonl", ".jsonl.gz", ".parquet", ".geojson")
MAPS = (".osm", ".pbf", ".osm.gz", ".osm.bz2")
PICTURES = (".jpg", ".jpeg", ".png")


def source(spec: str, **options: Any) -> Source:
    """A source from the text of a command line: PATH, PATH,PATH or READER:PATH, and the reader's own options.

    Without READER it is told from the path. Readers that sample at places take them from
    `places`: a table, or `uniform:N` for N random places, uniform by area over the Earth.
    """
    reader, _, rest = spec.partition(":")
    if reader in READERS:
        paths = rest.split(",")
    else:
        paths = spec.split(",")
        reader = guess(Path(paths[0]))
    _known(reader, options)
    if reader in AT_PLACES:
        chosen = places(options.pop("places", None), paths[0])
        options |= {"lon": chosen[:, 0], "lat": chosen[:, 1]}
    if isinstance(options.get("bounds"), str):
        options["bounds"] = _bounds(options["bounds"])
    try:
        return READERS[reader](paths[0] if len(paths) == 1 else paths, **options)
    except TypeError as error:
        raise SettingError(f"Reader {reader!r} of {paths[0]}: an option is of the wrong type ({error}).") from error


def _known(reader: str, options: Iterable[str]) -> None:
    valid = set(list(inspect.signature(READERS[reader]).parameters)[1:])
    if reader in AT_PLACES:
        valid = valid - {"lon", "lat"} | {"places"}
    for option in options:
        if option not in valid:
            raise unknown(f"option of the reader {reader!r}", option, valid)


def guess(path: Path) -> str:
    """The reader that a path asks for."""
    name = path.name.lower()
    if path.is_dir():
        if (path / "index.csv").exists() or any(path.glob("*.tif")) or (path / "images").is_dir():
            return "sentinel2"
        return "photos"
    if not path.exists():
        raise DataError(f"{path} does not exist. A reader's name may stand before a path, as in raster:world.tif.")
    if name.endswith(MAPS):
        return "osm"
    if name.endswith((".xml", ".xml.bz2", ".xml.gz", ".bz2")):
        return "wikipedia"
    if name.endswith(TABLES):
        return "table"
    if name.endswith((".tif", ".tiff", *PICTURES)):
        return "raster"
    raise unknown("kind of file", path.suffix or name, [*TABLES, *MAPS, ".xml.bz2", ".tif", *PICTURES])


def places(spec: str | None, what: str) -> Points:
    """(n, 2) degrees from a table's path or `uniform:N`."""
    if spec is None:
        raise DataError(f"{what} is sampled at places: give NAME.places=TABLE or NAME.places=uniform:20000.")
    kind, _, number = str(spec).partition(":")
    if kind == "uniform":
        if not number.isdecimal():
            raise SettingError(f"Expected places=uniform:N with a whole number N, got {spec!r}.")
        return uniform_places(int(number), seed=0)
    chosen = table_places(spec)
    if not len(chosen):
        raise DataError(f"{spec} has no rows: there is no place to sample {what} at.")
    return chosen


def _bounds(text: str) -> tuple[float, ...]:
    if text == "world":
        return WORLD
    try:
        west, south, east, north = (float(v) for v in text.split("/"))
    except ValueError as error:
        raise SettingError(f"bounds must be world or west/south/east/north in degrees, got {text!r}.") from error
    return (west, south, east, north)


__all__ = [
    "osm", "photos", "points", "raster", "scene", "sentinel2", "source", "stac_search", "table", "uniform_points",
    "wikipedia",
]  # fmt: skip
