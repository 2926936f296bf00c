"""The released model in numpy, torch or onnxruntime: one engine measured in a process of its own.

    python benchmarks/engines.py numpy|torch THREADS OUT.npz COUNT...
    python benchmarks/engines.py export BODY.onnx
    python benchmarks/engines.py BODY.onnx THREADS OUT.npz COUNT...

OMP_NUM_THREADS says the same number of threads. Imports the package of the environment it runs in, and nothing of the
benchmarks, since it also runs where only the core is installed: `benchmarks.core_install` calls it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import graticule
from graticule.encoders.networks import TorchNetworks
from graticule.geo.coords import uniform_places

ROWS = 4096  # at a time through onnxruntime
Embed = Callable[[Any], Any]


def engine(name: str, threads: int) -> Embed:
    """Places to vectors by numpy, torch, or the network in an ONNX file with the basis from numpy."""
    model = graticule.load()
    if name == "numpy":
        return model.embed_points
    if name == "torch":
        import torch

        torch.set_num_threads(threads)
        return replace(model, networks=TorchNetworks(model.location)).embed_points
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(name, options, providers=["CPUExecutionProvider"])
    places, asked = model.networks._places, session.get_inputs()[0].name

    def embed(points: Any) -> Any:
        parts = (places.basis(points[i : i + ROWS], places.arrays) for i in range(0, len(points), ROWS))
        return np.concatenate([session.run(None, {asked: part})[0] for part in parts])

    return embed


def export(path: str) -> None:
    """The network of the released model as ONNX, for any number of rows."""
    import torch

    location = graticule.load().location
    rows = ({0: torch.export.Dim("rows")},)
    sample = (torch.zeros(8, location.basis.basis.dim),)
    torch.onnx.export(location.body, sample, path, dynamic_shapes=rows, dynamo=True, verbose=False)


def measure(name: str, threads: int, out: str, counts: list[int]) -> None:
    """Median seconds for each count of places, after a first time that does not count; vectors of the first places."""
    embed = engine(name, threads)
    seconds = []
    for count in counts:
        points = uniform_places(count, seed=3)
        vectors = embed(points)
        took = []
        for _ in range(max(1, min(100, 5000 // count))):
            began = time.perf_counter()
            embed(points)
            took.append(time.perf_counter() - began)
        seconds.append(statistics.median(took))
    np.savez(out, seconds=seconds, vectors=vectors[:ROWS])


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(sys.argv[2])
    else:
        measure(sys.argv[1], int(sys.argv[2]), sys.argv[3], [int(count) for count in sys.argv[4:]])
