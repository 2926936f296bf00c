"""How many places a second each location encoder embeds on one core.

    python -m benchmarks.encoder_speed [--places 16384] [--repeats 5]

Untrained encoders with their default body and 256 dimensions, through `Model.embed`; the basis alone in numpy; and one
step of training, forward and backward. A minute or two. Writes benchmarks/encoder_speed.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.running import markdown
from graticule.embed import Model
from graticule.encoders.location import LocationEncoder, location_encoder
from graticule.encoders.networks import TorchNetworks
from graticule.geo.coords import uniform_places

ENCODERS: dict[str, dict[str, Any]] = {
    "harmonics": {},
    "harmonics, max_degree=40": {"max_degree": 40},
    "hash-grid": {},
    "voronoi": {},
    "voronoi, sites=65536": {"sites": 65536},
    "slepian": {},
    "slepian, bandlimit=30, functions=280": {"bandlimit": 30, "functions": 280},
    "spherical-fourier": {},
    "harmonics+hash-grid": {},
    "harmonics+voronoi": {},
    "harmonics, body=residual-siren, depth=16": {"body": "residual-siren", "depth": 16},
}
ROWS = 2048  # of a training step

NOTE = """# Speed of the location encoders

`python -m benchmarks.encoder_speed` ({places:,} places uniform on the sphere, median of {repeats})

Points a second of the whole encoder through `Model.embed` (256 dimensions, residual MLP unless it says otherwise), of
the basis alone in numpy, and of a step of training on {rows:,} places, forward and backward; seconds of processor time,
so that other work on the machine counts little.

"""


def step(encoder: LocationEncoder, points: torch.Tensor) -> None:
    """Forward and backward."""
    encoder(points).square().mean().backward()


def rate(count: int, repeats: int, work: Callable[[], Any]) -> str:
    """Points a second of processor time of `work` on `count` points, after a first time that does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return f"{count / statistics.median(seconds):,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, default=16_384)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    places = uniform_places(asked.places)
    lon, lat = places.T
    few = torch.from_numpy(places[:ROWS])
    rows = []
    for name, options in ENCODERS.items():
        encoder = location_encoder(name.partition(",")[0], **options)
        basis, model = encoder.basis.basis, Model(Path(), {}, TorchNetworks(encoder.eval()))
        arrays = basis.arrays()
        rates = [
            rate(asked.places, asked.repeats, partial(model.embed, lon=lon, lat=lat)),
            rate(asked.places, asked.repeats, partial(basis, places, arrays)),
            rate(ROWS, asked.repeats, partial(step, encoder, few)),
        ]
        weights = sum(p.numel() for p in encoder.parameters())
        rows.append([name, str(basis.dim), f"{weights / 1e6:.2f}M", *rates])
    note = NOTE.format(places=asked.places, repeats=asked.repeats, rows=ROWS)
    header = ["", "columns of the basis", "trained weights", "encoder", "basis", "training"]
    Path(__file__).with_suffix(".md").write_text(note + markdown(header, rows))


if __name__ == "__main__":
    main()
