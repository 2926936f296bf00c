"""How far OpenStreetMap goes: reading a country, tokens on one core, vectors of many regions, steps of many tokens.

    python -m benchmarks.osm_scale DATA [--scratch FOLDER] [--copies 36]

The extract is made from two real ones, Maldives and Nassau, repeated at other places with other ids, spread as widely
as those of OpenStreetMap. It is kept in the scratch folder and made only once, in about seven minutes. Every row is
measured in a process of its own. Writes benchmarks/osm_scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.osm_country import country
from benchmarks.running import markdown, peak_mb
from graticule.data.osm.entities import Entities, Ledger
from graticule.data.osm.reader import read_entities
from graticule.data.osm.source import osm

if TYPE_CHECKING:
    from graticule.geo.region import Region

SOURCES = ("maldives-2023.osm.pbf", "nassau-2018.osm.pbf")
TAG_DIM = 128
REGIONS_AT_ONCE = 64
LEAST = 5  # entities of a region, as in GeoJEPA
EMBEDDED = (250, 500, 1000, 2000)  # regions
BATCH_TOKENS = (2048, 4096, 8192, 16384)
WARM, STEPS = 2, 7  # of training: steps before, and steps that are measured

NOTE = """# Scale of OpenStreetMap

`python -m benchmarks.osm_scale DATA` ({cores} cores)

The country is Maldives and Nassau {copies} times over: {node:,} nodes, {way:,} ways, {relation:,} relations,
{mb:.0f} MB. Peak is the resident memory of the process, Python and all libraries included.

Tokens are made on one core, of slippy tiles of zoom 16 with at least {least} entities of their own, with a table of
tag vectors by hashed n-grams; the time is that of reading, cutting and making tokens together.

{reading}
## Embedding

Vectors of tiles of Maldives and Nassau by the model in the package, their tokens included, {threads} threads.

{embedding}
## Training

Steps of `JepaLearner` with its default options on tiles of Nassau, forward, backward and AdamW, {threads} threads:
median of {steps} steps. Tokens are those of a batch as drawn; the peak is that of all steps beyond what the process
held before the first.

{training}"""


def reading(path: Path) -> dict[str, Any]:
    """Read all entities and let them go."""
    ledger = Ledger()
    count, seconds, cpu = timed(lambda: sum(map(len, read_entities(path, ledger=ledger))))
    return {"entities": count, "seconds": seconds, "cpu": cpu, "found": dict(ledger.found)}


def tokens(path: Path) -> dict[str, Any]:
    """Read all entities, cut them to regions and make tokens, on one core; the table of tags is made before."""
    import pandas as pd  # noqa: F401  pyarrow loads it at its first array: not part of the time

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    trunk = region_trunk(path)
    source = osm(path, least=LEAST)

    def run() -> int:
        regions = (row.content for row in source.rows())
        batches = iter(lambda: list(islice(regions, REGIONS_AT_ONCE)), [])
        return sum(int(trunk(batch).offsets[-1]) for batch in batches)

    count, seconds, cpu = timed(run)
    kept = source.ledger()["entities"]["kept"] if source.ledger else {}
    return {"entities": sum(kept.values()), "tokens": count, "seconds": seconds, "cpu": cpu}


def embedding(path: Path, count: int) -> dict[str, Any]:
    """Vectors of `count` regions of the extracts in a folder, drawn at random, by the model in the package."""
    from graticule.encoders.region_vectors import INSIDE, encoded, saved

    regions = [region for name in SOURCES for region in tiles(path / name)]
    chosen = np.random.default_rng(0).permutation(len(regions))[:count]
    trunk, encoder, _ = saved(INSIDE)
    encoded(trunk, encoder, regions[:8])  # what is loaded at the first call
    base = reset_peak_mb()
    _, seconds, cpu = timed(lambda: len(encoded(trunk, encoder, [regions[i] for i in chosen])[0]))
    tokens = sum(len(regions[i]) for i in chosen)
    return {"regions": len(chosen), "tokens": tokens, "seconds": seconds, "cpu": cpu, "beyond_mb": peak_mb() - base}


def training(path: Path, batch_tokens: int) -> dict[str, Any]:
    """Steps of GeoJEPA on tiles of an extract in batches of `batch_tokens`."""
    import torch

    from graticule.data.loader import TokenSampler
    from graticule.geo.placed import Placed
    from graticule.learners.jepa import GEOJEPA, JepaLearner

    torch.manual_seed(0)
    tokens = region_trunk(path)(tiles(path))
    learner = JepaLearner.of(tokens, **GEOJEPA)
    optimiser = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad])
    lengths = np.minimum(tokens.lengths, learner.max_tokens)
    sampler = TokenSampler("osm", lengths, batch_tokens, 0)
    base = reset_peak_mb()

    def step(number: int) -> int:
        rows = sampler.draw(number)
        batch = Placed(torch.zeros(len(rows), 2, dtype=torch.float64), tokens.take(rows).to("cpu"))
        optimiser.zero_grad(set_to_none=True)
        learner.loss({"osm": batch})["loss"].backward()
        optimiser.step()
        learner.after_step(0.5)
        return int(lengths[rows].sum())

    steps = [timed(lambda number=number: step(number)) for number in range(WARM + STEPS)][WARM:]
    count, seconds, cpu = (statistics.median(values) for values in zip(*steps, strict=True))
    return {"batch": batch_tokens, "tokens": count, "seconds": seconds, "cpu": cpu, "beyond_mb": peak_mb() - base}


def region_trunk(path: Path) -> Any:
    """A trunk whose table knows all tags of an extract."""
    from graticule.encoders.region import RegionTrunk
    from graticule.encoders.tags import TagTable
    from graticule.encoders.text import NgramTrunk

    return RegionTrunk(TagTable.build(counted(read_entities(path, ledger=Ledger())), NgramTrunk(), TAG_DIM))


def tiles(path: Path) -> list[Region]:
    """The regions of an extract that have enough entities of their own."""
    return [row.content for row in osm(path, least=LEAST).rows()]


def counted(chunks: Iterator[Entities]) -> Counter[str]:
    """How often each "key=value" occurs."""
    return Counter(f"{key}={value}" for chunk in chunks for tags in chunk.tags for key, value in tags.items())


def timed(run: Callable[[], int]) -> tuple[int, float, float]:
    """What `run` returns, its seconds and its seconds of a processor."""
    began, cpu = time.monotonic(), time.process_time()
    count = run()
    return count, time.monotonic() - began, time.process_time() - cpu


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "reading": reading, "tokens": tokens, "embedding": embedding, "training": training
}  # fmt: skip


def reset_peak_mb() -> float:
    """What this process holds now; `peak_mb` forgets what it held before."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def alone(part: str, path: Path, count: int = 0) -> dict[str, Any]:
    """A part of PARTS in a process of its own, of so many regions or tokens where it asks for them."""
    command = [sys.executable, "-m", "benchmarks.osm_scale", str(path), "--part", part, "--count", str(count)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def reading_table(jobs: Sequence[tuple[str, str, Path]]) -> tuple[str, dict[str, Any]]:
    """A row for every place, part and file, and what the reader found in each place."""
    rows, found = [], {}
    for place, part, path in jobs:
        figures = alone(part, path)
        found[place] = figures.get("found", found.get(place))
        speed = figures["entities"] / figures["seconds"]
        count = [f"{figures[name]:,}" if name in figures else "" for name in ("entities", "tokens")]
        times = [f"{figures['seconds']:.1f}", f"{figures['cpu']:.1f}", f"{speed:,.0f}"]
        rows.append([f"{part}, {place}", *count, *times, f"{figures['peak_mb']:,.0f} MB"])
    return markdown(["", "entities", "tokens", "seconds", "processor seconds", "entities/s", "peak"], rows), found


def curve(figures: Sequence[dict[str, Any]], count: str) -> str:
    """A row for each: tokens, seconds, seconds of a processor, `count` a second, and memory beyond the baseline."""
    rows = [
        [
            *([f"{row['regions']:,}"] if "regions" in row else []),
            f"{row['tokens']:,}",
            f"{row['seconds']:.2f}",
            f"{row['cpu']:.2f}",
            f"{row[count] / row['seconds']:,.0f}",
            f"{row['beyond_mb']:,.0f} MB",
            f"{1e6 * row['seconds'] / row['tokens']:.0f}",
        ]
        for row in figures
    ]
    first = ["regions"] if "regions" in figures[0] else []
    times = ["tokens", "seconds", "processor seconds", f"{count}/s", "peak beyond", "microseconds/token"]
    return markdown([*first, *times], rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--copies", type=int, default=36)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--count", type=int, default=0)
    asked = parser.parse_args()
    if asked.part:
        count = [asked.count] if asked.count else []
        sys.stdout.write(json.dumps(PARTS[asked.part](asked.data, *count) | {"peak_mb": peak_mb()}))
        return
    large = asked.scratch / f"country-{asked.copies}.osm.pbf"
    if not large.exists():
        unfinished = large.with_name(f"unfinished-{large.name}")
        country([asked.data / "osm" / name for name in SOURCES], unfinished, asked.copies)
        unfinished.rename(large)
    maldives, nassau = (asked.data / "osm" / name for name in SOURCES)
    table, found = reading_table(
        [
            ("country", "reading", large),
            ("Maldives", "reading", maldives),
            ("Nassau", "tokens", nassau),
            ("Maldives", "tokens", maldives),
        ]
    )
    note = NOTE.format(
        cores=os.cpu_count(),
        threads=os.environ.get("OMP_NUM_THREADS", os.cpu_count()),
        copies=asked.copies,
        mb=large.stat().st_size / 1e6,
        least=LEAST,
        steps=STEPS,
        reading=table,
        embedding=curve([alone("embedding", maldives.parent, count) for count in EMBEDDED], "regions"),
        training=curve([alone("training", nassau, count) for count in BATCH_TOKENS], "tokens"),
        **found["country"],
    )
    Path(__file__).with_suffix(".md").write_text(note)


if __name__ == "__main__":
    main()
