"""Two processes learn what one learns, and how fast: equality of losses and gradients, and pairs a second.

    python -m benchmarks.processes [--rows 2048] [--batches 2048,4096,8192,16384] [--rounds 3] [--steps 3]

Equality: every objective on the same batch of `--rows` rows a modality in float64, in two processes (gloo on loopback)
and in one. Throughput: `imagebind` with one modality of 384 numbers, the default location encoder (256 dimensions),
float32, whole steps of the trainer; one process with one thread, one with two, and two with one thread each take
turns, `--rounds` times. About ten minutes on two cores, which must be free. Writes benchmarks/processes.md.
"""

from __future__ import annotations

import argparse
import os
import pickle
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.running import markdown, processor
from graticule.encoders.location import location_encoder
from graticule.encoders.towers import tower
from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed
from graticule.geo.tokens import Tokens
from graticule.learners.base import Learner
from graticule.learners.jepa import JepaLearner
from graticule.learners.teacher import TEACHER
from graticule.learners.together import Together
from graticule.parts import Parts
from graticule.recipes import RECIPES
from graticule.settings import Settings
from graticule.training import trainer
from graticule.training.distributed import average_gradients, joined
from graticule.training.drawing import Ahead, on_device, on_host
from graticule.training.trainer import Phase, Schedule

NEAR = {"soft_km": 300.0, "mask_km": 30.0, "prefixes": "16,32", "coarse": 0.5, "negatives": "random,ring,queue"}
CONTRASTIVE: dict[str, dict[str, Any]] = {
    "imagebind": {},
    "imagebind, soft targets, masks, prefixes, random + ring + queue": NEAR,
    "cyclic": {},
    "melt": {},
    "melt, masks, the way back, uniformity, consistency": {
        "mask_km": 30.0, "symmetric": True, "uniformity": 0.5, "consistency": 1.0,
    },
    "melt, regression, teacher": {"regression": 0.5, "distil": 0.5},
    "all-to-all": {},
    "satclip": {},
    "geoclip, queue": {},
    "csp, random places, dropout views": {},
    "distil": {"distil": 1.0},
}  # fmt: skip
JEPA: dict[str, dict[str, Any]] = {
    "geojepa, VICReg": {},
    "geojepa, SIGReg": {"regulariser": "sigreg"},
    "geojepa, across modalities": {"cross_modal": 0.5, "modality_dropout": 0.3},
}
WIDTHS = {"image": 48, "text": 96, TEACHER: 64}
REGIONS = 256
WAYS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}
NOTE = """# Training in several processes

`python -m benchmarks.processes` ({cores} cores, {processor}, torch {torch}; gloo on loopback)

The largest difference between two processes and one, relative to the largest value: of the loss, and over all
parameters of the gradient, on the same batch of {rows:,} rows a modality ({regions} regions for geojepa) in float64,
in the second of two steps, so that queues are filled. Processes have rows of their own, gather the vectors of all, and
ask for the losses of their rows.

"""
SPEED = """
Pairs a second of whole steps of training, medians of {rounds} rounds of {steps} steps in which the three ways take
turns. The ratios are those of two processes to one with one thread, and to one with two threads.

"""


def learner_of(name: str) -> tuple[Learner, list[Phase]]:
    """A learner of a recipe on small encoders, the same wherever it is made."""
    torch.manual_seed(0)
    if name in JEPA:
        return JepaLearner.of(tokens(REGIONS), width=32, depth=2, heads=2, **JEPA[name]), [Phase(("osm",))]
    recipe = name.partition(",")[0]
    names = ["image"] if recipe in ("satclip", "geoclip", "csp") else ["image", "text"]
    settings = Settings(dim=64, queue=1024, learn_temperature=True, temperature=0.1, **CONTRASTIVE[name])
    location = location_encoder("harmonics", max_degree=10, body="mlp", width=64, depth=2, dim=64, dropout=0.1)
    towers = {n: tower(WIDTHS[n], dim=64, hidden=64) for n in names}
    return RECIPES[recipe](Parts(location, towers, dict.fromkeys(names, 10_000), settings))


def tokens(regions: int) -> Tokens:
    """Regions of random entities and image patches."""
    rng = np.random.default_rng(5)
    offsets = np.concatenate([[0], rng.integers(1, 40, regions).cumsum()])
    count, kinds, frequent, patches = int(offsets[-1]), 60, 8, 9
    held = np.eye(kinds + 1, frequent, -1, dtype=np.float32)
    return Tokens(
        offsets, rng.integers(1, kinds + 1, count), rng.normal(size=(count, 12)).astype(np.float32),
        np.concatenate([rng.uniform(-1, 1, (count, 2)), rng.normal(size=(count, 6))], axis=1).astype(np.float32),
        np.concatenate([np.zeros((1, 24)), rng.normal(size=(kinds, 24))]).astype(np.float32), held,
        rng.normal(size=(regions, patches, 16)).astype(np.float32), rng.random((regions, patches)) < 0.9,
    )  # fmt: skip


def share(name: str, rows: int, together: Together, whole_batches: bool) -> Placed:
    """This process's rows of a modality."""
    if name == "osm":
        every = Placed(uniform_places(REGIONS, seed=2), tokens(REGIONS))
    else:
        features = np.random.default_rng(len(name)).normal(size=(rows, WIDTHS[name])).astype(np.float32)
        every = Placed(uniform_places(rows, seed=3), features)
    if together.size > 1 and not whole_batches:
        own = np.arange(len(every))[together.share(len(every))]
        every = replace(every.take(own), whole=every.lonlat)
    return on_host(every, pinned=False)


def gradients(together: Together, rows: int) -> dict[str, tuple[float, dict[str, Any]]]:
    """The loss and the gradients of the second step of every objective, by name."""
    found = {}
    for name in [*CONTRASTIVE, *JEPA]:
        learner, phases = learner_of(name)
        learner = learner.double()
        learner.together = together
        for step in range(2):
            torch.manual_seed(step)
            batch = {n: share(n, rows, together, learner.whole_batches) for n in phases[0].modalities}
            losses = learner.loss(batch)
            learner.zero_grad()
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            average_gradients(learner.parameters(), together)
            learner.after_step(0.5)
        own = {n: p.grad.numpy() for n, p in learner.named_parameters() if p.grad is not None}
        found[name] = (float(together.mean({"loss": losses["loss"]})["loss"]), own)
    return found


def pairs_a_second(together: Together, rows: int, steps: int) -> float:
    """Rows of one modality learned a second, by the median step of some after two that do not count."""
    torch.manual_seed(0)
    location, towers = location_encoder("graticule"), {"text": tower(384, dim=256)}
    learner, phases = RECIPES["imagebind"](Parts(location, towers, {"text": 4 * rows}, Settings()))
    features = np.random.default_rng(0).normal(size=(4 * rows, 384)).astype(np.float16)
    sources = {"text": Placed(uniform_places(4 * rows, seed=0), features)}
    with tempfile.TemporaryDirectory() as folder:
        loop = trainer._Loop(learner, sources, phases, Schedule(steps=steps + 2, batch_size=rows), Path(folder))
        seconds = []
        with Ahead(loop.draw, 0, steps + 2) as batches:
            for step in range(steps + 2):
                began = time.perf_counter()
                loop.step(step, on_device(batches.take(), loop.device))
                seconds.append(time.perf_counter() - began)
    return rows / statistics.median(seconds[2:])


def work(what: str, arguments: Sequence[int], threads: int, folder: Path) -> None:
    """One process: the result goes to a file of its rank."""
    torch.set_num_threads(threads)
    with joined(folder) as together:
        result = {"gradients": gradients, "pairs": pairs_a_second}[what](together, *arguments)
        (folder / str(together.rank)).write_bytes(pickle.dumps(result))


def in_processes(count: int, threads: int, what: str, *arguments: int) -> Any:
    """What the first of `count` processes found."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.processes", "--work", what, *map(str, arguments)]
        command += ["--threads", str(threads), "--folder", folder]
        same = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started = [
            subprocess.Popen(command, env={**same, "RANK": str(rank), "OMP_NUM_THREADS": str(threads)})
            for rank in range(count)
        ]
        codes = [process.wait() for process in started]
        if any(codes):
            raise SystemExit("A process failed; what it said stands above.")
        return pickle.loads(Path(folder, "0").read_bytes())


def equality(rows: int) -> str:
    """The table of differences."""
    alone, two = in_processes(1, 1, "gradients", rows), in_processes(2, 1, "gradients", rows)
    table = []
    for name, (loss, expected) in alone.items():
        found_loss, found = two[name]
        apart = max(float(np.abs(found[n] - g).max() / max(np.abs(g).max(), 1e-12)) for n, g in expected.items())
        table.append([name, f"{abs(found_loss - loss) / abs(loss):.0e}", f"{apart:.0e}"])
    return markdown(["objective", "loss", "gradient"], table)


def speed(batches: Sequence[int], rounds: int, steps: int) -> str:
    """The table of pairs a second."""
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for rows in batches:
            for way, (count, threads) in WAYS.items():
                found.setdefault((way, rows), []).append(in_processes(count, threads, "pairs", rows, steps))
    table = []
    for rows in batches:
        one, two_threads, two = (statistics.median(found[way, rows]) for way in WAYS)
        ratios = [f"{two / one:.2f}", f"{two / two_threads:.2f}"]
        table.append([f"{rows:,}", *(f"{value:,.0f}" for value in (one, two_threads, two)), *ratios])
    return markdown(["batch", *WAYS, "to 1 thread", "to 2 threads"], table)


def main() -> None:
    asking = argparse.ArgumentParser()
    asking.add_argument("--rows", type=int, default=2048)
    asking.add_argument("--batches", default="2048,4096,8192,16384")
    asking.add_argument("--rounds", type=int, default=3)
    asking.add_argument("--steps", type=int, default=3)
    asking.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    asking.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    asking.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    asking.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = asking.parse_args()
    if asked.work:
        return work(asked.work[0], [int(argument) for argument in asked.work[1:]], asked.threads, asked.folder)
    about = {"cores": os.cpu_count(), "processor": processor(), "torch": torch.__version__}
    note = NOTE.format(rows=asked.rows, regions=REGIONS, **about) + equality(asked.rows)
    note += SPEED.format(rounds=asked.rounds, steps=asked.steps)
    asked.out.write_text(note + speed([int(b) for b in asked.batches.split(",")], asked.rounds, asked.steps))


if __name__ == "__main__":
    main()
