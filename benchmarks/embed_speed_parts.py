"""The parts of `benchmarks.embed_speed`, each in a process of its own.

`python -m benchmarks.embed_speed_parts PART JSON` prints what a part says as one JSON. The environment says how many
threads there are before any library is loaded.
"""

from __future__ import annotations

import json
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.embed_peers import load_peers
from graticule.embed import PRECISIONS, Model, load
from graticule.encoders.bodies import split_body
from graticule.encoders.harmonics import harmonic_rows, harmonics
from graticule.encoders.location import location_encoder
from graticule.encoders.networks import TorchNetworks
from graticule.encoders.threads import in_threads
from graticule.evaluation.examine import evaluate
from graticule.evaluation.tasks import MAIN, load_tasks
from graticule.geo.coords import Points, uniform_places, unit_sphere
from graticule.geo.grid import Axes, grid_points

ENCODERS: dict[str, dict[str, Any]] = {
    "the model inside": {},
    "L=40, residual MLP 384 x 3": {"name": "graticule", "max_degree": 40},
    "L=40, SIREN 2 x 512 (SatCLIP's shape)": {"name": "satclip", "max_degree": 39},
    "L=100, residual MLP 384 x 3": {"name": "graticule", "max_degree": 100},
    "L=40, linear": {"name": "harmonics", "body": "linear", "max_degree": 40},
}
SCATTERED = tuple(ENCODERS)[:3]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BATCHES = (1024, 8192)
Work = tuple[int, Callable[[Points], Any]]  # places at a time, and what is done with them


def model(name: str) -> Model:
    """The model inside, or an untrained encoder: speed does not depend on weights."""
    options = ENCODERS[name]
    return load() if not options else Model(Path(), {}, TorchNetworks(location_encoder(**options).eval()))


def alternate(works: Mapping[str, Work], repeats: int) -> dict[str, float]:
    """Median seconds a place, every work once in each round, after a first round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        for _ in range(repeats + 1):
            for name, (places, work) in works.items():
                points = uniform_places(places)
                began = time.perf_counter()
                work(points)
                seconds[name].append((time.perf_counter() - began) / places)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def in_batches(work: Callable[[Points], Any], size: int, points: Points) -> None:
    """A peer takes what it is given at once; most are fastest in batches."""
    for start in range(0, len(points), size):
        work(points[start : start + size])


def best_batch(peer: Callable[[Points], Any]) -> Work:
    """A peer in the batches that suit it best, on about as many places as it embeds in half a second."""
    rates = {}
    with torch.inference_mode():
        for size in BATCHES:
            points, taken, before = uniform_places(size), math.inf, math.inf
            while before == math.inf or taken < 0.8 * before:  # some compile what they do in their first calls
                before, began = taken, time.perf_counter()
                peer(points)
                taken = time.perf_counter() - began
            rates[size] = size / taken
    size = max(rates, key=lambda size: rates[size])
    return size * max(1, round(rates[size] / 2 / size)), partial(in_batches, peer, size)


def products(name: str, dtype: torch.dtype) -> Callable[[Points], None]:
    """The bare matrix products of an encoder, in blocks of 1,024 places, nothing between them."""
    encoder = model(name).location
    assert split_body(encoder.body) is not None
    shapes = [tuple(p.shape) for p in encoder.body.parameters() if p.ndim == 2]
    if encoder.skip is not None:
        shapes.append(tuple(encoder.skip.weight.shape))
    pairs = [
        (torch.randn(1024, inside, dtype=dtype), torch.randn(out, inside, dtype=dtype).T) for out, inside in shapes
    ]

    def block(_: int) -> None:
        for rows, weight in pairs:
            torch.mm(rows, weight)

    return lambda points: [*in_threads(lambda: block, range(len(points) // 1024))].clear()


def sphericart(degree: int, dtype: str = "float32") -> Callable[[Points], Any]:
    """Their basis on points of the sphere, in blocks that stay in the cache."""
    import sphericart

    basis = sphericart.SphericalHarmonics(degree)
    xyz: dict[int, Any] = {}

    def work(points: Points) -> None:
        if len(points) not in xyz:
            xyz[len(points)] = unit_sphere(points).astype(dtype)
        whole = xyz[len(points)]
        for start in range(0, len(whole), 16_384):
            basis.compute(whole[start : start + 16_384])

    return work


def scattered(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds a place of peers, of ours, and of the floor: bare products and sphericart."""
    peers, absent = load_peers(*(asked[name] and Path(asked[name]) for name in ("satclip", "tte", "torchspatial")))
    works = {name: best_batch(peer) for name, peer in peers.items()}
    for name in SCATTERED:
        for precision in PRECISIONS:
            works[f"{name}, {precision}"] = asked["places"], model(name).in_precision(precision).embed_points
    for name in SCATTERED:
        for precision in PRECISIONS:
            works[f"products of {name}, {precision}"] = asked["places"], products(name, DTYPES[precision])
    works |= {f"sphericart {degree}": (asked["places"], sphericart(degree)) for degree in (16, 39, 40)}
    source = np.ones(2**26, dtype=np.float32)
    target = np.empty_like(source)
    works["copy"] = 1, lambda _: np.copyto(target, source)
    seconds = alternate(works, asked["repeats"])
    return {"seconds": seconds, "absent": absent, "copy_gb": 2 * source.nbytes / seconds["copy"] / 1e9}


def basis(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds a place of the harmonics: ours as a matrix, ours as the rows that the first layer takes, sphericart's."""

    def rows(degree: int, points: Points) -> None:
        def worker() -> Callable[[slice], None]:
            out = np.empty(((degree + 1) ** 2, 512), dtype=np.float32)
            return lambda some: harmonic_rows(points[some], degree, out[:, : len(points[some])])

        [*in_threads(worker, [slice(start, start + 512) for start in range(0, len(points), 512)])].clear()

    works: dict[str, Work] = {}
    for degree in (10, 16, 40, 100):
        places = max(2048, 20_000_000 // (degree + 1) ** 2)
        works[f"{degree} matrix"] = places, partial(harmonics, max_degree=degree)
        works[f"{degree} rows"] = places, partial(rows, degree)
        works[f"{degree} sphericart"] = places, sphericart(degree)
    return alternate(works, asked["repeats"])


def raster(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds a place and peak memory of a raster through `Model.embed_grid`, or a tenth of it as scattered places."""
    lon = -180 + (np.arange(asked["columns"]) + 0.5) * 360 / asked["columns"]
    lat = 90 - (np.arange(asked["rows"]) + 0.5) * 180 / asked["rows"]
    made, total = model(asked["encoder"]).in_precision(asked["precision"]), 0.0
    made.location  # noqa: B018 (made now, not in the seconds that count)
    began = time.perf_counter()
    if asked["way"] == "grid":
        places = len(lon) * len(lat)
        for band in made.embed_grid(lon=lon, lat=lat):
            total += float(band[..., 0].sum())
    else:
        down, across = np.meshgrid(lat, lon[::10])  # column after column: no grid as rasters are
        places = down.size
        points = np.stack([across.ravel(), down.ravel()], 1)
        for start in range(0, places, 1 << 18):
            total += float(made.embed_points(points[start : start + (1 << 18)])[:, 0].sum())
    seconds = (time.perf_counter() - began) / places
    return {"seconds": seconds, "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "total": total}


def curves(asked: dict[str, Any]) -> dict[str, Any]:
    """Seconds a place over the number of places, and over the degree at scattered places and on a grid."""
    works: dict[str, Work] = {}
    for name in SCATTERED[:2]:
        for precision in PRECISIONS:
            embed = model(name).in_precision(precision).embed_points
            for places in [10**k for k in range(7) if 10**k <= asked["most"]]:
                works[f"{name}|{precision}|{places}"] = places, embed
    grid = grid_points(Axes(np.linspace(-180, 179, 1024), np.linspace(-89, 89, max(1, asked["places"] // 1024))))
    for degree in (4, 10, 20, 40, 70, 100, 200):
        made = Model(
            Path(), {}, TorchNetworks(location_encoder("graticule", max_degree=degree, low_frequency=4).eval())
        )
        for precision in PRECISIONS:
            embed = made.in_precision(precision).embed_points
            works[f"{degree}|{precision}|scattered"] = len(grid), embed
            works[f"{degree}|{precision}|grid"] = len(grid), lambda _, embed=embed: embed(grid)
    return alternate(works, asked["repeats"])


def accuracy(asked: dict[str, Any]) -> dict[str, Any]:
    """Cosines of bfloat16 to float32 vectors of all encoders, and linear probes of the model inside in both."""
    cosines = {}
    places = uniform_places(asked["places"])
    deep = {"sixteen sine layers": {"body": "residual-siren", "depth": 8}, "hash grid": {"name": "hash-grid"}}
    preset = {name: {"name": name} for name in ("geoclip", "csp", "voronoi", "spherical-fourier")}
    made = {name: model(name) for name in ENCODERS} | {
        name: Model(Path(), {}, TorchNetworks(location_encoder(**options).eval()))
        for name, options in (deep | preset).items()
    }
    for name, one in made.items():
        exact, rounded = (one.in_precision(precision).embed_points(places) for precision in PRECISIONS)
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
        cosine = (exact.astype(np.float64) * rounded).sum(1) / lengths
        cosines[name] = {"least": float(cosine.min()), "mean": float(cosine.mean())}
    if not asked["tasks"]:
        return {"cosines": cosines}
    inside = load()
    embeds = {precision: inside.in_precision(precision).embed_points for precision in PRECISIONS}
    outcomes = evaluate(embeds, load_tasks(asked["tasks"], MAIN), baselines=False).outcomes
    scores = {(o.embedding, o.split, o.task.name): o.score for o in outcomes}
    probes = {}
    for split in ("random", "blocks"):
        both = np.array([[scores[p, split, task] for p in PRECISIONS] for task in MAIN])
        probes[split] = {"means": both.mean(0).tolist(), "most": float(np.abs(np.diff(both)).max())}
    return {"cosines": cosines, "probes": probes}


PARTS = {part.__name__: part for part in (scattered, basis, raster, curves, accuracy)}

if __name__ == "__main__":
    print(json.dumps(PARTS[sys.argv[1]](json.loads(sys.argv[2]))))
