"""One shard: rows in, a GeoParquet file out. What every process, here or on another machine, is asked to do."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from graticule.bulk import curve, staged
from graticule.bulk.job import Job, Shard
from graticule.bulk.staged import Located
from graticule.data.batches import parquet_points
from graticule.embed import Model, load, place_vectors
from graticule.errors import CacheError
from graticule.files import digest_file
from graticule.geo.geoparquet import Rows, write_geoparquet
from graticule.geo.int8 import stored

BATCH_ROWS = 16_384


def job_model(job: Job) -> Model:
    """The model of a job, loaded; CacheError where it is not the one the job began with."""
    model = load(job.model).prefix(job.asked["dimensions"]).in_precision(job.asked["precision"])
    if model.about["weights"] != job.asked["model_hash"]:
        raise CacheError(f"{model.folder} is not the model this job began with: it was trained again. Start a new job.")
    return model


def write_shard(model: Model, job: Job, shard: Shard) -> dict[str, Any]:
    """Embed the rows of one shard and write its file; returns its digests, its size in bytes and its box.

    `vectors` is BLAKE2b-128 of the numbers as they are kept, row after row, and does not depend on how the
    file is compressed; `blake2b` is that of the file.
    """
    path = job.folder / shard.file
    quantization = job.about["quantization"]
    digest = hashlib.blake2b(digest_size=16)
    box = np.array([np.inf, np.inf, -np.inf, -np.inf])

    def embedded() -> Iterator[Rows]:
        for rows, points in shard_rows(job, shard):
            vectors = stored(place_vectors(model, points, job.asked["space"]), quantization)
            digest.update(np.ascontiguousarray(vectors).data)
            if len(points):
                box[:2] = np.minimum(box[:2], points.min(axis=0))
                box[2:] = np.maximum(box[2:], points.max(axis=0))
            yield rows, points, vectors

    rows = write_geoparquet(path, embedded(), about=job.about)
    if rows != shard.rows:
        raise CacheError(f"{shard.source} gave {rows:,} rows for {path}, expected {shard.rows:,}. Was it changed?")
    size = path.stat().st_size
    west_south_east_north = box.tolist() if rows else None
    return {
        "vectors": digest.hexdigest(),
        "blake2b": digest_file(path),
        "bytes": size,
        "box": west_south_east_north,
    }


def shard_rows(job: Job, shard: Shard) -> Iterator[Located]:
    """The rows of a shard in the order in which they are written, and their places."""
    source = Path(shard.source)
    if shard.groups:
        yield from parquet_points(source, job.asked["lon"], job.asked["lat"], groups=shard.groups, row=shard.row)
    elif job.asked["order"] == "hilbert":
        rows, points = curve.sorted_rows(list(staged.read(source)))
        for at in range(0, max(len(rows), 1), BATCH_ROWS):
            yield rows.slice(at, BATCH_ROWS), points[at : at + BATCH_ROWS]
    else:
        yield from staged.read(source)
