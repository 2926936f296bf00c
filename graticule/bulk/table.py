"""A table of places as a GeoParquet file or a folder of shards: any size, constant memory, killed and gone on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from graticule.bulk.cluster import on_cluster
from graticule.bulk.job import STAGED, Job, open_job, whole
from graticule.bulk.layout import ORDERS, lay_out
from graticule.bulk.shard import write_shard
from graticule.bulk.workers import Record, side_by_side
from graticule.embed import INSIDE, Model, quantization
from graticule.errors import CacheError, DataError, GraticuleError, SettingError, unknown
from graticule.files import digest_file
from graticule.finished import origin
from graticule.geo.geoparquet import write_tables
from graticule.progress import Progress

logger = logging.getLogger(__name__)
SHARD_ROWS = 1 << 19


def embed_table(
    model: Model,
    path: Path,
    out: Path,
    *,
    lon: str | None = None,
    lat: str | None = None,
    numbers: str = "float32",
    order: str = "input",
    space: str = "own",
    workers: int = 1,
    shard_rows: int = SHARD_ROWS,
    ray: str | None = None,
) -> int:
    """Embed every row of a table (CSV, TSV, JSONL, Parquet, GeoJSON) as GeoParquet; returns the number of rows.

    out: with an ending, one file; without one, a folder of shards `part-00000.parquet` and so on, of some `shard_rows`
    rows each, with a manifest of their digests.
    numbers: float32, float16, or int8 with a scale a column (`geo.geoparquet.table_vectors` reads all three).
    order: "input", or "hilbert": neighbours stand together, the number of the input's row in the column `row`.
    space: "own", or "shared": the vectors of `Model.share`, to compare with texts and pictures.
    workers: processes on this machine, one thread each; with 1 all is done in this one. ray: the address of a Ray
    cluster, or "local": as many workers there.

    Killed at any moment, the same call goes on: shards that are done are kept. Raises DataError where another
    job's shards are in the way, and what `read_points` raises before anything is embedded.
    """
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    if workers < 1 or shard_rows < 1:
        raise SettingError(f"Workers and rows of a shard must be at least 1, got {workers} and {shard_rows}.")
    single = out.suffix != ""
    if single and out.is_dir():
        raise SettingError(f"{out} is a folder: name a file, or for shards a folder without an ending.")
    folder = out.with_name(f"{out.name}.parts") if single else out
    stamp = _stamp(path)
    job = _laid_out(_job(model, path, folder, numbers, order, space, lon, lat, shard_rows), path)
    with Progress(f"embed {path.name}", job.rows) as progress:
        progress.skip(job.rows - sum(shard.rows for shard in job.left))
        for shard, record in _written(model, job, workers, ray):
            if _stamp(path) != stamp:
                raise DataError(f"{path} was changed while it was embedded. Delete {folder} and run again.")
            job = job.finished(shard, record)
            if not shard.groups:
                Path(shard.source).unlink(missing_ok=True)
            progress.advance(shard.rows)
    shutil.rmtree(folder / STAGED, ignore_errors=True)
    for torn in folder.glob(".*.tmp"):  # of processes that were killed
        torn.unlink(missing_ok=True)
    if single:
        _join(job, out)
        shutil.rmtree(folder)
    return job.rows


def _stamp(path: Path) -> tuple[int, int]:
    """What changes with a file."""
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _job(
    model: Model,
    path: Path,
    folder: Path,
    numbers: str,
    order: str,
    space: str,
    lon: str | None,
    lat: str | None,
    shard_rows: int,
) -> Job:
    """The job that waits in the folder, or a new one."""
    asked: dict[str, Any] = {
        "model": model.about["name"],
        "model_hash": model.about["weights"],
        "dimensions": model.dim,
        "precision": model.precision,
        "numbers": numbers,
        "order": order,
        "space": space,
        "lon": lon,
        "lat": lat,
        "shard_rows": shard_rows,
        "input": {"name": path.name, "bytes": path.stat().st_size, "blake2b": digest_file(path)},
    }
    job = open_job(folder, asked, path)
    if job is not None:
        return whole(job)
    about = origin(model.about) | {"space": space, "quantization": quantization(model, numbers, space)}
    return Job(folder, asked, about, None if model.folder == INSIDE else str(model.folder.resolve()))


def _laid_out(job: Job, path: Path) -> Job:
    """The job with its shards, and the rows of those that are left where they are read from."""
    if job.shards and all(shard.groups or Path(shard.source).exists() for shard in job.left):
        return job
    staged, asked = job.folder / STAGED, job.asked
    new = not job.folder.exists()
    try:
        shards = lay_out(
            path, staged, lon=asked["lon"], lat=asked["lat"], order=asked["order"], shard_rows=asked["shard_rows"]
        )
    except GraticuleError:
        shutil.rmtree(job.folder if new else staged, ignore_errors=True)
        raise
    if job.shards and [(s.file, s.rows) for s in shards] != [(s.file, s.rows) for s in job.shards]:
        raise CacheError(f"{job.folder} does not fit {path}. Delete it and run again.")
    return replace(job, shards=tuple(shards)).write()


def _written(model: Model, job: Job, workers: int, ray: str | None) -> Iterator[Record]:
    left = job.left
    if ray is not None and left:
        yield from on_cluster(job, left, workers, ray)
    elif min(workers, len(left)) > 1:
        yield from side_by_side(job, left, min(workers, len(left)))
    else:
        for shard in left:
            yield shard, write_shard(model, job, shard)


def _join(job: Job, out: Path) -> None:
    """One file of all shards, in their order."""
    import pyarrow.parquet as pq

    files = [job.folder / shard.file for shard in job.shards]
    if len(files) == 1:
        files[0].replace(out)
        return

    def groups() -> Iterator[Any]:
        with Progress(f"join {out.name}", job.rows) as progress:
            for path in files:
                with pq.ParquetFile(path) as file:
                    for i in range(file.num_row_groups):
                        yield file.read_row_group(i, use_threads=False)
                        progress.advance(file.metadata.row_group(i).num_rows)

    write_tables(out, groups())
