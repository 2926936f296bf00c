"""Seconds and memory of the contrastive losses, forward and backward, beside the naive ones and open_clip's.

    python -m benchmarks.contrastive_step LOSS.PY [--rows 2048 4096 8192 16384] [--alone 32768 65536] [--repeats 5]

LOSS.PY is open_clip's `src/open_clip/loss.py`, loaded as one file. Ours, the naive loss and open_clip's alternate in
one process, on the same rows; what is measured alone has a process of its own, of which the peak counts everything.
About 25 minutes on two cores; the naive soft targets of 16,384 rows take 14 GB. Writes benchmarks/contrastive_step.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.contrastive_cases import CASES, DIM, EQUAL, MASK_KM, SOFT_KM, Case, sides
from benchmarks.naive_losses import Loss, open_clip
from benchmarks.running import machine, markdown, peak_mb
from graticule.encoders.location import location_encoder
from graticule.encoders.towers import tower
from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed
from graticule.learners.contrastive import ContrastiveLearner
from graticule.objectives.contrastive import PairwiseInfoNCE

PATCHES, SIDE, AT_ONCE = 2048, 64, 128  # of the trained tower
HEAD = """# A contrastive step

`python -m benchmarks.contrastive_step LOSS.PY` ({machine}; {threads} threads, PyTorch {torch})

Losses of {dim} numbers a vector in float32, forward and backward, learned temperatures; vectors are normalised inside.
Rows are those of all modalities together: `imagebind` has a softmax for each of four modalities, both ways, `melt` one
for all four, one way; soft targets are Gaussian with {soft:g} km, and places nearer than {mask:g} km are left out.
Seconds are medians of {repeats} with the losses alternating. Bare products: the three products of matrices that any
such loss has to take (for `imagebind` four times of a quarter of the rows), and nothing else.

"""
ALONE = """
## Alone

Each in a process of its own; the peak is the resident memory of the whole process, Python and PyTorch included.

"""
EXACT = """
## Equality

In float64, {rows:,} rows: relative difference between our loss and the naive one, and the largest one between their
gradients (length of the difference over length), of vectors and of temperatures.

"""
CACHING = """
## Gradient caching

`rows_at_once`: encoders embed so many rows at a time, and again in the backward pass. {patches:,} patches of 12 x
{side} x {side} pixels, a multispectral tower that trains along (`train_trunks`) and the location encoder, one step of
`imagebind`, in processes of their own.

"""


def bare_products(case: Case, rows: int) -> Callable[[], None]:
    """The products of matrices of a naive loss; both operands of the last two are as large as the logits."""
    groups = len(case.names) if case.ours is PairwiseInfoNCE else 1
    vectors = torch.randn(rows // groups, DIM)

    def products() -> None:
        for _ in range(groups):
            logits = vectors @ vectors.T
            logits @ vectors, logits.T @ vectors

    return products


def alternating(steps: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after a first time that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def speed(rows: Sequence[int], repeats: int, clip: Loss) -> str:
    lines = []
    for name, case in CASES.items():
        for count in rows:
            found = alternating({**sides(case, count, clip), "bare": bare_products(case, count)}, repeats)
            peer = found.get("open_clip")
            lines.append([
                name, f"{count:,}", f"{found['ours']:.3f}", f"{found['naive']:.3f}", f"{peer:.3f}" if peer else "",
                f"{found['bare']:.3f}", f"{found['ours'] / found['naive']:.2f}",
                f"{found['ours'] / peer:.2f}" if peer else "", f"{found['ours'] / found['bare']:.2f}",
            ])  # fmt: skip
            print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    header = ["", "rows", "ours, s", "naive, s", "open_clip, s", "bare products, s"]
    return markdown([*header, "ours / naive", "ours / open_clip", "ours / bare"], lines)


def equality(rows: int) -> str:
    lines = []
    for name, case in EQUAL.items():
        found = sides(case, rows, dtype=torch.float64)
        ours, peer = found["ours"](), found["naive"]()
        apart = [float(torch.dist(a, b) / b.norm()) for a, b in zip(ours, peer, strict=True)]
        lines.append([name, f"{apart[0]:.1e}", f"{max(apart[1:]):.1e}"])
    return markdown(["", "loss", "gradients"], lines)


def caching_step(at_once: int) -> Callable[[], None]:
    """A step of a tower that trains along, and of the location encoder."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 10_000, (PATCHES, 12, SIDE, SIDE), dtype=torch.int16)
    rows = {"image": Placed(torch.from_numpy(uniform_places(PATCHES)), pixels)}
    towers = {"image": tower(trunk="multispectral")}
    location, objective = location_encoder("graticule"), PairwiseInfoNCE(["image"])
    learner = ContrastiveLearner(location, towers, objective, rows_at_once=at_once)
    return lambda: learner.loss(rows)["loss"].backward()  # type: ignore[no-untyped-call]


def alone(part: str, count: int, threads: int) -> dict[str, float]:
    """Seconds and peak of a part, measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.contrastive_step", "-", "--part", part, "--count", str(count)]
    found: dict[str, float] = json.loads(
        subprocess.run([*command, "--threads", str(threads)], check=True, capture_output=True).stdout
    )
    print(part, count, found, file=sys.stderr, flush=True)
    return found


def measure(part: str, count: int) -> dict[str, float]:
    """What `alone` asks for: a case of ours, or of the naive loss, or a step with or without caching."""
    name, _, side = part.partition("/")
    step: Callable[[], Any] = caching_step(count) if name == "caching" else sides(CASES[name], count)[side]
    began = time.perf_counter()
    step()
    return {"seconds": time.perf_counter() - began, "peak": peak_mb()}


def memory(jobs: Sequence[tuple[str, str, int]], first: str, threads: int) -> str:
    lines = []
    for label, part, count in jobs:
        found = alone(part, count, threads)
        lines.append([label, f"{count:,}", f"{found['seconds']:.1f}", f"{found['peak'] / 1024:.2f} GiB"])
    return markdown(["", first, "seconds", "peak"], lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("loss", type=Path)
    parser.add_argument("--rows", type=int, nargs="*", default=[2048, 4096, 8192, 16_384])
    parser.add_argument("--alone", type=int, nargs="*", default=[32_768, 65_536])
    parser.add_argument("--equal", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part")
    parser.add_argument("--count", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.part:
        print(json.dumps(measure(asked.part, asked.count)))
        return
    clip = open_clip(asked.loss)
    page = HEAD.format(
        machine=machine(), threads=asked.threads, torch=torch.__version__, dim=DIM, soft=SOFT_KM, mask=MASK_KM,
        repeats=asked.repeats,
    ) + speed(asked.rows, asked.repeats, clip)  # fmt: skip
    jobs = [("naive, one modality", "one modality/naive", max(asked.rows))]
    jobs += [(name, f"{name}/ours", count) for name in CASES for count in (max(asked.rows), *asked.alone)]
    page += ALONE + memory(jobs, "rows", asked.threads)
    page += EXACT.format(rows=asked.equal) + equality(asked.equal)
    page += CACHING.format(patches=PATCHES, side=SIDE)
    page += memory([("all at once", "caching", 0), ("in pieces", "caching", AT_ONCE)], "rows at once", asked.threads)
    Path(__file__).with_suffix(".md").write_text(page)


if __name__ == "__main__":
    main()
