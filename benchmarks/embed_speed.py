"""How fast places become vectors: our encoders, those of other projects, and what the machine allows.

    python -m benchmarks.embed_speed [--satclip DIR] [--tte DIR] [--torchspatial DIR] [--tasks DATA/tasks]

Scattered places beside the peers and the bare matrix products; the basis beside sphericart; a world raster; curves
over places and degrees; what bfloat16 changes. DIR are checkouts of the peers, GeoCLIP is the pip package. Every part
runs in a process of its own with `--threads` threads, and its works take turns. The first run writes out SatCLIP's
harmonics by its own script if its checkout lacks them. Half an hour on 2 cores; three minutes, as a trial, with
`--rows 90 --columns 180 --places 8192 --most 10000 --repeats 1`. Writes benchmarks/embed_speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.embed_speed_parts import ENCODERS, PRECISIONS, SCATTERED
from benchmarks.running import cpuinfo, markdown, processor

SPHERICART = dict(zip(SCATTERED, (16, 40, 39), strict=True))


def part(name: str, asked: dict[str, Any]) -> Any:
    """What one part says, run by itself."""
    threads = asked["threads"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "benchmarks.embed_speed_parts", name, json.dumps(asked)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def machine() -> str:
    """Name of the processor and whether it multiplies bfloat16."""
    flags = {"amx_bf16": "AMX bfloat16", "avx512_bf16": "AVX-512 bfloat16", "avx512f": "AVX-512"}
    able = [words for flag, words in flags.items() if flag in cpuinfo().get("flags", "").split()]
    return ", ".join([processor(), *able])


def per_second(seconds: float) -> str:
    return f"{1 / seconds:,.0f}"


def scattered_table(told: dict[str, Any]) -> str:
    """Places a second, ratios to two peers, and the share of the floor."""
    seconds = told["seconds"]
    rivals = [name for name in ("GeoCLIP", "GeoCLIP, normal weights", "SatCLIP L=40") if name in seconds]
    rows = []
    for name in [name for name in seconds if name not in ("copy",) and not name.startswith(("products", "sphericart"))]:
        ratios = [f"{seconds[rival] / seconds[name]:.1f}x" for rival in rivals]
        shares = ["", ""]
        encoder = name.rpartition(", ")[0]
        if encoder in SPHERICART:
            floor = seconds[f"products of {name}"] + seconds[f"sphericart {SPHERICART[encoder]}"]
            shares = [per_second(floor), f"{100 * floor / seconds[name]:.0f} %"]
        rows.append([name, per_second(seconds[name]), *ratios, *shares])
    table = markdown(["", "places/s", *(f"to {rival}" for rival in rivals), "floor", "share of it"], rows)
    absent = "".join(f"- {name}: {why}\n" for name, why in told["absent"].items())
    return table + (f"\nNot there:\n\n{absent}" if absent else "") + f"\nMemory copy: {told['copy_gb']:.0f} GB/s.\n"


def basis_table(by_threads: dict[int, dict[str, float]]) -> str:
    """Microseconds a place of the harmonics."""
    header, rows = (
        ["degree", "threads", "`harmonics`", "rows for the first layer", "sphericart", "rows to sphericart"],
        [],
    )
    for degree in dict.fromkeys(name.split()[0] for name in by_threads[1]):
        for threads, seconds in by_threads.items():
            own = [1e6 * seconds[f"{degree} {way}"] for way in ("matrix", "rows", "sphericart")]
            rows.append([degree, str(threads), *(f"{value:.2f}" for value in own), f"{own[2] / own[1]:.2f}x"])
    return markdown(header, rows)


def raster_table(asked: argparse.Namespace) -> str:
    """Grid against scattered places, alternating, each run a process."""
    rows = []
    for encoder in ENCODERS:
        exact = 0.0  # seconds a scattered place in float32
        for precision in PRECISIONS:
            runs: dict[str, list[dict[str, float]]] = {"scattered": [], "grid": []}
            for _ in range(asked.raster_repeats):
                for way, told in runs.items():
                    told.append(part("raster", vars(asked) | {"encoder": encoder, "precision": precision, "way": way}))
            slow, fast = (statistics.median(told["seconds"] for told in runs[way]) for way in runs)
            exact = exact or slow
            ratios = [f"{slow / fast:.1f}x", f"{exact / fast:.1f}x"]
            whole, memory = fast * asked.rows * asked.columns, max(told["gib"] for told in runs["grid"])
            shown = [per_second(slow), per_second(fast), *ratios, f"{whole:.0f}", f"{memory:.2f}"]
            rows.append([encoder, precision, *shown])
    rates = ["scattered, places/s", "raster, places/s", "to scattered", "to scattered float32"]
    return markdown(["", "", *rates, "whole raster, s", "peak memory, GiB"], rows)


def curve_tables(seconds: dict[str, float]) -> str:
    """Places a second over their number, and over the degree."""
    cells = {tuple(name.split("|")): per_second(value) for name, value in seconds.items()}
    columns = [(name, precision) for name in SCATTERED[:2] for precision in PRECISIONS]
    counts = dict.fromkeys(key[2] for key in cells if (key[0], key[1]) in columns)
    by_count = [[f"{int(count):,}", *(cells[(*column, count)] for column in columns)] for count in counts]
    ways = [(precision, way) for precision in PRECISIONS for way in ("scattered", "grid")]
    degrees = dict.fromkeys(key[0] for key in cells if key[0].isdigit())
    by_degree = [[degree, *(cells[degree, *way] for way in ways)] for degree in degrees]
    return (
        markdown(["places at once", *(", ".join(column) for column in columns)], by_count)
        + "\n"
        + markdown(["degree", *(", ".join(way) for way in ways)], by_degree)
    )


def accuracy_table(told: dict[str, Any]) -> str:
    """Cosines, and the probes if there were tasks."""
    rows = [[name, f"{cos['least']:.5f}", f"{cos['mean']:.6f}"] for name, cos in told["cosines"].items()]
    text = markdown(["", "least cosine", "mean cosine"], rows)
    if "probes" not in told:
        return text
    probes = [
        [split, *(f"{mean:.4f}" for mean in found["means"]), f"{found['most']:.4f}"]
        for split, found in told["probes"].items()
    ]
    return text + "\n" + markdown(["split", *PRECISIONS, "largest difference of a task"], probes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    for folder in ("satclip", "tte", "torchspatial", "tasks"):
        parser.add_argument(f"--{folder}")
    parser.add_argument("--places", type=int, default=131_072)
    parser.add_argument("--most", type=int, default=1_000_000, help="places of the longest curve")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rows", type=int, default=1800)
    parser.add_argument("--columns", type=int, default=3600)
    parser.add_argument("--raster-repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    asked = parser.parse_args(arguments)
    options = vars(asked)
    sections = [
        (SCATTERED_NOTE, scattered_table(part("scattered", options))),
        (BASIS_NOTE, basis_table({n: part("basis", options | {"threads": n}) for n in sorted({1, asked.threads})})),
        (RASTER_NOTE.format(**options), raster_table(asked)),
        (CURVES_NOTE, curve_tables(part("curves", options))),
        (ACCURACY_NOTE.format(**options), accuracy_table(part("accuracy", options))),
    ]
    note = NOTE.format(machine=machine(), cores=os.cpu_count(), **options)
    text = note + "\n".join(f"{before}\n{table}" for before, table in sections)
    Path(__file__).with_suffix(".md").write_text(text)


NOTE = """# Speed of embedding

`python -m benchmarks.embed_speed --satclip DIR --tte DIR --torchspatial DIR --tasks DATA/tasks`

{machine}; {cores} cores, {threads} threads. Medians of {repeats} rounds, in each of which everything takes its turn.

"""
SCATTERED_NOTE = """## Scattered places

Uniform on the sphere, whole vectors. Peers as their own code runs them, in batches of 1,024 or 8,192, whichever suits
them: GeoCLIP 512-d with released weights, TTE 512-d, the others 256-d; SatCLIP in float64, as it loads itself. Some of
GeoCLIP's weights are below the normal range of float32, which slows it several times; "normal weights" has them set to
0. Floor: the bare matrix products of the same encoder in the same precision, 1,024 places at a time on all threads, and
then sphericart's basis of the same degree (which from degree 40 on gives NaN in float32).
"""
BASIS_NOTE = """## Harmonics

Microseconds a place, float32. `harmonics` gives the normalised matrix, one thread always; the rows, not normalised, are
what the first layer of an encoder is multiplied by, 512 places at a time.
"""
RASTER_NOTE = """## A world raster

{columns} x {rows} places through `Model.embed_grid`, and every tenth column of them as scattered places, in turn, each
in a process of its own; medians of {raster_repeats}. The body behind the first layer costs the same both ways.
"""
CURVES_NOTE = """## Curves

Places a second: over how many are given at once, and over the degree (residual MLP 384 x 3, 256-d) at places of a grid
given as such and scattered.
"""
ACCURACY_NOTE = """## What bfloat16 changes

Cosine to the float32 vectors at {places} places (all but the model inside untrained), and means of the ridge probe over
the 16 main tasks for the model inside.
"""


if __name__ == "__main__":
    main()
