"""How many places a second exported graphs embed, beside the model itself.

    python -m benchmarks.export_speed [--places 32768] [--repeats 5] [--threads 1 2] [--batch 1024 16384]

The model inside the package, and untrained encoders of 256 dimensions whose bases are the hardest to hold in a graph.
Every repetition times all three by turns: `Model.embed`, the `.pt2` program and the ONNX file in onnxruntime. Some five
minutes. Writes benchmarks/export_speed.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from benchmarks.running import markdown, processor
from graticule.embed import Model, load
from graticule.encoders.location import location_encoder
from graticule.encoders.networks import TorchNetworks
from graticule.export.graph import trace, write_pt2
from graticule.export.onnx import session, write_onnx
from graticule.geo.coords import uniform_places

ENCODERS: dict[str, dict[str, Any]] = {
    "harmonics, max_degree=40": {"name": "harmonics", "max_degree": 40},
    "voronoi": {"name": "voronoi"},
}
NAMES = ("Model.embed", ".pt2", "ONNX")
NOTE = """# Speed of exported graphs

`python -m benchmarks.export_speed` ({places:,} places uniform on the sphere, median of {repeats}; {cores} cores,
{processor}; torch {torch}, onnxruntime {onnxruntime})

Places a second of `Model.embed`, of the `.pt2` program and of the ONNX file in onnxruntime, timed by turns; `batch`
rows a call. The model inside also computes its shared space in both graphs, and not in `Model.embed`.

"""
GRAPHS = """
What was written: seconds it took, size, operations in the ONNX graph, and the largest difference from the model as a
share of a vector's length.

"""
Run = Callable[[NDArray[np.float64]], Any]


def models() -> dict[str, Model]:
    """What is measured, by name."""
    about = {"name": "untrained", "weights": "", "recipe": "", "graticule": "", "data": {}}
    untrained = {name: location_encoder(**options).eval() for name, options in ENCODERS.items()}
    return {"graticule-small": load()} | {
        name: Model(Path(), about, TorchNetworks(encoder.requires_grad_(False))) for name, encoder in untrained.items()
    }


def write(model: Model, folder: Path) -> list[str]:
    """Write both graphs of a model and say what they are: seconds, sizes, operations, differences."""
    began = time.perf_counter()
    program = trace(model)
    away = write_pt2(model, program, folder / "m.pt2"), write_onnx(model, program, folder / "m.onnx")
    seconds = time.perf_counter() - began
    size = [f"{(folder / name).stat().st_size / 1e6:.1f} MB" for name in ("m.pt2", "m.onnx")]
    return [f"{seconds:.0f}", *size, str(len(onnx.load(folder / "m.onnx").graph.node)), *(f"{x:.0e}" for x in away)]


def rates(runs: list[Run], places: NDArray[np.float64], batch: int, repeats: int) -> list[float]:
    """Places a second of every run, timed by turns after a first time that does not count."""
    seconds: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + 1):
        for run, times in zip(runs, seconds, strict=True):
            began = time.perf_counter()
            for start in range(0, len(places), batch):
                run(places[start : start + batch])
            if repeat:
                times.append(time.perf_counter() - began)
    return [len(places) / statistics.median(times) for times in seconds]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, default=32_768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="+", default=[1024, 16_384])
    asked = parser.parse_args()
    places = uniform_places(asked.places)
    speeds, graphs = [], []
    for name, model in models().items():
        with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
            folder = Path(temporary)
            with torch.inference_mode(False):
                graphs.append([name, *write(model, folder)])
            program = torch.export.load(folder / "m.pt2").module()
            for threads in asked.threads:
                torch.set_num_threads(threads)
                runs: list[Run] = [
                    lambda lonlat, model=model: model.embed_points(lonlat),
                    lambda lonlat, program=program: program(torch.from_numpy(lonlat)),
                    session(folder / "m.onnx", threads),
                ]
                for batch in asked.batch:
                    found = rates(runs, places, batch, asked.repeats)
                    speeds.append(
                        [name, str(threads), f"{batch:,}", *(f"{x:,.0f}" for x in found), f"{found[2] / found[0]:.2f}"]
                    )
    import onnxruntime

    note = NOTE.format(
        places=asked.places,
        repeats=asked.repeats,
        cores=os.cpu_count(),
        processor=processor(),
        torch=torch.__version__,
        onnxruntime=onnxruntime.__version__,
    )
    table = markdown(["", "threads", "batch", *NAMES, "ONNX / Model.embed"], speeds)
    wrote = markdown(["", "seconds", ".pt2", "ONNX", "operations", ".pt2 differs", "ONNX differs"], graphs)
    Path(__file__).with_suffix(".md").write_text(note + table + GRAPHS + wrote)


if __name__ == "__main__":
    main()
