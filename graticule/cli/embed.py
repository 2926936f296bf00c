"""`graticule embed`: a table of coordinates, or a raster, in; vectors out."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from graticule.errors import SettingError

OF_TABLES = {
    "order": "input",
    "space": "own",
    "workers": None,
    "shard_rows": None,
    "ray": None,
    "lon": None,
    "lat": None,
}


def arguments(one: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    one.add_argument(
        "table", type=Path, nargs="?", help="CSV, TSV, JSONL, Parquet or GeoJSON with coordinates in degrees"
    )
    one.add_argument(
        "--raster",
        type=float,
        nargs=4,
        metavar=("WEST", "SOUTH", "EAST", "NORTH"),
        help="instead of a table: a raster within these degrees, written to NAME.tif or NAME.zarr",
    )
    one.add_argument("--pixel", type=float, metavar="DEGREES", help="side of a pixel of the raster")
    one.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        help="GeoParquet file to write, or without an ending a folder of shards",
    )
    one.add_argument("--model", type=Path, help="folder of a run (default: the model inside the package)")
    one.add_argument("--lon", help="name of the longitude column")
    one.add_argument("--lat", help="name of the latitude column")
    one.add_argument("--dim", type=int, help="only so many numbers a vector, one of the run's prefixes (default: all)")
    numbers = one.add_mutually_exclusive_group()
    numbers.add_argument(
        "--int8",
        action="store_const",
        const="int8",
        dest="numbers",
        help="keep vectors as int8, with the scale of each column beside",
    )
    numbers.add_argument(
        "--float16", action="store_const", const="float16", dest="numbers", help="keep vectors as float16"
    )
    one.add_argument(
        "--order",
        default="input",
        help="of rows: input (default), or hilbert: neighbours together, the row's number in the column row",
    )
    one.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="bfloat16: rounded (cosine .9999), and faster on processors that multiply it (default: float32)",
    )
    one.add_argument("--workers", type=int, help="processes side by side (default: one a core)")
    one.add_argument("--shard-rows", type=int, help="rows of a shard (default: 524288)")
    one.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="let workers of Ray write the shards (default: a cluster of this machine alone)",
    )
    one.add_argument(
        "--space", default="own", help="own (default), or shared: vectors to compare with texts and pictures"
    )


def run(asked: argparse.Namespace) -> int:
    """Embed a table or a raster and say how much it was."""
    from graticule.bulk.raster import embed_raster
    from graticule.bulk.table import SHARD_ROWS, embed_table
    from graticule.embed import load

    model = load(asked.model).in_precision(asked.precision)
    cut = model if asked.dim is None else model.prefix(asked.dim)
    numbers = asked.numbers or "float32"
    if asked.raster is not None and asked.pixel is not None and asked.table is None:
        for option, default in OF_TABLES.items():
            if getattr(asked, option) != default:
                raise SettingError(f"--{option.replace('_', '-')} is of tables: leave it out with --raster.")
        height, width = embed_raster(cut, asked.out, bounds=asked.raster, pixel=asked.pixel, numbers=numbers)
        sys.stdout.write(f"{asked.out}: {height:,} x {width:,} pixels\n")
        return 0
    if asked.table is None or asked.raster is not None or asked.pixel is not None:
        raise SettingError("Give either a table of places, or --raster WEST SOUTH EAST NORTH with --pixel DEGREES.")
    rows = embed_table(
        cut,
        asked.table,
        asked.out,
        lon=asked.lon,
        lat=asked.lat,
        numbers=numbers,
        order=asked.order,
        space=asked.space,
        workers=asked.workers or os.cpu_count() or 1,
        shard_rows=asked.shard_rows or SHARD_ROWS,
        ray=asked.ray,
    )
    sys.stdout.write(f"{asked.out}: {rows:,} rows\n")
    return 0
