"""A location model as one graph: degrees in, vectors out, with everything between inside; and as a `.pt2` file.

The graph takes `lonlat`, (n, 2) float64 degrees (WGS84, longitude first, longitudes to 360 are wrapped), for any n, and
gives `embedding`, (n, dim) float32: what `Model.embed` gives. Models with a space for comparing places with texts and
pictures also give `shared`: what `Model.share` makes of it. Nothing is refused: impossible places give nonsense.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from graticule.embed import Model
from graticule.errors import CacheError
from graticule.files import atomic_write
from graticule.finished import origin
from graticule.geo.coords import uniform_places

INPUT = "lonlat"
INPUT_SAYS = "lon, lat in degrees WGS84"
CHATTY = ("torch.onnx._internal.exporter._registration", "onnxscript", "onnx_ir")
TOLERANCE = 1e-5  # of the length of a vector; beyond it only the rounding of harmonics of high degrees in float32
WRONG = 1e-3
logger = logging.getLogger(__name__)
Outputs = dict[str, NDArray[np.float32]]


class Places(nn.Module):
    """What `Model.embed` and `Model.share` do, with longitudes wrapped inside."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.location = model.location
        self.shared = model.shared if model.length is None else None  # it reads whole vectors
        self.length = model.dim

    def forward(self, lonlat: Tensor) -> dict[str, Tensor]:
        """(n, 2) degrees float64 -> "embedding" (n, dim) and, where the model has it, "shared" (n, k)."""
        lon, lat = lonlat[:, 0], lonlat[:, 1]
        wrapped = torch.where((lon >= -180) & (lon < 180), lon, lon - 360 * torch.floor((lon + 180) / 360))
        vectors = self.location(torch.stack([wrapped, lat], -1))[:, : self.length]
        return {"embedding": vectors} | ({} if self.shared is None else {"shared": self.shared(vectors)})


def trace(model: Model) -> ExportedProgram:
    """The graph of a model, for any number of rows."""
    places = torch.from_numpy(uniform_places(5))
    with quiet():
        program = torch.export.export(Places(model).eval(), (places,), dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # folders of this machine
    for name, constant in program.constants.items():
        if isinstance(constant, Tensor):
            program.constants[name] = constant.clone(memory_format=torch.contiguous_format)  # some are views of others
    return program


def write_pt2(model: Model, program: ExportedProgram, path: Path) -> float:
    """Write a graph as a program of torch if what it gives is right: the largest difference, of a vector's length.

    `torch.export.load(path).module()(lonlat)` gives the outputs; the file's extra "graticule.json" says what it is.
    """
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={"graticule.json": json.dumps(properties(model))})
        loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()

    def run(lonlat: NDArray[np.float64]) -> Outputs:
        with torch.inference_mode():
            return {name: out.numpy() for name, out in loaded(torch.from_numpy(lonlat)).items()}

    away = compare(model, run, path)
    atomic_write(path, lambda temporary: temporary.write_bytes(buffer.getvalue()))
    return away


def properties(model: Model) -> dict[str, str]:
    """What a file says about the model in it: name, hash of the weights, licences of the data, the order of input."""
    about = origin(model.about)
    source = about.pop("source")
    sources = "; ".join(f"{name}: {licence}" for name, licence in source.items())
    return {**about, "dimensions": str(model.dim), "input": f"{INPUT}: {INPUT_SAYS}, float64", "attribution": sources}


def compare(model: Model, run: Callable[[NDArray[np.float64]], Outputs], path: Path) -> float:
    """The largest difference between what a file gives and what the model gives, of the mean length of a vector.

    At the poles, around the antimeridian, at wrapped longitudes and 500 random places, at one and at none of them.
    Warns beyond TOLERANCE; CacheError, which names `path`, beyond WRONG.
    """
    edges = list(product((-360, -180, 0, 33.3, np.nextafter(180, 0), 180, 359.9), (-90, -89.9, 0, 66.6, 90)))
    lonlat = np.concatenate([np.array(edges, dtype=np.float64), uniform_places(500)])
    embedding = model.embed(lon=lonlat[:, 0], lat=lonlat[:, 1])
    wanted = {"embedding": embedding}
    if model.shared is not None and model.length is None:
        wanted["shared"] = model.share(embedding)
    worst = 0.0
    for rows in (slice(None), slice(1), slice(0)):
        got = run(lonlat[rows])
        for name, whole in wanted.items():
            length = np.linalg.norm(whole, axis=1).mean()
            away = np.linalg.norm(got[name] - whole[rows], axis=1).max(initial=0) / length
            worst = max(worst, float(away)) if np.isfinite(away) else np.inf
    if worst > WRONG:
        raise CacheError(
            f"{path} was not written: the graph is {worst:.1e} of the length of a vector away from the model, expected "
            f"at most {TOLERANCE:g}. Please report the model's settings."
        )
    if worst > TOLERANCE:
        logger.warning(
            "%s is up to %.1e of the length of a vector away from the model: two ways to round the same numbers. "
            "A basis with dtype=float64 has no such differences.", path, worst,
        )  # fmt: skip
    return worst


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch tells its own developers while it traces and writes graphs from the user."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
