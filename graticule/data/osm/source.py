"""OpenStreetMap extracts as rows of regions: read, cut to regions, grouped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from graticule.data.compressed import form, stem
from graticule.data.osm.entities import Entities, Ledger
from graticule.data.osm.rows import OWN_SHARE, Choice, Counts, ImageOf, records
from graticule.data.osm.spill import Group, grouped
from graticule.data.source import Row, Skip, Source
from graticule.errors import DataError, need
from graticule.geo.partition import Keys, Members, Partition, partition
from graticule.geo.partition_base import MOST_REGIONS

as_json = json.JSONEncoder(ensure_ascii=False).encode
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

    An entity is in every region that it has a part in, cut to it. Broad ones, whose bounding boxes have room for more
    than eight regions, are cut to regions that can have `least` of their own; others with nothing else count as empty.
    What became of every id of the files is in the source's ledger after the last row. Raises DataError for files that
    are not there or cannot be read, and for images that show none of the regions.
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
            parts = _parts(read(path, ledger), regions, counts, choice.least)
            groups = _in_order(grouped(parts, Path(folder)))
            every = _listed(_seen(groups, regions, counts), regions.all_keys())
            yield from records(every, name, regions, choice, counts, image_of)
    if image_of is not None and counts.kept and not counts.covered:
        raise DataError(f"The images show none of the {counts.kept:,} regions of the extract: do they overlap?")
    told.update(entities=ledger.as_json(), regions=counts.as_json())


def _parts(chunks: Iterator[Entities], regions: Partition, counts: Counts, least: int) -> Iterator[pa.Table]:
    """Tables of the parts of entities, with the key of their region and the entity's number in the file.

    Broad entities wait for the end, when it is known which regions can have `least` entities of their own, and are cut
    to these only: to cut borders and archipelagos to thousands of tiles of open sea takes longer than all else.
    """
    waiting: list[tuple[Entities, NDArray[np.int64]]] = []
    own: Counter[int] = Counter()  # region -> entities of its own, at most
    first = 0
    for entities in chunks:
        numbers = np.arange(first, first + len(entities))
        first += len(entities)
        geometry = entities.geometry.copy()
        waits = np.zeros(len(entities), bool)
        if least:
            keys, waits = _broad(geometry, regions)
            own.update(keys.tolist())
            geometry[waits] = None
        members = regions.members(geometry)
        own.update(members.keys[members.shares >= OWN_SHARE].tolist())
        _note(entities, members, waits, counts)
        waiting.append((entities.take(np.flatnonzero(waits)), numbers[waits]))
        yield _table(entities, numbers, members)
    kept = np.array([key for key, count in own.items() if count >= least], dtype=np.int64)
    for entities, numbers in waiting:
        yield _table(entities, numbers, regions.members(entities.geometry, among=kept))


def _broad(geometry: NDArray[np.object_], regions: Partition) -> tuple[Keys, NDArray[np.bool_]]:
    """The regions that broad shapes can be the own of, once a shape, and which shapes wait.

    What meets too many regions to be cut at all does not wait, nor what meets none or has to be mended.
    """
    waits = regions.thin(geometry, OWN_SHARE)
    rows = np.flatnonzero(regions.broad(geometry) & ~waits)
    rows = rows[need("shapely", "osm").is_valid(geometry[rows])]
    of, keys = regions.near(geometry[rows])
    waits[waits] = ~regions.thin(geometry[waits], 1 / MOST_REGIONS)
    waits[rows[of]] = True
    return keys, waits


def _note(entities: Entities, members: Members, waiting: NDArray[np.bool_], counts: Counts) -> None:
    """Count the entities of a chunk that are not simply in one region; those that wait are in many."""
    number = np.bincount(members.rows, minlength=len(entities))
    number[waiting] = 2
    outside = number == 0
    outside[members.too_wide] = False
    for what, rows in (
        ("outside of all regions", np.flatnonzero(outside)),
        (f"left out: in more than {MOST_REGIONS:,} regions", members.too_wide),
        ("in many regions, cut to those that are kept", np.flatnonzero(waiting)),
        ("not valid, mended to be cut", members.mended),
        ("in several regions", np.flatnonzero(number > 1)),
    ):
        counts.count(what, [entities.ids[i] for i in rows])


def _table(entities: Entities, numbers: NDArray[np.int64], members: Members) -> pa.Table:
    """The parts of entities; `numbers` are those of the entities in their file."""
    rows = members.rows.tolist()
    tags = {row: as_json(entities.tags[row]) for row in set(rows)}
    return pa.table(
        {
            "key": pa.array(members.keys, pa.int64()),
            "number": pa.array(numbers[members.rows], pa.int64()),
            "id": pa.array([entities.ids[row] for row in rows], pa.string()),
            "tags": pa.array([tags[row] for row in rows], pa.string()),
            "geometry": pa.array(need("shapely", "osm").to_wkb(members.geometry).tolist(), pa.binary()),
            "share": pa.array(members.shares, pa.float64()),
        }
    )


def _in_order(groups: Iterator[Group]) -> Iterator[Group]:
    """The same groups, the parts of each in order of the numbers that they begin with, without these."""
    for key, parts in groups:
        yield key, [part[1:] for part in sorted(parts, key=itemgetter(0))]


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
