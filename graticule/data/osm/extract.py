"""An OpenStreetMap file: its nodes, ways or relations, one pass a kind, and where its nodes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from graticule.errors import DataError, need

FORMATS = {".pbf": "pbf", ".osm": "osm", ".osm.gz": "osm.gz", ".osm.bz2": "osm.bz2"}  # endings -> osmium's names
IN_MEMORY_BYTES = 200 << 20  # of larger files the places of nodes lie in a temporary file: 16 bytes a node
NODE_BYTES = 16


class Extract:
    """One file, read by osmium: `.osm.pbf`, `.osm.gz`, `.osm.bz2` or `.osm`; nodes may stand behind ways.

    Read the nodes first: ways are placed by `places`, which holds what the nodes' pass has found. Raises DataError
    for a file that is missing, empty, no OpenStreetMap file, a history of changes, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.osmium = need("osmium", "osm")
        self.path = Path(path)
        self.format = _format(self.path)
        if not self.path.is_file():
            raise DataError(f"There is no OpenStreetMap extract {self.path}.")
        size = self.path.stat().st_size
        if size == 0:
            raise DataError(f"{self.path} is empty: download it again.")
        in_memory = size < IN_MEMORY_BYTES
        self.table = self.osmium.index.create_map("sparse_mem_array" if in_memory else "sparse_file_array")
        self.places = self.osmium.NodeLocationsForWays(self.table)
        self.places.ignore_errors()
        self.line_wkb = self.osmium.geom.WKBFactory().create_linestring
        self.ways_ascend = True  # the ways' pass says when it finds them out of order
        self._refuse_history()

    def objects(self, kind: str, *handlers: Any) -> Iterator[Any]:
        """All objects of a kind ("node", "way", "relation") that pass `handlers`; each lives until the next one."""
        try:
            with self._reader(kind) as reader:
                yield from self.osmium.OsmFileIterator(reader, *handlers)
        except RuntimeError as error:
            raise self._damaged(error) from error

    def show(self, kind: str, *handlers: Any) -> None:
        """Let `handlers` see all objects of a kind, without giving them to Python."""
        try:
            with self._reader(kind) as reader:
                self.osmium.apply(reader, *handlers)
        except RuntimeError as error:
            raise self._damaged(error) from error

    def ascending_ways(self, ids: Sequence[int], *handlers: Any) -> Iterator[Any]:
        """These ways in the order of their ids, each once, through `handlers`; sorted in memory if the file is not."""
        osmium = self.osmium
        wanted = osmium.filter.IdFilter(ids)
        if self.ways_ascend:
            yield from self.objects("way", wanted, *handlers)
            return
        with TemporaryDirectory(prefix="graticule-osm-") as folder:
            picked, ascending = Path(folder, "picked.osm.pbf"), Path(folder, "ascending.osm.pbf")
            with osmium.WriteHandler(str(picked)) as writer:
                self.show("way", wanted, writer)
            merge = osmium.MergeInputReader()
            merge.add_file(str(picked))
            with osmium.WriteHandler(str(ascending)) as writer:
                merge.apply(writer)
            with osmium.io.Reader(str(ascending), osmium.osm.WAY) as reader:
                yield from osmium.OsmFileIterator(reader, *handlers)

    def node_count(self) -> int:
        """How many nodes the nodes' pass has found, with or without tags: the table has one entry a node."""
        return int(self.table.used_memory()) // NODE_BYTES

    def place(self, node: int) -> tuple[float, float] | None:
        """Longitude and latitude of a node in degrees, None when the file does not place it."""
        try:
            location = self.table.get(node)
        except KeyError:
            return None
        return (location.lon, location.lat) if location.valid() else None

    def negative(self, identity: str) -> DataError:
        """The error for an id below 0."""
        return DataError(
            f"{self.path} holds {identity}: ids below 0 are an editor's, without a place in OpenStreetMap. "
            "Renumber the file (osmium renumber), or download one."
        )

    def _reader(self, kind: str) -> Any:
        io = self.osmium.io
        return io.Reader(io.File(str(self.path), self.format), getattr(self.osmium.osm, kind.upper()))

    def _refuse_history(self) -> None:
        try:
            with self._reader("nothing") as reader:
                history = reader.header().has_multiple_object_versions
        except RuntimeError as error:
            raise self._damaged(error) from error
        if history:
            raise DataError(
                f"{self.path} is a history with several versions of an object: cut one moment out of it "
                "(osmium time-filter)."
            )

    def _damaged(self, error: RuntimeError) -> DataError:
        return DataError(
            f"{self.path} cannot be read as OpenStreetMap data ({error}): it is truncated, damaged or misnamed; "
            "download it again."
        )


def _format(path: Path) -> str:
    for ending, name in FORMATS.items():
        if path.name.lower().endswith(ending):
            return name
    raise DataError(f"{path} has an ending that tells no OpenStreetMap format: expected .osm.pbf, .osm.gz, .osm.bz2.")


def tags_of(thing: Any) -> dict[str, str] | None:
    """The tags of an osmium object; None when they are not UTF-8 (old files cut values within a character)."""
    tags = thing.tags
    try:
        return dict(islice(tags, len(tags)))  # by the count: the end of osmium's own iterator is an exception, and slow
    except UnicodeDecodeError:
        return None
