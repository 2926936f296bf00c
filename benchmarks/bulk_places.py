"""What `benchmarks.bulk` embeds and how its output is checked: places, a model of the real size, every row counted."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from graticule.data.store import prepare
from graticule.data.synthetic import hidden_functions
from graticule.data.tables import table
from graticule.embed import Model, load
from graticule.files import atomic_write, read_json
from graticule.geo.coords import Points, lonlat, uniform_places
from graticule.geo.geoparquet import vectors_of
from graticule.geo.hilbert import hilbert_keys
from graticule.geo.int8 import stored
from graticule.runs import train

ENCODER = {  # of the model inside
    "location": "harmonics+hash-grid",
    "location.body": "residual-mlp",
    "location.max_degree": 16,
    "location.width": 384,
    "location.depth": 3,
    "location.levels": 14,
    "location.finest": 640,
    "location.log2_entries": 15,
    "location.features": 4,
}
TRAINED = {"trunk.text": "ngram", "dim": 256, "prefixes": "64", "steps": 60, "batch_size": 512, "device": "cpu"}
TEXTS = 4000
WORDS = ("forest", "desert", "harbour", "glacier", "meadow", "city")
CLUSTERS, CLUSTERED, SPREAD_DEG = 5000, 0.4, 0.2  # towns, the share of places in them, and how wide they are
PIECE = 1 << 18  # places drawn at once, and a row group
SAMPLE = 8  # rows of a shard that are embedded anew
BATCH = 1 << 16
Bits = NDArray[np.uint64]


def make_model(work: Path) -> Path:
    """A run whose vectors may be cut to 64 numbers, with the encoder of the model inside; its training is short."""
    run = work / "run"
    if not (run / "run.json").exists():
        places = uniform_places(TEXTS, seed=1)
        hidden = hidden_functions(places, count=len(WORDS), seed=0)
        texts = work / "texts.csv"
        with texts.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "lon", "lat", "text"])
            for i, ((lon, lat), values) in enumerate(zip(places, hidden, strict=True)):
                rows.writerow([i, lon, lat, " ".join(w for w, v in zip(WORDS, values, strict=True) if v > 0) or "sea"])
        train("melt", prepare({"text": table(texts)}, to=work / "texts"), to=run, **ENCODER, **TRAINED)
    return run


def _drawn(rows: int) -> Iterator[tuple[NDArray[np.int64], Points]]:
    """Numbers and places, a piece at a time: by area over the sphere, and in towns of unequal size."""
    towns = uniform_places(CLUSTERS, seed=0)
    share = 1 / np.arange(1, CLUSTERS + 1)
    for first in range(0, rows, PIECE):
        n = min(PIECE, rows - first)
        rng = np.random.default_rng([2, first])
        near = towns[rng.choice(CLUSTERS, n, p=share / share.sum())] + rng.normal(scale=SPREAD_DEG, size=(n, 2))
        places = np.where(rng.random((n, 1)) < CLUSTERED, near, uniform_places(n, seed=rng))
        yield np.arange(first, first + n), lonlat(lon=places[:, 0], lat=places[:, 1].clip(-90, 90))


def make_places(path: Path, rows: int) -> None:
    """A Parquet table of id, lon and lat."""
    schema = pa.schema([("id", pa.int64()), ("lon", pa.float64()), ("lat", pa.float64())])

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=False) as writer:
            for ids, places in _drawn(rows):
                writer.write_table(pa.table([pa.array(ids), *map(pa.array, places.T)], schema=schema))

    if not path.exists():
        atomic_write(path, write)


def _mixed(ids: NDArray[np.int64], places: Points) -> int:
    """A sum over rows that does not depend on their order, and changes where a row is lost, doubled or altered."""
    with np.errstate(over="ignore"):
        mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        for axis in (0, 1):
            bits = np.ascontiguousarray(places[:, axis]).view(np.uint64)
            mixed = (mixed ^ bits ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        return int((mixed ^ (mixed >> np.uint64(32))).sum())


def _places(batch: pa.RecordBatch) -> Points:
    return np.stack([batch["lon"].to_numpy(), batch["lat"].to_numpy()], axis=-1)


def checksum(path: Path) -> int:
    """Of a table of id, lon and lat."""
    with pq.ParquetFile(path) as file:
        return sum(_mixed(b["id"].to_numpy(), _places(b)) for b in file.iter_batches(BATCH)) % (1 << 64)


def check(folder: Path, model: Model, rows: int, order: str, places_checksum: int) -> dict[str, Any]:
    """Read every shard as a stream: every id once and in its order, places, geometries and boxes, digests of vectors.

    Raises ValueError for what is wrong; returns what was counted.
    """
    manifest = read_json(folder / "_manifest.json")
    seen, last_key, total = np.zeros(rows, dtype=bool), -1, 0
    exact = sampled = 0
    for entry in manifest["shards"]:
        digest, first = hashlib.blake2b(digest_size=16), True
        with pq.ParquetFile(folder / entry["file"]) as file:
            for batch in file.iter_batches(BATCH, use_threads=False):
                ids, here, vectors = batch["id"].to_numpy(), _places(batch), vectors_of(pa.table(batch)["embedding"])
                digest.update(vectors.tobytes())
                _expect(not seen[ids].any() and len(np.unique(ids)) == len(ids), "a row stands twice", entry)
                seen[ids] = True
                _expect(_geometry_is(batch, here), "a geometry or box is not that of its place", entry)
                total += _mixed(ids, here)
                keys = ids if order == "input" else hilbert_keys(here)
                _expect(bool((np.diff(keys, prepend=last_key) >= 0).all()), "rows are not in order", entry)
                _expect(order == "input" or bool((batch["row"].to_numpy() == ids).all()), "row is not the row", entry)
                last_key = keys[-1]
                if first:
                    anew = stored(model.embed_points(here[:SAMPLE]), manifest["about"]["quantization"])
                    apart = np.abs(anew.astype(int) - vectors[:SAMPLE]).max(axis=1)
                    _expect(apart.max() <= 1, "a vector is not that of its place", entry)
                    exact, sampled, first = exact + int((apart == 0).sum()), sampled + len(apart), False
        _expect(digest.hexdigest() == entry["vectors"], "the digest of vectors is not that of the manifest", entry)
    _expect(bool(seen.all()), f"{rows - int(seen.sum())} rows are lost", manifest)
    _expect(total % (1 << 64) == places_checksum, "places are not those of the input", manifest)
    sizes = [entry["bytes"] for entry in manifest["shards"]]
    return {"rows": int(seen.sum()), "shards": len(sizes), "bytes": sum(sizes), "sampled": sampled, "exact": exact}


def _geometry_is(batch: pa.RecordBatch, places: Points) -> bool:
    packed = np.frombuffer(b"".join(batch["geometry"].to_pylist()), dtype=np.uint8).reshape(-1, 21)
    box = [batch["bbox"].field(side).to_numpy() for side in ("xmin", "ymin", "xmax", "ymax")]
    return bool(
        (packed[:, 5:].copy().view("<f8") == places).all() and (np.stack(box, axis=-1) == np.tile(places, 2)).all()
    )


def _expect(right: bool, otherwise: str, where: dict[str, Any]) -> None:
    if not right:
        raise ValueError(f"{where.get('file', 'the whole')}: {otherwise}")


def alone(run: str, rows: int) -> None:
    """Embed places as a worker does and keep nothing: what a job cannot go below."""
    model = load(run).prefix(64)
    scale = {"type": "int8", "scale": [1.0] * 64}
    for _, places in _drawn(rows):
        for at in range(0, len(places), 1 << 14):
            stored(model.embed_points(places[at : at + (1 << 14)]), scale)
