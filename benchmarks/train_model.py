"""Train the model that ships inside the package: seed 0 of `benchmarks.taught`.

    python -m benchmarks.train_model DATA RUNS

Words, day and night; seeds fixed; a quarter of an hour on one core once features are cached.
Writes graticule/model/{run.json, model.safetensors}; MODEL_CARD.md describes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import running, taught
from graticule.embed import INSIDE
from graticule.files import digest_file, read_json, write_json
from graticule.runs import without_folders
from graticule.tensors import load_tensors, save_tensors

PLACES_OF_FILES = ("start", "teacher_places")  # settings that hold paths


def release(run: Path, to: Path, name: str, beside: Sequence[str] = ()) -> None:
    """Copy a finished run into the package: weights in float16, no folder of this machine; files `beside` stay so."""
    about = read_json(run / "run.json")
    tensors, _ = load_tensors(run / "model.safetensors")
    small = {n: t.half() if t.dtype == torch.float32 else t for n, t in tensors.items()}
    shutil.rmtree(to, ignore_errors=True)
    save_tensors(to / "model.safetensors", small)
    for file in beside:
        shutil.copyfile(run / file, to / file)
    if "started_from" in about:
        about["started_from"] = of_no_machine(about["started_from"])
    write_json(to / "run.json", of_no_machine(about) | {"name": name, "weights": digest_file(to / "model.safetensors")})


def of_no_machine(about: dict) -> dict:
    """The same with no folder of the data, and of every other path the last name alone."""
    settings = {key: Path(v).name if key in PLACES_OF_FILES else v for key, v in about["settings"].items()}
    return about | {"settings": settings, "data": without_folders(about["data"])}


def main() -> None:
    asked = running.parser("data", "runs").parse_args()
    taught.prepare_all(asked.data, asked.runs)
    taught.train_one(asked.runs, 0)
    release(asked.runs / "tied-0", INSIDE, "graticule-small")


if __name__ == "__main__":
    main()
