"""How far reading OpenStreetMap goes: a country-sized extract, and tokens of regions on one core.

    python -m benchmarks.osm_scale DATA [--scratch FOLDER] [--copies 36]

The extract is made from two real ones, Maldives and Nassau, repeated at other places with other ids, spread as widely
as those of OpenStreetMap. It is kept in the scratch folder and made only once, in about seven minutes. Every row is
measured in a process of its own. Writes benchmarks/osm_scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import osmium

from benchmarks.running import markdown
from graticule.data.osm.entities import Entities, Ledger
from graticule.data.osm.reader import read_entities

SOURCES = ("maldives-2023.osm.pbf", "nassau-2018.osm.pbf")
KINDS = {"node": osmium.osm.NODE, "way": osmium.osm.WAY, "relation": osmium.osm.RELATION}
LETTERS = {"n": "node", "w": "way", "r": "relation"}
LARGEST_ID = {"node": 12_000_000_000, "way": 1_300_000_000, "relation": 18_000_000}  # of all OpenStreetMap
TAG_DIM = 128
REGIONS_AT_ONCE = 64
LEAST = 5  # entities of a region, as in GeoJEPA

NOTE = """# Scale of OpenStreetMap reading

`python -m benchmarks.osm_scale DATA` ({cores} cores)

The country is Maldives and Nassau {copies} times over: {node:,} nodes, {way:,} ways, {relation:,} relations,
{mb:.0f} MB. Peak is the resident memory of the process, Python and all libraries included.

Tokens are made on one core, of slippy tiles of zoom 16 with at least 5 entities, with a table of tag vectors by hashed
n-grams; the time is that of reading, cutting and making tokens together. An entity is cut to every tile that it
touches: the borders and waters of Maldives touch 322,100 tiles, most of open sea.

"""


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


def reading(path: Path) -> dict[str, Any]:
    """Read all entities and let them go."""
    ledger = Ledger()
    count, seconds, cpu = timed(lambda: sum(map(len, read_entities(path, ledger=ledger))))
    return {"entities": count, "seconds": seconds, "cpu": cpu, "found": dict(ledger.found)}


def tokens(path: Path) -> dict[str, Any]:
    """Read all entities, cut them to regions and make tokens, on one core; the table of tags is made before."""
    from graticule.data.osm.source import osm
    from graticule.encoders.region import RegionTrunk
    from graticule.encoders.tags import TagTable
    from graticule.encoders.text import NgramTrunk
    from graticule.geo.region import Region

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    trunk = RegionTrunk(TagTable.build(counted(read_entities(path, ledger=Ledger())), NgramTrunk(), TAG_DIM))
    source = osm(path, least=LEAST)

    def run() -> int:
        regions = (row.content for row in source.rows() if isinstance(row.content, Region))
        batches = iter(lambda: list(islice(regions, REGIONS_AT_ONCE)), [])
        return sum(int(trunk(batch).offsets[-1]) for batch in batches)

    count, seconds, cpu = timed(run)
    kept = source.ledger()["entities"]["kept"] if source.ledger else {}
    return {"entities": sum(kept.values()), "tokens": count, "seconds": seconds, "cpu": cpu}


def counted(chunks: Iterator[Entities]) -> Counter[str]:
    """How often each "key=value" occurs."""
    return Counter(f"{key}={value}" for chunk in chunks for tags in chunk.tags for key, value in tags.items())


def timed(run: Callable[[], int]) -> tuple[int, float, float]:
    """What `run` returns, its seconds and its seconds of a processor."""
    began, cpu = time.monotonic(), time.process_time()
    count = run()
    return count, time.monotonic() - began, time.process_time() - cpu


PARTS = {"reading": reading, "tokens": tokens}


def peak_mb() -> float:
    """The most resident memory this process ever had; not that of the process it came from, as rusage has it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def alone(part: str, path: Path) -> dict[str, Any]:
    """A part of PARTS in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.osm_scale", str(path), "--part", part]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--copies", type=int, default=36)
    parser.add_argument("--part", choices=PARTS)
    asked = parser.parse_args()
    if asked.part:
        sys.stdout.write(json.dumps(PARTS[asked.part](asked.data) | {"peak_mb": peak_mb()}))
        return
    large = asked.scratch / f"country-{asked.copies}.osm.pbf"
    if not large.exists():
        unfinished = large.with_name(f"unfinished-{large.name}")
        country([asked.data / "osm" / name for name in SOURCES], unfinished, asked.copies)
        unfinished.rename(large)
    maldives, nassau = (asked.data / "osm" / name for name in SOURCES)
    jobs = (
        ("country", "reading", large),
        ("Maldives", "reading", maldives),
        ("Nassau", "tokens", nassau),
        ("Maldives", "tokens", maldives),
    )
    rows, found = [], {}
    for place, part, path in jobs:
        figures = alone(part, path)
        found[place] = figures.get("found", found.get(place))
        speed = figures["entities"] / figures["seconds"]
        count = [f"{figures[name]:,}" if name in figures else "" for name in ("entities", "tokens")]
        times = [f"{figures['seconds']:.1f}", f"{figures['cpu']:.1f}", f"{speed:,.0f}"]
        rows.append([f"{part}, {place}", *count, *times, f"{figures['peak_mb']:,.0f} MB"])
    note = NOTE.format(cores=os.cpu_count(), copies=asked.copies, mb=large.stat().st_size / 1e6, **found["country"])
    header = ["", "entities", "tokens", "seconds", "processor seconds", "entities/s", "peak"]
    Path(__file__).with_suffix(".md").write_text(note + markdown(header, rows))


if __name__ == "__main__":
    main()
