"""The relations of an extract: which become entities, and their areas, lines or points."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any, NamedTuple

from graticule.data.osm.entities import Ledger
from graticule.data.osm.extract import Extract, tags_of
from graticule.data.osm.shapes import Shape, way_line
from graticule.data.osm.tags import Keep, kept_or_dropped, note_cut
from graticule.errors import need

AREA_TYPES = ("multipolygon", "boundary")
# Types that say something about other entities and have no geometry of their own.
WITHOUT_GEOMETRY = (
    *("restriction*", "no_*", "only_*", "route_master", "superroute", "network", "enforcement", "connectivity"),
    *("destination_sign", "turnlanes*", "provides_feature", "collection", "person", "operators", "stop_area_group"),
    *("public_transport_network", "election", "defaults", "right_of_way", "give_way", "dual_carriageway_link"),
)


class Members(NamedTuple):
    """A relation whose geometry is made of its members."""

    identity: str
    tags: dict[str, str]  # not only those that are kept
    area: bool
    ways: tuple[int, ...]
    nodes: tuple[int, ...]
    relations: bool  # it has members that are relations


class Relations:
    """`select` first, then the nodes' pass over the extract, then `areas`, then `rest`."""

    def __init__(self, extract: Extract, ledger: Ledger, keep: Keep) -> None:
        self.extract, self.ledger, self.keep = extract, ledger, keep
        self.area_ids: set[int] = set()  # to be assembled; those that could not be remain
        self.rest_ids: set[int] = set()
        self.area_ways = array("q")

    def select(self) -> None:
        """Count all relations, drop those that cannot be entities, and remember the ids of the others."""
        seen: set[int] = set()
        for relation in self.extract.objects("relation"):
            identity = f"relation/{relation.id}"
            if relation.id < 0:
                raise self.extract.negative(identity)
            self.ledger.found["relation"] += 1
            if relation.id in seen:
                self.ledger.drop(identity, "id occurs again")
                continue
            seen.add(relation.id)
            tags = tags_of(relation)
            kind = (tags or {}).get("type", "")
            if any(fnmatch(kind, pattern) for pattern in WITHOUT_GEOMETRY):
                self.ledger.drop(identity, "relation type without a geometry of its own")
            elif not kept_or_dropped(self.ledger, identity, _telling(tags), self.keep):
                continue
            elif kind in AREA_TYPES:
                self.area_ids.add(relation.id)
                self.area_ways.extend(member.ref for member in relation.members if member.type == "w")
            else:
                self.rest_ids.add(relation.id)

    def areas(self) -> Iterator[Shape]:
        """The multipolygons and boundaries whose rings close, in the order in which their last way is met."""
        if not self.area_ways:
            return
        osmium = self.extract.osmium
        manager = osmium.area.AreaManager()
        self.extract.show("relation", osmium.filter.IdFilter(self.area_ids), manager.first_pass_handler())
        assembled = osmium.BufferIterator()
        second_pass = manager.second_pass_to_buffer(assembled)
        for _ in self.extract.ascending_ways(self.area_ways, self.extract.places, second_pass):
            yield from self._assembled(assembled)
        yield from self._assembled(assembled)

    def _assembled(self, areas: Any) -> Iterator[Shape]:
        osmium = self.extract.osmium
        wkb = osmium.geom.WKBFactory().create_multipolygon
        if not areas:
            return
        for area in areas:
            number = area.orig_id()
            if area.from_way() or number not in self.area_ids or area.num_rings()[0] == 0:
                continue
            self.area_ids.discard(number)
            identity, tags = f"relation/{number}", _telling(tags_of(area)) or {}
            yield Shape(identity, self._kept(identity, tags), bytes.fromhex(wkb(area)), False)

    def _kept(self, identity: str, tags: dict[str, str]) -> dict[str, str]:
        kept = self.keep(tags)
        note_cut(self.ledger, identity, tags, kept)
        return kept

    def rest(self) -> Iterator[Shape]:
        """The other relations, and the areas whose rings do not close, in the order of the file."""
        members = list(self._members(self.rest_ids | self.area_ids))
        lines = self._lines({way for relation in members for way in relation.ways})
        for relation in members:
            if shape := self._shape(relation, lines):
                yield shape

    def _members(self, ids: set[int]) -> Iterator[Members]:
        if not ids:
            return
        for relation in self.extract.objects("relation", self.extract.osmium.filter.IdFilter(ids)):
            if relation.id not in ids:
                continue  # an id that occurs again
            ids.discard(relation.id)
            identity = f"relation/{relation.id}"
            refs: dict[str, dict[int, None]] = {"n": {}, "w": {}, "r": {}}  # ordered, each once
            for member in relation.members:
                refs[member.type][member.ref] = None
            yield Members(
                identity,
                _telling(tags_of(relation)) or {},
                relation.id in self.area_ids,
                tuple(refs["w"]),
                tuple(refs["n"]),
                bool(refs["r"]),
            )

    def _lines(self, ways: set[int]) -> dict[int, bytes]:
        """The lines of these ways as well-known binary, those that the file has."""
        lines: dict[int, bytes] = {}
        if not ways:
            return lines
        wanted = self.extract.osmium.filter.IdFilter(ways)
        for way in self.extract.objects("way", wanted, self.extract.places):
            line = way_line(self.extract, way)
            if line is not None and line.points > 1 and way.id not in lines:
                lines[way.id] = line.wkb
        return lines

    def _shape(self, relation: Members, lines: dict[int, bytes]) -> Shape | None:
        shapely = need("shapely", "osm")
        identity = relation.identity
        present = [lines[way] for way in relation.ways if way in lines]
        if present:
            geometry = shapely.line_merge(shapely.multilinestrings(shapely.from_wkb(present)))
        else:
            places = [place for node in relation.nodes if (place := self.extract.place(node))]
            if not places:
                self.ledger.drop(identity, _without_members(relation))
                return None
            geometry = shapely.multipoints(places)
        if relation.area:
            self.ledger.note(identity, f"rings do not close, kept as {'lines' if present else 'points'}")
        if len(present) < len(relation.ways):
            self.ledger.note(identity, "members missing from the file")
        if relation.relations:
            self.ledger.note(identity, "members that are relations, not followed")
        return Shape(identity, self._kept(identity, relation.tags), shapely.to_wkb(geometry), False)


def _telling(tags: dict[str, str] | None) -> dict[str, str] | None:
    """The tags of a relation without the type that only says how its geometry is made."""
    if tags is None or tags.get("type") not in AREA_TYPES:
        return tags
    return {key: value for key, value in tags.items() if key != "type"}


def _without_members(relation: Members) -> str:
    if relation.ways or relation.nodes:
        return "members not in the file"
    return "members are relations only" if relation.relations else "no members"
