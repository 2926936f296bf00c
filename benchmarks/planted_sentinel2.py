"""A spectral signal planted by place in Sentinel-2 patches: found again where no patch was, lost without its bands.

    python -m benchmarks.planted_sentinel2 FOLDER [--patches 5000] [--size 64] [--seed 0]

Writes an S2-100K folder whose bands B4, B8 and B11 carry two hidden smooth functions of position, and the same
patches with these bands zeroed; trains on both with blocks of the Earth held out; writes
benchmarks/planted_sentinel2.md.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graticule.data.sentinel2 import sentinel2
from graticule.data.source import Row, Skip, Source
from graticule.data.store import Dataset, Table, prepare
from graticule.data.synthetic import SIGNAL_BANDS, hidden_functions, write_s2_folder
from graticule.embed import Model
from graticule.evaluation.probes import fit_ridge, score
from graticule.evaluation.splits import Rows, equal_area_block_split
from graticule.learners.features import cached_features, raw_features
from graticule.runs import train

BLOCK_KM, APART_KM, NEIGHBOURS = 1500.0, 50.0, 5
SETTINGS = {
    "dim": 32,
    "head": "linear",
    "learning_rate": 3e-3,
    "learn_temperature": False,
    "location": "harmonics",
    "location.depth": 1,
    "location.max_degree": 4,
    "location.width": 64,
    "temperature": 0.2,
    "device": "cpu",
    "threads": 1,
}
NETWORK = {**SETTINGS, "steps": 150, "batch_size": 128, "train_trunks": "patch,zeroed"}
STATISTICS = {**SETTINGS, "steps": 300, "batch_size": 256}
RUNS: dict[str, dict[str, object]] = {
    "network": {**NETWORK, "modalities": "patch"},
    "network, bands zeroed": {**NETWORK, "modalities": "zeroed"},
    "network, places shuffled": {**NETWORK, "modalities": "patch", "shuffle": True},
    "network, untrained": {**NETWORK, "modalities": "patch", "steps": 0},
    "statistics": {**STATISTICS, "modalities": "patch"},
    "statistics, bands zeroed": {**STATISTICS, "modalities": "zeroed"},
    "statistics, places shuffled": {**STATISTICS, "modalities": "patch", "shuffle": True},
    "statistics, untrained": {**STATISTICS, "modalities": "patch", "steps": 0},
}
Array = NDArray[np.float64]


def without(source: Source, bands: tuple[str, ...]) -> Source:
    """The same rows with some bands set to zero."""
    lost = [source.bands.index(band) for band in bands]

    def records(start: int) -> Iterator[Row | Skip]:
        for record in source.records(start):
            if isinstance(record, Row):
                np.asarray(record.content)[lost] = 0
            yield record

    return dataclasses.replace(source, records=records, about={**source.about, "zeroed": list(bands)})


@dataclasses.dataclass(frozen=True)
class Planted:
    """Prepared patches, whole and zeroed, the truth behind them and which rows are held out, in whole blocks."""

    data: Dataset
    hidden: Array
    known: Rows
    asked: Rows
    holdout: Path


def plant(folder: Path, *, patches: int, size: int, seed: int) -> Planted:
    """Write and prepare the patches; a fifth of the cells of BLOCK_KM is held out, with APART_KM around each patch."""
    raw = folder / "s2"
    if not (raw / "index.csv").exists():
        write_s2_folder(raw, n=patches, seed=seed, size=size, shifted=0.4)
    whole = sentinel2(raw)
    data = prepare({"patch": whole, "zeroed": without(whole, SIGNAL_BANDS)}, to=folder / "data")
    points = data["patch"].lonlat
    known, asked = equal_area_block_split(points, BLOCK_KM, folds=5, seed=seed, buffer_km=APART_KM)[0]
    holdout = folder / "holdout.csv"
    with holdout.open("w", newline="") as file:
        csv.writer(file).writerows([("lon", "lat"), *points[asked].tolist()])
    return Planted(data, hidden_functions(points, count=2, seed=seed), known, asked, holdout)


def train_on(planted: Planted, folder: Path, **settings: object) -> Model:
    """An imagebind run that sees no patch of the held-out blocks."""
    return train("imagebind", planted.data, to=folder, holdout=planted.holdout, holdout_km=APART_KM, **settings)


def patch_vectors(model: Model, table: Table) -> Array:
    """(n, dim) unit vectors of patches by the model's only tower."""
    (modality,) = model.modalities
    trunk = model.trunk(modality)
    rows = raw_features(table) if trunk is None else cached_features(table, trunk)
    return unit(model.embed_features(modality, rows.features, batch_size=256))


def unit(vectors: NDArray[np.float32]) -> Array:
    return vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_probe(vectors: Array, planted: Planted) -> Array:
    """R2 of both hidden functions at the held-out rows by a ridge from the vectors of the others."""
    weight, intercept, _ = fit_ridge(vectors[planted.known], planted.hidden[planted.known])
    return scores(planted, vectors[planted.asked] @ weight + intercept)


def by_place(model: Model, vectors: Array, planted: Planted) -> Array:
    """R2 from held-out PLACES alone: the mean truth of the other held-out patches nearest to a place's vector.

    Patches seen in training would not do: a tower may know them and their places by heart.
    """
    places = unit(model.embed_points(planted.data["patch"].lonlat[planted.asked]))
    similarity = places @ vectors[planted.asked].T
    np.fill_diagonal(similarity, -np.inf)
    found = np.argpartition(-similarity, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    return scores(planted, planted.hidden[planted.asked][found].mean(axis=1))


def scores(planted: Planted, predicted: Array) -> Array:
    truth = planted.hidden[planted.asked]
    return np.array([score(truth[:, j], predicted[:, j]) for j in range(truth.shape[1])])


def examined(model: Model, planted: Planted) -> dict[str, Array]:
    """All figures of one run, each for both hidden functions."""
    (modality,) = model.modalities
    vectors = patch_vectors(model, planted.data[modality])
    return {
        "patch": by_probe(vectors, planted),
        "zeroed patch": by_probe(patch_vectors(model, planted.data["zeroed"]), planted),
        "place through patches": by_place(model, vectors, planted),
        "place by its own probe": by_probe(unit(model.embed_points(planted.data["patch"].lonlat)), planted),
    }


NOTE = """# A planted signal in Sentinel-2 patches

`python -m benchmarks.planted_sentinel2 FOLDER --patches {patches} --size {size} --seed {seed}` ({seconds:.0f} s on one
core: writing and preparing {written:.0f} s, training {trained:.0f} s; run seed 0)

{patches:,} generated 12-band patches of {size} x {size} pixels, uniform over the Earth, 40 % with the +1000 offset. Two
hidden smooth functions of position set the ratios B8 / B4 and B11 / B8A; brightness, texture and noise do not depend
on the place. {asked:,} patches, in a fifth of the 1,500 km cells, are held out of training and of every probe;
{known:,} others, at least 50 km away, are seen. `imagebind`, one modality; "network" trains its multispectral trunk
from random weights, "statistics" is the frozen default.

R2 at the held-out patches, of the first and the second hidden function:

"""
HEADER = {
    "patch": "patch",
    "zeroed patch": "patch, bands zeroed after training",
    "place through patches": "place, through patches",
    "place by its own probe": "place, own probe",
}
LEGEND = """
- **patch**: ridge from the tower's vectors of the patches this run reads. A run with zeroed bands reads zeroed patches.
  The signal lies in the pixels, so towers that learned nothing about places show it too, a random network least.
- **patch, bands zeroed after training**: the same run reads patches without B4, B8 and B11; the ridge is fitted anew.
- **place, through patches**: only coordinates of held-out blocks come in; the location vector looks up the 5 most
  similar vectors (cosine) of other held-out patches, and their mean truth is the answer. It fails unless the tower has
  found the signal, the location encoder carries it into blocks without a patch, and both agree. Patches seen in
  training would not do: the tower may know them, and so their places, by heart.
- **place, own probe**: ridge from location vectors to the truth. It proves nothing here, since the truth is smooth in
  position: vectors of an encoder that has learned nothing do it too.

Settings of network: {network}; of statistics: {statistics}.
"""


def table(figures: dict[str, dict[str, Array]], seconds: dict[str, float]) -> str:
    """Markdown: a line for each run."""
    lines = ["| | " + " | ".join(HEADER.values()) + " | seconds |", "|---" * (len(HEADER) + 2) + "|"]
    for name, found in figures.items():
        cells = [", ".join(f"{value:.2f}" for value in found[key]) for key in HEADER]
        lines.append("| " + " | ".join([name, *cells, f"{seconds[name]:.0f}"]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patches", type=int, default=5000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    planted = plant(asked.folder, patches=asked.patches, size=asked.size, seed=asked.seed)
    written = time.monotonic() - began
    figures, seconds = {}, {}
    for name, settings in RUNS.items():
        model = train_on(planted, asked.folder / "runs" / name.replace(",", "").replace(" ", "-"), **settings)
        figures[name], seconds[name] = examined(model, planted), model.about["seconds"]
    note = NOTE.format(
        **{k: getattr(asked, k) for k in ("patches", "size", "seed")},
        seconds=time.monotonic() - began,
        written=written,
        trained=sum(seconds.values()),
        asked=len(planted.asked),
        known=len(planted.known),
    )
    legend = LEGEND.format(network=json.dumps(NETWORK), statistics=json.dumps(STATISTICS))
    text = note + table(figures, seconds) + legend
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
