"""The entities of an OpenStreetMap extract: tagged nodes, ways and relations with their geometries."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graticule.data.osm.areas import is_area
from graticule.data.osm.entities import Entities, Ledger
from graticule.data.osm.extract import Extract, tags_of
from graticule.data.osm.relations import Relations
from graticule.data.osm.shapes import MISSING_NODES, Shape, chunks, way_line
from graticule.data.osm.tags import DROPPED_KEYS, Keep, keeper, kept_or_dropped, note_cut
from graticule.errors import DataError


def read_entities(
    path: str | Path, *, ledger: Ledger, dropped_keys: Sequence[str] = DROPPED_KEYS, chunk: int = 10_000
) -> Iterator[Entities]:
    """The entities of an extract, streamed in chunks of at most `chunk`: nodes, then ways, then relations.

    path: .osm.pbf, .osm.gz, .osm.bz2 or .osm. What becomes of every id goes to `ledger`. dropped_keys: patterns of
    keys that are left out, see `kept_tags`; what has no tag left is no entity.

    A tagged node is a Point. A way is a LineString, and a Polygon if it is closed and an area (`is_area`); nodes
    that follow each other at one place count once. A relation of type multipolygon or boundary is a (Multi)Polygon
    with holes, and without closed rings what other relations are: the lines of its member ways, merged, or without
    ways its member nodes (MultiPoint). Members that are relations are not followed. Places outside of +-180, +-90
    count as missing. Polygons that are not valid are mended (shapely.make_valid, what is an area of it).

    Several passes are made over the file, so nodes may stand behind ways, and ids in any order. Of an id that occurs
    again the first is kept. Memory is that of a chunk, of the places of the nodes (16 bytes each, on disk for files
    above 200 MB), of the ids of ways and tagged nodes (8 bytes each) and of the members of relations.
    Raises DataError for a file that cannot be read, see `Extract`, and for ids below 0.
    """
    if chunk < 1:
        raise DataError(f"A chunk needs at least 1 entity, got {chunk}.")
    return _entities(Extract(path), ledger, keeper(tuple(dropped_keys)), chunk)


def _entities(extract: Extract, ledger: Ledger, keep: Keep, chunk: int) -> Iterator[Entities]:
    found = Tagged(extract, ledger, keep)
    relations = Relations(extract, ledger, keep)
    relations.select()
    for shapes in (_nodes(found), _ways(found), relations.areas(), relations.rest()):
        yield from chunks(shapes, ledger, chunk)


class Tagged:
    """The objects of a kind that have a tag to keep; the others are counted."""

    def __init__(self, extract: Extract, ledger: Ledger, keep: Keep) -> None:
        self.extract, self.ledger, self.keep = extract, ledger, keep

    def objects(self, kind: str, *handlers: Any) -> Iterator[tuple[Any, str, dict[str, str], dict[str, str]]]:
        """(object, its id, all its tags, those that are kept)."""
        seen = Seen()
        for thing in self.extract.objects(kind, *handlers):
            number = thing.id
            identity = f"{kind}/{number}"
            if number < 0:
                raise self.extract.negative(identity)
            self.ledger.found[kind] += 1
            if seen.again(number):
                self.ledger.drop(identity, "id occurs again")
                continue
            tags = tags_of(thing)
            if kept := kept_or_dropped(self.ledger, identity, tags, self.keep):
                yield thing, identity, tags or {}, kept
        if kind == "way":
            self.extract.ways_ascend = seen.ascending


class Seen:
    """Which ids have occurred: eight bytes each while they ascend, a set from where they do not."""

    def __init__(self) -> None:
        self.ascending = True
        self.last = -1
        self.numbers = array("q")
        self.numbers_set: set[int] = set()

    def again(self, number: int) -> bool:
        """Whether this id has occurred before."""
        if self.ascending:
            if number > self.last:
                self.last = number
                self.numbers.append(number)
                return False
            self.ascending = False
            self.numbers_set = set(self.numbers)
            self.numbers = array("q")
        before = number in self.numbers_set
        self.numbers_set.add(number)
        return before


def _nodes(found: Tagged) -> Iterator[Shape]:
    extract, ledger = found.extract, found.ledger
    tagged = extract.osmium.filter.EmptyTagFilter()
    wkb = extract.osmium.geom.WKBFactory().create_point
    before = ledger.found["node"]
    for node, identity, tags, kept in found.objects("node", extract.places, tagged):
        if node.location.valid():
            note_cut(ledger, identity, tags, kept)
            yield Shape(identity, kept, bytes.fromhex(wkb(node)), False)
        else:
            ledger.drop(identity, "no place")
    untagged = extract.node_count() - (ledger.found["node"] - before)
    ledger.found["node"] += untagged
    if untagged:
        ledger.dropped["node", "no tags"] += untagged


def _ways(found: Tagged) -> Iterator[Shape]:
    extract, ledger = found.extract, found.ledger
    for way, identity, tags, kept in found.objects("way", extract.places):
        line = way_line(extract, way)
        if line is None:
            ledger.drop(identity, "fewer than two located nodes")
            continue
        if line.missing:
            ledger.note(identity, MISSING_NODES)
        if line.points < 2:
            ledger.note(identity, "way at one place, kept as a point")
        note_cut(ledger, identity, tags, kept)
        yield Shape(identity, kept, line.wkb, line.closed and is_area(tags))
