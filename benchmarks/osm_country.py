"""A made country: extracts of OpenStreetMap repeated at other places with other ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import osmium

KINDS = {"node": osmium.osm.NODE, "way": osmium.osm.WAY, "relation": osmium.osm.RELATION}
LETTERS = {"n": "node", "w": "way", "r": "relation"}
LARGEST_ID = {"node": 12_000_000_000, "way": 1_300_000_000, "relation": 18_000_000}  # of all OpenStreetMap


@dataclass(frozen=True)
class Numbers:
    """New ids of one copy of a source, in a range of its own, in the order of the old ones."""

    ranks: dict[str, dict[int, int]]  # kind -> old id -> its place in order
    copy: int
    copies: int  # of all sources

    def __call__(self, kind: str, old: int) -> int:
        room, ranks = LARGEST_ID[kind] // self.copies, self.ranks[kind]
        return self.copy * room + (1 + ranks[old]) * (room // (1 + len(ranks)))


def country(sources: Sequence[Path], path: Path, copies: int) -> None:
    """Write the sources `copies` times, sorted as extracts are: each copy has ids and longitudes of its own."""
    known, total = [ranks(source) for source in sources], copies * len(sources)
    with osmium.SimpleWriter(str(path), overwrite=True) as writer:
        for kind, copy, (number, source) in product(KINDS, range(copies), enumerate(sources)):
            new = Numbers(known[number], copy * len(sources) + number, total)
            for thing in osmium.FileProcessor(str(source), KINDS[kind]):
                if kind == "node":
                    place = ((thing.lon + copy * 360 / copies + 180) % 360 - 180, thing.lat)
                    writer.add_node(thing.replace(id=new(kind, thing.id), location=place))
                elif kind == "way":
                    nodes = [new("node", node.ref) for node in thing.nodes]
                    writer.add_way(thing.replace(id=new(kind, thing.id), nodes=nodes))
                else:
                    members = [(m.type, new(LETTERS[m.type], m.ref), m.role) for m in thing.members]
                    writer.add_relation(thing.replace(id=new(kind, thing.id), members=members))


def ranks(source: Path) -> dict[str, dict[int, int]]:
    """The place in order of every id that a file has or refers to."""
    ids: dict[str, set[int]] = {kind: set() for kind in KINDS}
    for thing in osmium.FileProcessor(str(source)):
        ids[LETTERS[thing.type_str()]].add(thing.id)
        if thing.is_way():
            ids["node"].update(node.ref for node in thing.nodes)
        elif thing.is_relation():
            for member in thing.members:
                ids[LETTERS[member.type]].add(member.ref)
    return {kind: {old: rank for rank, old in enumerate(sorted(found))} for kind, found in ids.items()}
