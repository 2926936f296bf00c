"""Nearest among ten million: building, bytes, memory, recall and milliseconds of an index of vectors of places.

    python -m benchmarks.index WORK [--rows 10000000] [--settings 500000]

Half of the places are uniform by area on land, half lie around cities (a normal of 10 km, cities drawn by the root of
their population); the model inside embeds them, 256 numbers each. WORK keeps everything, 16 GB, and a killed run goes
on. About an hour and a half on two cores: five minutes of embedding, two for the exact answers, half an hour for the
index, the rest for the settings. Writes benchmarks/index.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index_places import ANSWERS, DIM, QUESTIONS, TIE, embed, exact, questions, recall
from benchmarks.running import machine, markdown, peak_mb
from graticule.files import read_json, write_json
from graticule.geo.directions import unit

BUILDS = ((8, 64, 1), (16, 64, 1), (16, 128, 1), (16, 256, 1), (32, 128, 1), (16, 128, 5))  # M, efConstruction, graphs
HELD = ("VmRSS", "RssAnon", "RssFile")
PROPOSED = (16, 32, 64, 128, 256)

NOTE = """# Nearest among ten million

`python -m benchmarks.index WORK{options}` ({machine}; usearch {usearch})

{rows:,} places, half uniform by area on land, half around cities; vectors of the model inside, {dim} numbers, given in
float16. {questions:,} other places drawn in the same way are the questions, k = {answers}. The exact answers come from
comparing each with all rows in float32. Vectors of neighbouring places are nearly equal: the median cosine of the tenth
answer is {tenth:.5f}, of the eleventh {gap:.1e} less. "recall" counts an answer when it is among the exact ten by its
number, "with ties" also when its cosine is within {tie:g} of the tenth's; "lost" is the share of questions of which no
answer was found. One thread answers one question at a time.

## The index

{built}

## Its answers

A fresh process opens the index and asks. "Proposed" rows of every graph are compared in the finer numbers, int8 alone
ranks them by the graphs' own distances. The first row is asked while no page of the files is in memory.

{searched}

## Settings

The first {settings:,} of the rows, {proposed} proposed by each graph.

{compared}"""


def build(work: Path, rows: int, connectivity: int, expansion: int, graphs: int, folder: Path) -> dict[str, Any]:
    """Build an index of the first rows; seconds, bytes and the most memory the process held."""
    from graticule.index import array_rows, build_index
    from graticule.index.build import GRAPH_ROWS

    points, vectors = embed(work, rows)
    source = array_rows(points, vectors, model="graticule-small")
    options = {"connectivity": connectivity, "expansion": expansion}
    before = len(list(folder.glob("graph-*")))
    began, cpu = time.monotonic(), time.process_time()
    build_index(source, folder, graph_rows=GRAPH_ROWS if graphs == 0 else -(-rows // graphs), **options)
    seconds = time.monotonic() - began
    size = {path.suffix: 0 for path in folder.iterdir()}
    for path in folder.iterdir():
        size[path.suffix] += path.stat().st_size
    resident = memory()
    return {
        "seconds": seconds, "cpu": time.process_time() - cpu, "bytes": size, "peak_mb": peak_mb(), "now": resident,
        "graphs_before": before, "graphs": len(list(folder.glob("graph-*"))), **options,
    }  # fmt: skip


def search(work: Path, folder: Path, settings: Sequence[int], cold: bool) -> dict[str, Any]:
    """Ask the index: answers, milliseconds, and the memory of this process before, opened, and after."""
    from graticule.index import open_index
    from graticule.index.search import PlaceIndex

    asked = np.load(work / "questions.npy")
    if cold:
        for path in folder.iterdir():
            forget(path)
    before = memory()
    began = time.perf_counter()
    index: PlaceIndex = open_index(folder)
    opened, at_rest = time.perf_counter() - began, memory()
    found = []
    for proposed in settings:
        answers, seconds = [], []
        for vector in asked:
            began = time.perf_counter()
            chosen, _ = index.search(vector, ANSWERS, proposed=proposed)
            seconds.append(time.perf_counter() - began)
            answers.append(chosen.tolist())
        found.append({"proposed": proposed, "answers": answers, "ms": [1000 * s for s in seconds]})
    after = memory()
    return {"opened_ms": 1000 * opened, "before": before, "at_rest": at_rest, "after": after, "found": found}


def int8_alone(work: Path, folder: Path, count: int) -> list[list[int]]:
    """The answers as the graphs rank them."""
    from graticule.geo.directions import coarse, fine
    from graticule.index import open_index

    index = open_index(folder)
    answers = []
    for vector in coarse(fine(np.load(work / "questions.npy"))):
        matches = [graph.search(vector, count, threads=1) for graph in index.graphs]
        keys = np.concatenate([m.keys for m in matches])
        answers.append(keys[np.argsort(np.concatenate([m.distances for m in matches]))[:ANSWERS]].tolist())
    return answers


def forget(path: Path) -> None:
    """Drop the pages of a file from memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory() -> dict[str, float]:
    """MB that this process holds now, of its own and of mapped files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {key: int(status[key].split()[0]) / 1024 for key in HELD}


def alone(work: Path, part: str, name: str, **options: Any) -> dict[str, Any]:
    """A part in a process of its own; its figures are kept by name, so that a killed benchmark goes on."""
    path = work / "figures" / f"{name}.json"
    if not path.exists():
        asked = json.dumps({"part": part, "figures": path, **options}, default=str)
        subprocess.run([sys.executable, "-m", "benchmarks.index", str(work), "--part", asked], check=True)
    found: dict[str, Any] = read_json(path)
    return found


def run_part(work: Path, asked: str) -> None:
    """What `alone` asks for, in this process."""
    options = json.loads(asked)
    parts: dict[str, Callable[..., dict[str, Any]]] = {"build": build, "search": search}
    path, part, folder = Path(options.pop("figures")), parts[options.pop("part")], Path(options.pop("folder"))
    write_json(path, part(work, folder=folder, **options))


def compared(work: Path, rows: int, asked: NDArray[np.float32], proposed: int) -> str:
    """The table of settings on the first rows."""
    _, vectors = embed(work, rows)
    truth = exact(work, vectors, asked)
    lines = []
    for connectivity, expansion, graphs in BUILDS:
        folder = work / f"index-{rows}-{connectivity}-{expansion}-{graphs}"
        options = {"connectivity": connectivity, "expansion": expansion, "graphs": graphs}
        built = alone(work, "build", f"build-{folder.name}", rows=rows, **options, folder=folder)
        found = alone(work, "search", f"search-{folder.name}", settings=[proposed], cold=False, folder=folder)
        (one,) = found["found"]
        ms = np.percentile(one["ms"], [50, 95])
        shares = [f"{share:.4f}" for share in recall(one["answers"], truth, vectors, asked)]
        size = built["bytes"][".usearch"]
        lines.append(
            [
                str(connectivity), str(expansion), str(graphs), f"{built['seconds']:,.0f}",
                f"{rows / built['seconds']:,.0f}", f"{size / rows:,.0f}", *shares, f"{ms[0]:.2f}", f"{ms[1]:.2f}",
            ]
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)
    header = ["connectivity", "expansion", "graphs", "seconds", "rows/s", "bytes of graph a row", "recall"]
    return markdown([*header, "with ties", "lost", "median ms", "95 % ms"], lines)


def main() -> None:
    asking = argparse.ArgumentParser()
    asking.add_argument("work", type=Path)
    asking.add_argument("--rows", type=int, default=10_000_000)
    asking.add_argument("--settings", type=int, default=500_000, help="rows on which settings are compared")
    asking.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    asking.add_argument("--part", help=argparse.SUPPRESS)
    asked = asking.parse_args()
    if asked.part:
        run_part(asked.work, asked.part)
        return
    import usearch

    from graticule.index.build import CONNECTIVITY, EXPANSION
    from graticule.index.search import LEAST_PROPOSED

    work: Path = asked.work
    work.mkdir(parents=True, exist_ok=True)
    vectors, vectors_asked = embed(work, asked.rows)[1], questions(work)
    truth = exact(work, vectors, vectors_asked)
    folder = work / f"index-{asked.rows}"
    chosen = {"connectivity": CONNECTIVITY, "expansion": EXPANSION, "graphs": 0}
    built = alone(work, "build", f"build-{folder.name}", rows=asked.rows, **chosen, folder=folder)
    cold = alone(work, "search", f"cold-{folder.name}", settings=[LEAST_PROPOSED], cold=True, folder=folder)
    warm = alone(work, "search", f"warm-{folder.name}", settings=list(PROPOSED), cold=False, folder=folder)

    size = built["bytes"]
    killed = f" (went on after {built['graphs_before']} graphs)" if built["graphs_before"] else ""
    facts = [
        ("rows, graphs", f"{asked.rows:,} in {built['graphs']}"),
        ("connectivity, expansion", f"{CONNECTIVITY}, {EXPANSION}"),
        ("seconds to build, rows a second", f"{built['seconds']:,.0f}, {asked.rows / built['seconds']:,.0f}{killed}"),
        ("most memory of that process", f"{built['peak_mb']:,.0f} MB, of which vectors that it reads are mapped"),
        ("its own memory at the end, mapped files", "{RssAnon:,.0f} MB, {RssFile:,.0f} MB".format(**built["now"])),
        ("bytes of the graphs, int8 vectors within", f"{size['.usearch'] / 1e9:.2f} GB"),
        ("bytes of the finer numbers, places", f"{size['.int16'] / 1e9:.2f} GB, {size['.float64'] / 1e9:.2f} GB"),
        ("milliseconds to open", f"{warm['opened_ms']:,.0f}"),
    ]  # fmt: skip
    lines = []
    for title, run in (("cold", cold), ("warm", warm)):
        for one in run["found"]:
            ms = np.percentile(one["ms"], [50, 95])
            shares = [f"{share:.4f}" for share in recall(one["answers"], truth, vectors, vectors_asked)]
            lines.append([title, str(one["proposed"]), *shares, f"{ms[0]:.2f}", f"{ms[1]:.2f}"])
    shares = [f"{s:.4f}" for s in recall(int8_alone(work, folder, LEAST_PROPOSED), truth, vectors, vectors_asked)]
    lines.append(["int8 alone", str(LEAST_PROPOSED), *shares, "", ""])
    searched = markdown(["", "proposed", "recall", "with ties", "lost", "median ms", "95 % ms"], lines)
    moments = {"started": warm["before"], "opened": warm["at_rest"], f"after {QUESTIONS:,} questions": cold["after"]}
    steps = [[moment, *(f"{held[key]:,.0f}" for key in HELD)] for moment, held in moments.items()]
    searched += "\n" + markdown(["MB of the process that asks", "resident", "its own", "mapped files"], steps)
    first, cosines = vectors_asked, []
    for question, rows in zip(unit(first), truth[:, : ANSWERS + 1], strict=True):
        cosines.append(unit(vectors[rows]) @ question)
    tenth, eleventh = np.array(cosines)[:, -2:].T
    changed = asked.rows != asking.get_default("rows") or asked.settings != asking.get_default("settings")
    asked.out.write_text(
        NOTE.format(
            options=f" --rows {asked.rows} --settings {asked.settings}" if changed else "", machine=machine(),
            usearch=usearch.__version__, rows=asked.rows, dim=DIM, questions=QUESTIONS, answers=ANSWERS,
            tenth=float(np.median(tenth)), gap=float(np.median(tenth - eleventh)), tie=TIE,
            built=markdown(["", ""], facts), searched=searched, settings=asked.settings, proposed=LEAST_PROPOSED,
            compared=compared(work, asked.settings, vectors_asked, LEAST_PROPOSED),
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
