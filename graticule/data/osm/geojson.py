"""Map entities of GeoJSON files that tell their OpenStreetMap ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.data.compressed import opened
from graticule.data.osm.entities import Entities, Ledger
from graticule.data.osm.tags import DROPPED_KEYS, kept_tags
from graticule.errors import DataError, need
from graticule.geo.clip import homogeneous, own_dimension

LARGEST = 1_000_000_000  # bytes of text that is read at once
KINDS = {"n": "node", "w": "way", "r": "relation"}
PAIRS = (("osm_type", "osm_id"), ("@type", "@id"), ("type", "id"))
NAMES = ("@id", "id", "full_id", "osm_id")
IDENTITY = re.compile(r"([nwr])(?:ode|ay|elation)?/?(\d+)")
NO_TAGS = ("osm_type", "osm_id", "full_id", "id", "label")  # of converters and labelling tools
DEGREES = re.compile(r"(?:CRS84h?|EPSG:{1,2}(?:[\d.]+:)?4326|EPSG/0/4326)$", re.IGNORECASE)


def read_geojson(
    path: str | Path, *, ledger: Ledger, dropped_keys: Sequence[str] = DROPPED_KEYS, chunk: int = 10_000
) -> Iterator[Entities]:
    """The entities of a FeatureCollection (also .gz, .bz2), at most `chunk` at a time, in order of the file.

    An id is told by the properties `osm_type` and `osm_id` (`@type` and `@id`, `type` and `id`), or by `@id`, `id`,
    `full_id` or the feature's own id as "way/123" or "w123". The other properties that are not null are tags, those of
    a property `tags` where there is one; which are kept, `kept_tags` says. What is dropped and mended is counted in
    the ledger; a feature without an OSM id is "feature/NUMBER", counted from 0. The whole file is held in memory.

    Raises DataError for a file that is no GeoJSON, is not in lon/lat degrees (RFC 7946), or is larger than 1 GB.
    """
    features = _features(Path(path))
    seen: set[str] = set()
    for first in range(0, len(features), chunk):
        ids, tags, geometries = [], [], []
        for number, feature in enumerate(features[first : first + chunk], start=first):
            identity, properties = _identity(feature, number)
            ledger.found[identity.partition("/")[0]] += 1
            if identity.startswith("feature/"):
                ledger.drop(identity, "no OSM id")
            elif identity in seen:
                ledger.drop(identity, "id occurs again")
            elif not (feature.get("geometry") or {}):
                ledger.drop(identity, "no geometry")
            elif not (given := _tags(properties, identity, ledger)):
                ledger.drop(identity, "no tags")
            elif not (kept := kept_tags(given, dropped_keys)):
                ledger.drop(identity, "no tags left")
            else:
                ids.append(identity)
                tags.append(kept)
                geometries.append(json.dumps(feature["geometry"]))
            seen.add(identity)
        shapes = _shapes(ids, geometries, ledger)
        rows = [i for i, shape in enumerate(shapes) if shape is not None]
        ledger.kept.update(ids[i].partition("/")[0] for i in rows)
        if rows:
            yield Entities(tuple(ids[i] for i in rows), tuple(tags[i] for i in rows), shapes[rows])


def _features(path: Path) -> list[dict[str, Any]]:
    if path.is_file() and path.stat().st_size > LARGEST:
        raise DataError(
            f"{path} has {path.stat().st_size / 1e9:.1f} GB: GeoJSON is read at once, up to {LARGEST / 1e9:.0f} GB. "
            "Give the .osm.pbf extract instead, or cut the file in pieces."
        )
    try:
        with opened(path) as file:
            table = json.load(file)
    except ValueError as error:
        raise DataError(f"{path} is no GeoJSON: {error}.") from error
    features = table.get("features") if isinstance(table, dict) else None
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise DataError(f"{path} is no GeoJSON FeatureCollection: expected an object with a list of features.")
    named = ((table.get("crs") or {}).get("properties") or {}).get("name")
    if named is not None and not DEGREES.search(str(named)):
        raise DataError(f"{path} is in {named}, but GeoJSON is in lon/lat degrees: write it with to_crs('OGC:CRS84').")
    return features


def _identity(feature: Mapping[str, Any], number: int) -> tuple[str, dict[str, Any]]:
    """The id, "feature/NUMBER" without one of OpenStreetMap, and the properties that do not tell it."""
    properties = dict(feature.get("properties") or {})
    for kind, of in PAIRS:
        name = KINDS.get(str(properties.get(kind) or "")[:1].lower())
        value = properties.get(of)
        if name and isinstance(value, int | float | str) and re.fullmatch(r"\d+(\.0)?", str(value)):
            del properties[kind], properties[of]
            return f"{name}/{str(value).partition('.')[0]}", properties
    for value in (*(properties.get(name) for name in NAMES), feature.get("id")):
        if isinstance(value, str) and (match := IDENTITY.fullmatch(value)):
            return f"{KINDS[match[1]]}/{match[2]}", properties
    return f"feature/{number}", properties


def _tags(properties: Mapping[str, Any], identity: str, ledger: Ledger) -> dict[str, str]:
    inner = properties.get("tags")
    given = inner if isinstance(inner, dict) else {k: v for k, v in properties.items() if k not in NO_TAGS}
    tags = {}
    for key, value in given.items():
        if key.startswith("@") or value is None or value == "":
            continue
        if isinstance(value, dict | list):
            ledger.note(identity, "properties that are no tags left out")
        else:
            tags[key] = _text(value)
    return tags


def _text(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _shapes(ids: Sequence[str], texts: Sequence[str], ledger: Ledger) -> NDArray[np.object_]:
    """Valid geometries without heights; None for those that the ledger was told to drop."""
    shapely = need("shapely", "osm")
    column = np.array(texts, dtype=object)
    shapes: NDArray[np.object_] = shapely.force_2d(shapely.from_geojson(column, on_invalid="ignore"))
    for i in np.flatnonzero(shapely.is_missing(shapes)).tolist():
        ledger.drop(ids[i], "geometry that cannot be read")
    bounds = shapely.bounds(shapes)
    for i in np.flatnonzero((np.abs(bounds) > [360, 90, 360, 90]).any(axis=1)).tolist():
        ledger.drop(ids[i], "coordinates that are no degrees")
        shapes[i] = None
    there = np.flatnonzero(~shapely.is_missing(shapes))
    whole = homogeneous(shapes[there])
    broken = np.flatnonzero(~shapely.is_valid(whole) & ~shapely.is_missing(whole))
    dimension = shapely.get_dimensions(whole[broken])
    whole[broken] = own_dimension(shapely.make_valid(whole[broken]), dimension)
    for i in broken[~shapely.is_missing(whole[broken])].tolist():
        ledger.note(ids[int(there[i])], "geometry not valid, mended")
    for i in np.flatnonzero(shapely.is_missing(whole)).tolist():
        ledger.drop(ids[int(there[i])], "geometry without extent")
    shapes[there] = whole
    return shapes
