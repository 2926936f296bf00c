"""Training with caches, beside the same model that runs its frozen trunks, or its location basis, in every step.

    python -m benchmarks.training_speed DATA SCRATCH [--small]

DATA is the folder named by GRATICULE_DATA. SCRATCH keeps the caches, 700 MB. SatCLIP and GeoCLIP train the second way:
the frozen image encoder reads the whole batch again in every epoch. Steps of the two alternate in one process on the
same rows. About twelve minutes on two cores. Writes benchmarks/training_speed.md.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.running import machine, markdown, parser
from graticule.data.land import land_and_sea
from graticule.data.loader import EpochSampler
from graticule.data.tables import table
from graticule.encoders.image import MultispectralTrunk
from graticule.encoders.location import LocationEncoder, location_encoder
from graticule.encoders.text import SentenceTrunk
from graticule.encoders.towers import tower
from graticule.encoders.trunk import Trunk
from graticule.geo.coords import Points, lonlat
from graticule.geo.placed import Placed
from graticule.learners.cached_basis import cached_basis
from graticule.learners.contrastive import ContrastiveLearner
from graticule.objectives.contrastive import PairwiseInfoNCE

TEXTS = "text/wikipedia_en_geo_balanced.jsonl.gz"
PATCHES = "satellite/sentinel2_patches"
SIDE = 224  # pixels of a patch, as SatCLIP reads it
BASES: dict[str, dict[str, Any]] = {
    "harmonics, max_degree=16": {"max_degree": 16},
    "harmonics, max_degree=30": {"max_degree": 30},
    "harmonics, max_degree=40": {"max_degree": 40},
    "harmonics+hash-grid, max_degree=40": {"max_degree": 40},
    "spherical-fourier": {},
    "slepian": {},
    "slepian, bandlimit=30, functions=280": {"bandlimit": 30, "functions": 280},
}

NOTE = """# Training with caches

`python -m benchmarks.training_speed DATA SCRATCH` ({machine})

Pairs a second of whole steps: rows drawn, forward, InfoNCE, backward, AdamW. The model is that of the recipe
`imagebind`, the location encoder `graticule` (harmonics to degree 30, residual MLP, 256-d), one tower with an MLP head.
Both ways see the same rows in the same process, step by step in turn; medians.

## Trunk features

"Trunk in every step" is how SatCLIP and GeoCLIP train: the frozen trunk reads the raw rows of each batch, without
gradient. "Cached" draws the float16 features that it gave once. "Waits" is the share of a cached step in which rows are
drawn and become tensors. Texts are Wikipedia articles (all-MiniLM-L6-v2, 128 tokens, {dtype}); patches are
12-band windows of {side} pixels from {patches} real Sentinel-2 patches, trunks with their real architecture and random
weights, which cost what trained ones cost.

{trunks}
## Location bases

`cache_basis=true`: the columns that training leaves as they are, read in float16 from a memory-mapped file, against
computed in every step; batches of {basis_batch:,} of {places:,} places on land, default body. The basis alone is what
the two ways differ in: rows a second into float32 tensors. "Change" is the largest change of a number of the 256-d
vectors by the rounding to float16, as a share of the largest number.

{bases}
{verdict}
"""


def learner_of(location: LocationEncoder, name: str, features: np.ndarray[Any, Any]) -> ContrastiveLearner:
    """The learner of `imagebind` with one tower over these features."""
    torch.manual_seed(0)
    one = tower(features.shape[1], dim=location.dim, whiten=min(96, features.shape[1])).fit_statistics(features)
    return ContrastiveLearner(location, {name: one}, PairwiseInfoNCE([name], temperature=0.4)).train()


def stepper(learner: ContrastiveLearner, name: str) -> Callable[[Placed], None]:
    """One step of training on a batch of tensors."""
    optimiser = torch.optim.AdamW(learner.parameters(), lr=1e-3)

    def step(rows: Placed) -> None:
        optimiser.zero_grad(set_to_none=True)
        learner.loss({name: rows})["loss"].backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimiser.step()

    return step


def tensors(rows: Placed) -> Placed:
    """Arrays as tensors."""
    parts = (rows.lonlat, rows.features, rows.basis)
    lonlat_, features, basis = (None if p is None else torch.from_numpy(np.ascontiguousarray(p)) for p in parts)
    return Placed(lonlat_, features, None, basis)


def alternating(ways: Sequence[Callable[[int], float]], rounds: int, times: Sequence[int]) -> list[list[float]]:
    """Seconds of each way's steps, `times` of them a round, in turn; a first round does not count."""
    seconds: list[list[float]] = [[] for _ in ways]
    number = 0
    for turn in range(rounds + 1):
        for way, count, kept in zip(ways, times, seconds, strict=True):
            for _ in range(1 if turn == 0 else count):
                took = way(number)
                number += 1
                if turn:
                    kept.append(took)
    return seconds


def trunk_row(title: str, trunk: Trunk, contents: Sequence[Any], points: Points, batch: int, rounds: int) -> list[str]:
    """Pairs a second with cached features and with the trunk run on every batch."""
    features = trunk(contents).astype(np.float16)
    learner = learner_of(location_encoder("graticule"), "rows", features)
    step, draws = stepper(learner, "rows"), EpochSampler("rows", len(contents), batch, 0)
    cached = Placed(points, features)
    waits: list[float] = []

    def with_cache(number: int) -> float:
        began = time.perf_counter()
        rows = tensors(cached.take(draws.draw(number)))
        waits.append(time.perf_counter() - began)
        step(rows)
        return time.perf_counter() - began

    def with_trunk(number: int) -> float:
        began = time.perf_counter()
        rows = draws.draw(number)
        step(tensors(Placed(points[rows], trunk([contents[i] for i in rows]))))
        return time.perf_counter() - began

    ours, theirs = map(statistics.median, alternating([with_cache, with_trunk], rounds, [5, 1]))
    shares = [title, f"{batch:,}", f"{batch / ours:,.0f}", f"{batch / theirs:,.1f}", f"{theirs / ours:,.0f}x"]
    return [*shares, f"{statistics.median(waits) / ours:.1%}"]


def basis_row(title: str, points: Points, scratch: Path, batch: int, rounds: int) -> tuple[list[str], float]:
    """The basis alone and whole steps, read and computed; and by how much reading makes a step faster."""
    encoder = location_encoder(title.partition(",")[0], **BASES[title])
    kept = cached_basis(points, encoder, scratch / "bases", title)
    features = np.random.default_rng(0).normal(size=(len(points), 96)).astype(np.float16)
    learner = learner_of(encoder, "rows", features)
    step, draws = stepper(learner, "rows"), EpochSampler("rows", len(points), batch, 0)

    def whole(basis: Any, number: int) -> float:
        began = time.perf_counter()
        step(tensors(Placed(points, features, None, basis).take(draws.draw(number))))
        return time.perf_counter() - began

    def alone(read: bool, number: int) -> float:
        rows = draws.draw(number)
        began = time.perf_counter()
        if read:
            torch.from_numpy(np.ascontiguousarray(kept[rows])).float()
        else:
            with torch.no_grad():
                encoder.basis.constant(torch.from_numpy(points[rows]))
        return time.perf_counter() - began

    parts = alternating([partial(alone, True), partial(alone, False)], rounds, [3, 3])
    steps = alternating([partial(whole, kept), partial(whole, None)], rounds, [2, 2])
    read, computed = map(statistics.median, parts)
    cached, plain = map(statistics.median, steps)
    row = [title, str(kept.shape[1]), f"{kept.nbytes / len(kept):,.0f}"]
    row += [f"{batch / read:,.0f}", f"{batch / computed:,.0f}", f"{batch / cached:,.0f}", f"{batch / plain:,.0f}"]
    return [*row, f"{plain / cached:.2f}x", f"{change(encoder, points[:4096], kept[:4096]):.1e}"], plain / cached


@torch.no_grad()
def change(encoder: LocationEncoder, points: Points, kept: np.ndarray[Any, Any]) -> float:
    """The largest change of a number by reading the basis in float16, as a share of the largest number."""
    encoder.eval()
    places = torch.from_numpy(points)
    exact: Tensor = encoder(places)
    read: Tensor = encoder(places, encoder.features(places, torch.from_numpy(np.array(kept))))
    return float((exact - read).abs().max() / exact.abs().max())


def texts(data: Path, count: int) -> tuple[list[Any], Points]:
    """The first rows of real articles with their places."""
    rows = [row for row in islice(table(data / TEXTS, text="text").rows(), 2 * count) if hasattr(row, "content")][
        :count
    ]
    return [row.content for row in rows], lonlat(lon=[row.lon for row in rows], lat=[row.lat for row in rows])


def windows(data: Path, count: int) -> tuple[list[Any], Points, int]:
    """Random windows of the real Sentinel-2 patches, places drawn on land, and how many patches there are."""
    import rasterio

    patches = []
    for path in sorted((data / PATCHES).glob("*.tif")):
        with rasterio.open(path) as file:
            patches.append(file.read())
    rng = np.random.default_rng(0)
    cut = []
    for _ in range(count):
        patch = patches[rng.integers(len(patches))]
        y, x = rng.integers(0, patch.shape[1] - SIDE + 1), rng.integers(0, patch.shape[2] - SIDE + 1)
        cut.append(patch[:, y : y + SIDE, x : x + SIDE])
    return cut, land_and_sea(land=count, sea=0, draws=8 * count + 100), len(patches)


def main() -> None:
    asking = parser("data", "scratch")
    asking.add_argument("--small", action="store_true", help="a check in two minutes: few rows, few rounds")
    asking.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    asked = asking.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rounds, text_batch, image_batch = (1, 64, 16) if asked.small else (5, 1024, 256)
    basis_batch, places = (1024, 20_000) if asked.small else (4096, 200_000)

    sentence = SentenceTrunk()
    articles, where = texts(asked.data, 2 * text_batch)
    rows = [trunk_row("text, MiniLM", sentence, articles, where, text_batch, rounds)]
    patches, where, count = windows(asked.data, 2 * image_batch)
    for architecture in ("resnet18", "resnet50", "vit-small"):
        trunk = MultispectralTrunk(architecture)
        rows.append(trunk_row(f"image, {architecture}", trunk, patches, where, image_batch, rounds))
    header = ["trunk", "batch", "cached, pairs/s", "trunk in every step, pairs/s", "ratio", "waits"]
    trunks = markdown(header, rows)

    points = land_and_sea(land=places, sea=0, draws=5 * places)
    found = [basis_row(title, points, asked.scratch, basis_batch, rounds) for title in BASES]
    header = ["basis", "columns kept", "bytes a place", "read, rows/s", "computed, rows/s"]
    header += ["step read, pairs/s", "step computed, pairs/s", "ratio", "change"]
    pays = [title for title, (_, ratio) in zip(BASES, found, strict=True) if ratio >= 1.05]
    verdict = f"By 5 % or more it pays for: {'; '.join(pays) or 'none of them'}."
    asked.out.write_text(
        NOTE.format(
            machine=machine(), dtype=sentence.dtype, side=SIDE, patches=count, trunks=trunks,
            basis_batch=basis_batch, places=places, bases=markdown(header, [row for row, _ in found]), verdict=verdict,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
