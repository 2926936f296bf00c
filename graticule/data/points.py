"""Bare places: coordinates that carry nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from numpy.typing import ArrayLike

from graticule.data.source import Row, Skip, Source
from graticule.errors import DataError
from graticule.geo.coords import Points, lonlat, uniform_places


def points(*, lon: ArrayLike, lat: ArrayLike, ids: Sequence[str] | None = None, licence: str = "unknown") -> Source:
    """The given degrees as a source of kind "point"; ids are the numbers of the rows unless given.

    Raises CoordinateError for impossible degrees, DataError for another number of ids than places.
    """
    places = lonlat(lon=lon, lat=lat)
    if ids is not None and len(ids) != len(places):
        raise DataError(f"points needs one id a place: {len(places)} places, {len(ids)} ids.")
    names = None if ids is None else [str(name) for name in ids]
    digest = hashlib.blake2b(places.tobytes() + repr(names).encode(), digest_size=16).hexdigest()
    about = {"reader": "points", "n": len(places), "blake2b": digest}
    return _source(places, names, about, licence)


def uniform_points(n: int, seed: int = 0) -> Source:
    """`n` random places, uniform by area on the sphere, as a source of kind "point"."""
    if n < 0:
        raise DataError(f"uniform_points needs a number of places of at least 0, got {n}.")
    about = {"reader": "uniform_points", "n": n, "seed": seed}
    return _source(uniform_places(n, seed=seed), None, about, "CC0-1.0")


def _source(places: Points, names: list[str] | None, about: dict[str, object], licence: str) -> Source:
    def records(start: int) -> Iterator[Row | Skip]:
        for i in range(start, len(places)):
            yield Row(names[i] if names else str(i), float(places[i, 0]), float(places[i, 1]), None)

    return Source("point", records, about, licence=licence, total=len(places))
