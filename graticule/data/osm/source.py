"""OpenStreetMap extracts as rows of regions: read, cut to regions, grouped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from graticule.data.compressed import form, stem
from graticule.data.osm.entities import Entities, Ledger
from graticule.data.osm.rows import Choice, Counts, ImageOf, records
from graticule.data.osm.spill import Group, grouped
from graticule.data.source import Row, Skip, Source
from graticule.errors import DataError, need
from graticule.geo.partition import Keys, Partition, partition
from graticule.geo.partition_base import MOST_REGIONS

LICENCE = "ODbL-1.0, OpenStreetMap contributors"

Read = Callable[[Path, Ledger], Iterator[Entities]]


def osm(
    paths: str | Path | Sequence[str | Path],
    *,
    cells: str | Path = "slippy:16",
    images: str | Path | Sequence[str | Path] | None = None,
    image_pixels: int = 64,
    image_km: float | None = None,
    image_bands: Sequence[int] | None = None,
    least: int = 1,
    most: int = 0,
    seed: int = 0,
    named: bool = False,
    dropped_keys: Sequence[str] | None = None,
) -> Source:
    """Regions of OpenStreetMap extracts: one row a region, in order of the regions, with all that lies in it.

    paths: .osm.pbf, .osm.gz, .osm.bz2 or GeoJSON files with OSM ids. With several, or with `named`, the ids of
    regions begin with the name of their file ("helsinki-2019/16/37309/18959"), and files are never merged.
    cells: "slippy:0" to "slippy:20", "h3:0" to "h3:15", or a file of polygons, see `graticule.geo.partition`.
    images: rasters and folders of them, see `graticule.data.osm.images`; every region gets `image_pixels` rows and
    columns of the bands `image_bands` of its own box, or of a square of `image_km` round its middle.
    least: regions with fewer entities of their own, of which at least a fiftieth lies in them, are skipped; 0 keeps
    all. most: of regions with more entities, as many are drawn at random.
    dropped_keys: tags that are left out, instead of the reader's own list.

    An entity is in every region that it has a part in, cut to it. What became of every id of the files is in the
    source's ledger after the last row. Raises DataError for files that are not there or cannot be read, and for
    images that show none of the regions.
    """
    files = tuple(Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths))
    names = _names(files, named)
    if least < 0 or most < 0 or (most and most < least):
        raise DataError(f"Regions need 0 <= least <= most (or most 0 for all), got least {least} and most {most}.")
    regions, choice = partition(cells), Choice(least, most, seed)
    image_of = None if images is None else _region_images(images, image_pixels, image_km, image_bands)
    about: dict[str, Any] = {
        "reader": "osm",
        "paths": [path.name for path in files],
        **regions.about,
        "least": least,
        "most": most,
        "seed": seed,
        "named": named or len(files) > 1,
        "dropped_keys": None if dropped_keys is None else list(dropped_keys),
    }
    read, bands = (*files, *regions.files), ()
    if image_of is not None:
        about |= {"images": image_of.about}
        read, bands = (*read, *image_of.files), image_of.bands
    told: dict[str, Any] = {}

    def read_from(start: int) -> Iterator[Row | Skip]:
        streams = zip(names, files, strict=True)
        yield from islice(_records(streams, _reader(dropped_keys), regions, choice, image_of, told), start, None)

    listed = regions.all_keys()
    total = None if listed is None else len(listed) * len(files)
    return Source("region", read_from, about, read, LICENCE, total, bands, ledger=lambda: dict(told))


def _names(files: Sequence[Path], named: bool) -> list[str]:
    """What the ids of each file's regions begin with."""
    if not files:
        raise DataError("osm needs at least one extract, got none.")
    for path in files:
        if not path.is_file():
            raise DataError(
                f"There is no OpenStreetMap extract {path}: expected .osm.pbf, .osm.gz, .osm.bz2 or GeoJSON."
            )
    if len(files) == 1 and not named:
        return [""]
    stems: dict[str, Path] = {}
    for path in files:
        if (name := stem(path)) in stems:
            raise DataError(f"{stems[name]} and {path} would give regions the same name {name!r}. Rename one of them.")
        stems[name] = path
    return [f"{name}/" for name in stems]


def _reader(dropped_keys: Sequence[str] | None) -> Read:
    options: dict[str, Any] = {} if dropped_keys is None else {"dropped_keys": tuple(dropped_keys)}

    def read(path: Path, ledger: Ledger) -> Iterator[Entities]:
        if form(path) in (".geojson", ".json"):
            from graticule.data.osm.geojson import read_geojson

            yield from read_geojson(path, ledger=ledger, **options)
            return
        from graticule.data.osm.reader import read_entities

        yield from read_entities(path, ledger=ledger, **options)

    return read


def _region_images(images: Any, pixels: int, window_km: float | None, bands: Sequence[int] | None) -> Any:
    from graticule.data.osm.images import region_images

    return region_images(images, pixels=pixels, window_km=window_km, bands=bands)


def _records(
    paths: Iterable[tuple[str, Path]],
    read: Read,
    regions: Partition,
    choice: Choice,
    image_of: ImageOf | None,
    told: dict[str, Any],
) -> Iterator[Row | Skip]:
    """One record a region of each file, whose ids begin with the file's name; at the end `told` holds the ledger."""
    ledger, counts = Ledger(), Counts()
    for name, path in paths:
        with TemporaryDirectory(prefix="graticule-osm-") as folder:
            groups = grouped(_parts(read(path, ledger), regions, counts), Path(folder))
            every = _listed(_seen(groups, regions, counts), regions.all_keys())
            yield from records(every, name, regions, choice, counts, image_of)
    if image_of is not None and counts.kept and not counts.covered:
        raise DataError(f"The images show none of the {counts.kept:,} regions of the extract: do they overlap?")
    told.update(entities=ledger.as_json(), regions=counts.as_json())


def _parts(chunks: Iterator[Entities], regions: Partition, counts: Counts) -> Iterator[pa.Table]:
    """One table a chunk: the parts of its entities, with the key of their region."""
    shapely = need("shapely", "osm")
    for entities in chunks:
        members = regions.members(entities.geometry)
        inside = np.zeros(len(entities), bool)
        inside[members.rows] = inside[members.too_wide] = True
        for what, rows in (
            ("outside of all regions", np.flatnonzero(~inside)),
            (f"left out: in more than {MOST_REGIONS:,} regions", members.too_wide),
            ("not valid, mended to be cut", members.mended),
            ("in several regions", np.flatnonzero(np.bincount(members.rows, minlength=len(entities)) > 1)),
        ):
            counts.count(what, [entities.ids[i] for i in rows])
        tags = np.array([json.dumps(t, ensure_ascii=False) for t in entities.tags], dtype=object)
        yield pa.table(
            {
                "key": pa.array(members.keys, pa.int64()),
                "id": pa.array(np.array(entities.ids, dtype=object)[members.rows], pa.string()),
                "tags": pa.array(tags[members.rows], pa.string()),
                "geometry": pa.array(shapely.to_wkb(members.geometry), pa.binary()),
                "share": pa.array(members.shares, pa.float64()),
            }
        )


def _seen(groups: Iterator[Group], regions: Partition, counts: Counts) -> Iterator[Group]:
    """The same groups; when they end, the empty regions round them are counted."""
    keys: list[int] = []
    for group in groups:
        keys.append(group[0])
        yield group
    empty = regions.empty(np.array(keys, dtype=np.int64))
    if empty is not None:
        counts.empty = (counts.empty or 0) + empty


def _listed(groups: Iterator[Group], keys: Keys | None) -> Iterator[Group]:
    """The groups, and one without rows for every region between them where the regions are listed."""
    if keys is None:
        yield from groups
        return
    rest = iter(keys.tolist())
    for key, parts in groups:
        yield from ((absent, []) for absent in iter(rest.__next__, key))
        yield key, parts
    yield from ((absent, []) for absent in rest)
