"""Small OpenStreetMap files, written by osmium in the format that the file's ending tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import osmium
from osmium.osm.mutable import Node, Relation, Way


class N(NamedTuple):
    id: int
    lon: float
    lat: float
    tags: Mapping[str, str] = {}


class W(NamedTuple):
    id: int
    nodes: Sequence[int]
    tags: Mapping[str, str] = {}


class R(NamedTuple):
    id: int
    members: Sequence[tuple[str, int, str]]
    tags: Mapping[str, str] = {}


def write(path: Path, *things: N | W | R) -> Path:
    """Write the things in the order given."""
    with osmium.SimpleWriter(str(path), overwrite=True) as writer:
        for thing in things:
            tags = dict(thing.tags)
            if isinstance(thing, N):
                writer.add_node(Node(id=thing.id, version=1, location=(thing.lon, thing.lat), tags=tags))
            elif isinstance(thing, W):
                writer.add_way(Way(id=thing.id, version=1, nodes=list(thing.nodes), tags=tags))
            else:
                writer.add_relation(Relation(id=thing.id, version=1, members=list(thing.members), tags=tags))
    return path


def square(first: int, lon: float = 0.0, lat: float = 0.0, side: float = 1.0) -> list[N]:
    """Four nodes, counted from `first`, anticlockwise from the lower left."""
    corners = [(0, 0), (side, 0), (side, side), (0, side)]
    return [N(first + i, lon + x, lat + y) for i, (x, y) in enumerate(corners)]


def ring(first: int) -> list[int]:
    """The nodes of a closed way round `square(first)`."""
    return [first, first + 1, first + 2, first + 3, first]
