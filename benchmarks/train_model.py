"""Train the model that ships inside the package.

    python -m benchmarks.train_model DATA RUNS

Text, Blue Marble and Sentinel-2 patches; seeds fixed; about five minutes on one core once features are cached.
Writes graticule/model/{run.json, model.safetensors}; MODEL_CARD.md describes it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.world import prepare_world
from graticule.embed import INSIDE
from graticule.files import digest_file, read_json, write_json
from graticule.runs import train
from graticule.tensors import load_tensors, save_tensors

SETTINGS = {
    "steps": 600,
    "batch_size": 1024,
    "whiten": 96,
    "temperature": 0.4,
    "learn_temperature": False,
    "location": "harmonics",
    "location.max_degree": 30,
    "location.damping": 1,
    "location.low_frequency": 10,
    "threads": 1,
    "seed": 0,
}


def release(run: Path, to: Path, name: str, beside: Sequence[str] = ()) -> None:
    """Copy a finished run into the package: weights in float16, no folder of this machine; files `beside` stay so."""
    about = read_json(run / "run.json")
    tensors, _ = load_tensors(run / "model.safetensors")
    small = {n: t.half() if t.dtype == torch.float32 else t for n, t in tensors.items()}
    shutil.rmtree(to, ignore_errors=True)
    save_tensors(to / "model.safetensors", small)
    for entry in about["data"].values():
        del entry["folder"]
    for file in beside:
        shutil.copyfile(run / file, to / file)
    write_json(to / "run.json", about | {"name": name, "weights": digest_file(to / "model.safetensors")})


def main() -> None:
    data, runs = Path(sys.argv[1]), Path(sys.argv[2])
    world = prepare_world(data, runs / "world")
    train("imagebind", world, to=runs / "released", **SETTINGS)
    release(runs / "released", INSIDE, "graticule-small")


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
