"""Train the model that ships inside the package.

    python -m benchmarks.train_model DATA RUNS [--seed 0]

First the location encoder learns the teacher's vectors, which texts, Blue Marble and night lights make in closed form;
then it stands still, and a tower a modality is tied to it. Seeds fixed; the time is in the run.json of both runs.
Writes graticule/model/{run.json, model.safetensors} for seed 0; MODEL_CARD.md describes it.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.plateau import ENCODER, TRUNKS
from benchmarks.world import prepare_groups
from graticule.embed import INSIDE, Model
from graticule.files import digest_file, read_json, write_json
from graticule.runs import train
from graticule.tensors import load_tensors, save_tensors

COMMON = {**ENCODER, **TRUNKS, "threads": 1}
TAUGHT = {
    "location.levels": 14,
    "location.finest": 640,
    "location.log2_entries": 15,
    "neighbours.text": 32,
    "steps": 3000,
    "batch_size": 2048,
    "learning_rate": 2e-3,
}
TIED = {"steps": 800, "batch_size": 1024, "freeze_location": True, "every": 1}


def train_both(data: Path, runs: Path, seed: int) -> Model:
    """The teacher's pupil, and the towers tied to it."""
    world = prepare_groups(data, runs / "groups")
    places = runs / "places.parquet"
    if not places.exists():
        lon, lat = world["day"].lonlat.T
        pq.write_table(pa.table({"lon": lon, "lat": lat}), places)
    taught, tied = runs / f"taught-{seed}", runs / f"tied-{seed}"
    train("distil", world, to=taught, seed=seed, teacher_places=str(places), **COMMON, **TAUGHT)
    return train("cyclic", world, to=tied, seed=seed, start=str(taught), **COMMON, **TIED)


def release(run: Path, to: Path, name: str, beside: Sequence[str] = ()) -> None:
    """Copy a finished run into the package: weights in float16, no folder of this machine; files `beside` stay so."""
    about = read_json(run / "run.json")
    tensors, _ = load_tensors(run / "model.safetensors")
    small = {n: t.half() if t.dtype == torch.float32 else t for n, t in tensors.items()}
    shutil.rmtree(to, ignore_errors=True)
    save_tensors(to / "model.safetensors", small)
    for entry in about["data"].values():
        del entry["folder"]
    about["settings"]["start"] = Path(about["settings"]["start"]).name
    for file in beside:
        shutil.copyfile(run / file, to / file)
    write_json(to / "run.json", about | {"name": name, "weights": digest_file(to / "model.safetensors")})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    model = train_both(asked.data, asked.runs, asked.seed)
    if asked.seed == 0:
        release(model.folder, INSIDE, "graticule-small")


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
