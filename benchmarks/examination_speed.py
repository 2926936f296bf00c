"""How long an examination takes: 26 tasks, six embeddings, random folds and blocks, ridge, without anything kept.

    python -m benchmarks.examination_speed DATA [--workers 2] [--repeats 3]

Six 256-d embeddings: the model inside and five untrained encoders of other seeds. Writes
benchmarks/examination_speed.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import torch

from benchmarks.running import markdown
from graticule.embed import Vectors, load
from graticule.encoders.location import location_encoder
from graticule.evaluation.examine import Embed, evaluate
from graticule.evaluation.tasks import EXTRA, MAIN, load_tasks
from graticule.geo.coords import Points

NOTE = """# Speed of an examination

`python -m benchmarks.examination_speed DATA` ({cores} cores, {workers} processes, median of {repeats})

26 tasks of at most 6,000 rows, six embeddings of 256 dimensions, random folds and 10-degree blocks (156 fits of a ridge
for each embedding), vectors computed within the time.

"""


def untrained(seed: int) -> Embed:
    """An encoder as it is before training."""
    encoder = location_encoder("graticule", seed=seed).eval()

    def embed(points: Points) -> Vectors:
        with torch.inference_mode():
            return encoder(torch.from_numpy(points)).numpy()

    return embed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    tasks = load_tasks(asked.data / "tasks", (*MAIN, *EXTRA))
    embeds = {"the model inside": load().embed_points} | {f"untrained {seed}": untrained(seed) for seed in range(5)}
    rows = []
    for what, baselines in (("six embeddings", False), ("and all baselines, kriging among them", True)):
        seconds = []
        for _ in range(asked.repeats):
            began = time.monotonic()
            evaluate(embeds, tasks, baselines=baselines, workers=asked.workers)
            seconds.append(time.monotonic() - began)
        rows.append([what, f"{statistics.median(seconds):.0f}"])
    note = NOTE.format(cores=os.cpu_count(), workers=asked.workers, repeats=asked.repeats)
    Path(__file__).with_suffix(".md").write_text(note + markdown(["", "seconds"], rows))


if __name__ == "__main__":
    main()
