"""Natural photos with a place: a folder of pictures with GPS EXIF, or a table of path, lon and lat."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from graticule.data.columns import ID, guess, place, wrapped
from graticule.data.formats import open_table
from graticule.data.source import Row, Skip, Source
from graticule.data.tables import located
from graticule.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
PATH = ("path", "file", "filename", "file_name", "filepath", "photo", "image")
GPS, ORIENTATION, QUALITY = 0x8825, 0x0112, 90
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)


def photos(path: str | Path, *, licence: str = "unknown", size: int = 336) -> Source:
    """Photos as upright RGB JPEG bytes with the short side reduced to `size` pixels, without their EXIF.

    path: a folder, searched recursively in sorted order, whose JPEG, PNG and TIFF files carry GPS EXIF; or a
    table with columns path (relative to the table), lon and lat. Pictures without GPS, with GPS 0, 0 or
    unreadable are skipped. Raises DataError for a folder without pictures or a table without these columns.
    """
    root = Path(path)
    if size < 1:
        raise DataError(f"size must be at least 1 pixel, got {size}.")
    about: dict[str, Any] = {"reader": "photos", "path": root.name, "size": size}
    if not root.is_dir():
        return _from_table(root, about, licence, size)
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise DataError(f"{root} holds no pictures ({', '.join(SUFFIXES)}).")

    def records(start: int) -> Iterator[Row | Skip]:
        for file in islice(files, start, None):
            yield _photo(file, file.relative_to(root).as_posix(), None, size)

    return Source("photo", records, about, tuple(files), licence, len(files))


def _from_table(path: Path, about: dict[str, Any], licence: str, size: int) -> Source:
    table = open_table(path)
    where, column = place(table.columns, table.geometries, None, None, str(path)), guess(table.columns, PATH)
    if column is None:
        raise DataError(f"{path} has no column {' or '.join(PATH)}. Its columns: {', '.join(table.columns)}.")
    key = guess(table.columns, ID) or column

    def records(start: int) -> Iterator[Row | Skip]:
        for row, raw in islice(enumerate(table.raw()), start, None):
            at, fields = f"{path}:{row}", table.decode(raw)
            if isinstance(fields, str):
                yield Skip(fields, at)
            elif not fields.get(column):
                yield Skip("no path", at)
            elif isinstance(point := located(fields, where, at), Skip):
                yield point
            else:
                yield _photo(path.parent / str(fields[column]), str(fields.get(key) or row), point, size)

    return Source("photo", records, about, (path,), licence, table.length)


def _photo(file: Path, name: str, point: tuple[float, float] | None, size: int) -> Row | Skip:
    """One picture at `point`, or at the place its EXIF names."""
    try:
        with Image.open(file) as image:
            place = point or gps(image)
            if isinstance(place, str):
                return Skip(place, str(file))
            if image.mode.startswith(("I", "F")):
                return Skip("pixels of more than 8 bits", str(file))
            return Row(name, *place, jpeg(image, size))
    except FileNotFoundError:
        return Skip("no such file", str(file))
    except UNREADABLE:
        return Skip("unreadable picture", str(file))


def jpeg(image: Image.Image, size: int) -> bytes:
    """The picture upright, RGB, its short side at most `size` pixels, as JPEG bytes without EXIF."""
    image.draft("RGB", (size, size))  # JPEG decodes at 1/2, 1/4 or 1/8 at no cost
    upright = ImageOps.exif_transpose(image).convert("RGB")
    scale = size / min(upright.size)
    if scale < 1:
        width, height = (max(size, round(side * scale)) for side in upright.size)
        upright = upright.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def gps(image: Image.Image) -> tuple[float, float] | str:
    """(lon, lat) of the picture's GPS EXIF in degrees, or why there is none."""
    tags = image.getexif().get_ifd(GPS)
    if not tags or 2 not in tags or 4 not in tags:
        return "no GPS"
    try:
        lat = _degrees(tags[2]) * {"N": 1, "S": -1}[_letter(tags[1])]
        lon = _degrees(tags[4]) * {"E": 1, "W": -1}[_letter(tags[3])]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return "unreadable GPS"
    if not (math.isfinite(lon) and math.isfinite(lat)) or abs(lat) > 90 or abs(lon) > 180:
        return "unreadable GPS"
    return "GPS 0, 0" if lon == 0 and lat == 0 else (wrapped(lon), lat)


def _degrees(parts: Any) -> float:
    degrees, minutes, seconds = [*(float(part) for part in parts), 0.0, 0.0][:3]
    return degrees + minutes / 60 + seconds / 3600


def _letter(reference: Any) -> str:
    text = reference.decode("ascii", errors="replace") if isinstance(reference, bytes) else str(reference)
    return text.strip("\0 ").upper()[:1]
