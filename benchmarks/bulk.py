"""A hundred million places to 64-d int8 GeoParquet: killed half way, gone on with, every row checked, at what cost.

    python -m benchmarks.bulk WORK [--rows 100000000] [--ray-rows 2000000] [--pixel 0.1] [--workers 2]

Makes places and a model in the folder WORK, runs `graticule embed` on them, in the order of the input, along a Hilbert
curve and with Ray; writes benchmarks/bulk.md and removes what it made. Needs some 160 bytes of disk a row.
Called again after it was itself killed, it goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import geopandas

from benchmarks.bulk_places import CLUSTERED, check, checksum, make_model, make_places
from benchmarks.running import markdown, parser, processor
from benchmarks.watched import Results
from graticule.embed import load
from graticule.files import read_json

MB, GB = 1e6, 1e9
ALONE_ROWS = 300_000  # by each of the processes side by side
BOX = (10.0, 47.0, 12.0, 49.0)  # west, south, east, north
ASKED = 5  # times
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

NOTE = """# Bulk embedding

`python -m benchmarks.bulk WORK --rows {rows} --ray-rows {ray_rows} --pixel {pixel}` ({cores} cores, {processor})

Places: {clustered:.0%} in 5,000 towns of unequal size, the others uniform by area; a Parquet file of id, lon, lat.
Model: the encoder of the released one, 256-d, trained for its prefix of 64. Output: GeoParquet 1.1 with the input's
columns, point, box and 64 int8 numbers a row. {workers} workers, one thread each. Memory is the largest sum of the
resident memory of all processes of a job (pages they share count for each), sampled twice a second.

{jobs}
Seconds are those of the whole command: digest of the input, check of all coordinates, sorting, embedding, writing,
digests of the output. "Embedding alone" is `embed_points` on the same places in {workers} processes side by side,
nothing read or kept.

## Killed half way

The parent was killed (SIGKILL) after {before:,} rows in {kept} shards; its workers were gone within {gone:.1f} s. The
second call embedded the other {after:,} rows; the {kept} shards stand as they stood, none was written again.

Then every shard was read as a stream, in both orders: {checked:,} rows, each id once and in its order, the sum over all
places that of the input, geometries and boxes those of the places, all digests of vectors those of the manifest; of
{sampled:,} rows embedded anew, {exact:,} have the same 64 numbers, the others differ by one step.

## One box of the Earth

Rows within {box} (west, south, east, north), by programs of others; DuckDB: median of {times}.

{reading}
## Ray

{ray_count:,} rows on a local Ray cluster of {workers} workers give {same} of {shards} shards with the same digests of
vectors as the pool of processes.
"""


def embed(source: Path | Sequence[str], out: Path, run: Path, *options: str) -> list[str]:
    given = [str(source)] if isinstance(source, Path) else list(source)
    command = [sys.executable, "-m", "graticule", "embed", *given, "-o", str(out), "--model", str(run), "--int8"]
    return [*command, *options]


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Shards that are done: rows and when they were written."""
    if not (folder / "_manifest.json").exists():
        return {}
    done = [entry for entry in read_json(folder / "_manifest.json")["shards"] if "blake2b" in entry]
    return {entry["file"]: (entry["rows"], (folder / entry["file"]).stat().st_mtime_ns) for entry in done}


def bytes_of(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def ask(folder: Path) -> dict[str, float]:
    """Rows in BOX and seconds, by DuckDB and by geopandas."""
    west, south, east, north = BOX
    where = f"bbox.xmin between {west} and {east} and bbox.ymin between {south} and {north}"
    query = f"select count(*), sum(embedding[1]) from '{folder}/*.parquet' where {where}"
    times, count = [], 0
    for _ in range(ASKED):
        began = time.monotonic()
        with duckdb.connect() as database:
            (count, _total), *_ = database.sql(query).fetchall()
        times.append(time.monotonic() - began)
    began = time.monotonic()
    frame = geopandas.read_parquet(folder, bbox=BOX, columns=["id", "geometry", "embedding"])
    seconds = time.monotonic() - began
    if len(frame) != count:
        raise ValueError(f"geopandas finds {len(frame)} rows, DuckDB {count}")
    return {"rows": count, "duckdb": statistics.median(times), "geopandas": seconds}


def embedded_alone(run: Path, workers: int) -> float:
    """Seconds a row and core of embedding on `workers` cores at once; loading is taken off by a run of few rows."""

    def seconds(rows: int) -> float:
        code = f"from benchmarks.bulk_places import alone; alone({str(run)!r}, {rows})"
        began = time.monotonic()
        processes = [
            subprocess.Popen([sys.executable, "-c", code], env=os.environ | ONE_THREAD) for _ in range(workers)
        ]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise RuntimeError("embedding alone failed")
        return time.monotonic() - began

    return (seconds(ALONE_ROWS) - seconds(1)) / (ALONE_ROWS - 1)


def killed_and_resumed(results: Results, command: list[str], out: Path, rows: int) -> dict[str, Any]:
    """The job, killed once when half of its rows are done."""

    def half() -> bool:
        return sum(n for n, _ in finished(out).values()) >= rows // 2

    first = results.watched("killed", command, half)
    kept = results.once("kept", lambda: finished(out))
    second = results.watched("resumed", command)
    after = finished(out)
    if not first["killed"] or any(list(after[name]) != list(stamp) for name, stamp in kept.items()):
        raise ValueError("the job ended before it was killed, or a shard that was done was written again")
    return {
        "seconds": first["seconds"] + second["seconds"],
        "peak": max(first["peak"], second["peak"]),
        "gone": first["gone"],
        "kept": len(kept),
        "before": sum(n for n, _ in kept.values()),
    }


def main() -> None:
    asking = parser("work")
    asking.add_argument("--rows", type=int, default=100_000_000)
    asking.add_argument("--ray-rows", type=int, default=2_000_000)
    asking.add_argument("--pixel", type=float, default=0.1, help="of the rasters, degrees")
    asked = asking.parse_args()
    work, rows, workers = asked.work, asked.rows, asked.workers
    work.mkdir(parents=True, exist_ok=True)
    results = Results(work / "results.json")
    settings = {"rows": rows, "ray rows": asked.ray_rows, "pixel": asked.pixel, "workers": workers}
    if results.once("settings", lambda: settings) != settings:
        sys.exit(f"{work} holds another benchmark, {results.known['settings']}: delete it or choose another folder.")
    run = make_model(work)
    model = load(run).prefix(64)
    places = work / "places.parquet"
    pool = ["--dim", "64", "--workers", str(workers), "--shard-rows", str(min(1 << 19, max(1, rows // 16)))]
    table = []

    def row(what: str, count: int, measured: dict[str, Any], size: int) -> None:
        seconds = measured["seconds"]
        each = f"{seconds * workers / count * MB:.1f}"
        table.append(
            [
                what,
                f"{count:,}",
                f"{seconds:,.0f}",
                f"{count / seconds:,.0f}",
                each,
                f"{measured['peak'] / MB:,.0f} MB",
                f"{size / GB:.2f} GB",
            ]
        )

    each = results.once("alone", lambda: embedded_alone(run, workers))
    table.append(
        ["embedding alone", f"{ALONE_ROWS * workers:,}", "", f"{workers / each:,.0f}", f"{each * MB:.1f}", "", ""]
    )
    if "read hilbert" not in results.known:
        make_places(places, rows)
    sums = results.once("checksum", lambda: checksum(places))

    out = work / "input"
    job = results.once("job", lambda: killed_and_resumed(results, embed(places, out, run, *pool), out, rows))
    checked = results.once("checked", lambda: check(out, model, rows, "input", sums))
    row("order of the input, killed once", rows, job, checked["bytes"])
    read = {"order of the input": results.once("read", lambda: ask(out))}
    shutil.rmtree(out, ignore_errors=True)

    out = work / "hilbert"
    command = embed(places, out, run, *pool, "--order", "hilbert")
    ordered = results.watched("hilbert", command)
    checked_too = results.once("checked hilbert", lambda: check(out, model, rows, "hilbert", sums))
    row("Hilbert order", rows, ordered, checked_too["bytes"])
    read["Hilbert order"] = results.once("read hilbert", lambda: ask(out))
    for done in (out, places):
        shutil.rmtree(done, ignore_errors=True) if done.is_dir() else done.unlink(missing_ok=True)

    few = work / "few.parquet"
    make_places(few, asked.ray_rows)
    shards = ["--dim", "64", "--workers", str(workers), "--shard-rows", str(max(1, asked.ray_rows // 8))]
    vectors = {}
    for what, options in (("pool", []), ("Ray", ["--ray"])):
        out = work / what
        measured = results.watched(what, embed(few, out, run, *shards, *options))
        size = results.once(f"{what} bytes", lambda out=out: bytes_of(out))
        manifest = results.once(
            f"{what} digests", lambda out=out: [e["vectors"] for e in read_json(out / "_manifest.json")["shards"]]
        )
        vectors[what] = manifest
        row("pool of processes" if what == "pool" else "Ray, with its start", asked.ray_rows, measured, size)
        shutil.rmtree(out, ignore_errors=True)

    pixels = round(360 / asked.pixel) * round(180 / asked.pixel)
    for form in ("zarr", "tif"):
        out = work / f"world.{form}"
        world = ["--raster", "-180", "-90", "180", "90", "--pixel", str(asked.pixel)]
        measured = results.watched(form, embed(world, out, run))
        row(
            f"raster of 256-d int8, {form}, one process",
            pixels,
            measured,
            results.once(f"{form} bytes", lambda out=out: bytes_of(out)),
        )
        shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)

    reading = [[what, f"{r['rows']:,}", f"{r['duckdb']:.2f}", f"{r['geopandas']:.2f}"] for what, r in read.items()]
    note = NOTE.format(
        rows=rows, ray_rows=asked.ray_rows, pixel=asked.pixel, cores=os.cpu_count(), processor=processor(),
        clustered=CLUSTERED, workers=workers,
        jobs=markdown(["", "rows", "seconds", "rows/s", "microseconds a row and core", "peak memory", "output"], table),
        before=job["before"], kept=job["kept"], gone=job["gone"], after=rows - job["before"],
        checked=checked["rows"], sampled=checked["sampled"] + checked_too["sampled"],
        exact=checked["exact"] + checked_too["exact"], box=json.dumps(BOX), times=ASKED,
        reading=markdown(["", "rows found", "DuckDB, seconds", "geopandas, seconds"], reading),
        ray_count=asked.ray_rows, shards=len(vectors["pool"]),
        same=sum(a == b for a, b in zip(vectors["pool"], vectors["Ray"], strict=True)),
    )  # fmt: skip
    Path(__file__).with_suffix(".md").write_text(note)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
