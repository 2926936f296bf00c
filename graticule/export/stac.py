"""Pieces of STAC documents: assets with checksums, boxes as shapes, times, names."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graticule.files import atomic_write

FILE_INFO = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
SHA2_256 = "1220"  # of a multihash: its number and its 32 bytes


def asset(path: Path, folder: Path, title: str, kind: str, roles: Sequence[str], **more: Any) -> dict[str, Any]:
    """A file beside or below the document in `folder`, with its size and its checksum as a multihash."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "href": relative(path, folder),
        "title": title,
        "type": kind,
        "roles": list(roles),
        "file:size": path.stat().st_size,
        "file:checksum": SHA2_256 + digest,
        **more,
    }


def relative(path: Path, folder: Path) -> str:
    """The reference to a file from a document in `folder`."""
    way = Path(os.path.relpath(path, folder)).as_posix()
    return way if way.startswith("../") else f"./{way}"


def shape(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    """A box in degrees as GeoJSON; one with west > east crosses the antimeridian and is cut there (RFC 7946, 3.1.9)."""
    if (west, south) == (east, north):
        return {"type": "Point", "coordinates": [west, south]}
    if west > east:
        halves = [_ring(west, south, 180.0, north), _ring(-180.0, south, east, north)]
        return {"type": "MultiPolygon", "coordinates": [[half] for half in halves]}
    return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def moment(seconds: float | None = None) -> str:
    """Seconds since 1970, or now, as a time of STAC."""
    when = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def plain_name(name: str) -> str:
    """A name as models may bear it: letters, digits, spaces and -_. alone, from a letter to a letter or digit."""
    plain = re.sub(r"[^a-zA-Z0-9_.\s-]+", "-", name).strip("-_. \t\n")
    return plain if re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\s-]+[a-zA-Z0-9]", plain) else f"graticule-{plain or 'model'}"


def write_document(path: Path, document: dict[str, Any]) -> Path:
    """Write an item or collection, whole or not at all."""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path
