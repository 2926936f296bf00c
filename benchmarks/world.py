"""The real data of the benchmarks and of the released model, prepared: texts, Blue Marble, night, Sentinel-2.

python -m benchmarks.world DATA TO
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graticule import read
from graticule.data.bluemarble import WORLD, blue_marble
from graticule.data.land import land_and_sea
from graticule.data.source import Source
from graticule.data.store import Dataset, Table, prepare
from graticule.geo.coords import Points, offset_km

TEXTS = ("wikipedia_en_geo_balanced.jsonl.gz", "wikivoyage_en_2024.jsonl.gz")


def text(data: Path) -> Source:
    """45,886 English texts: title and article of Wikipedia, title and line of Wikivoyage; both must be there."""
    files = [data / "text" / name for name in TEXTS]
    return read.table(
        files, text=["title", "text", "byline"], licence="CC BY-SA, Wikipedia and Wikivoyage contributors"
    )


def near(towns: Points, spread_km: float, seed: int | np.random.Generator = 0) -> Points:
    """A place beside each of `towns`, at normal distances of this deviation to the east and to the north."""
    east, north = np.random.default_rng(seed).normal(0, spread_km, (len(towns), 2, 1)).swapaxes(0, 1)
    return offset_km(towns, east, north)[:, 0]


def image_places(around: Points, *, land: int, ocean: int, seed: int = 0) -> Points:
    """Area-uniform places on land and at sea, and one about 15 km from each of `around`, where people live."""
    rng = np.random.default_rng(seed)
    spread = land_and_sea(land=land, sea=ocean, draws=8 * (land + ocean), seed=rng)
    return np.concatenate([spread, near(around, 15, rng)])


def months(data: Path, places: Points) -> Source:
    """Twelve months of NASA's Blue Marble at places: 36 bands."""
    return blue_marble(month_pictures(data), places)


def month_pictures(data: Path) -> list[Path]:
    """Blue Marble of the twelve months of 2004."""
    return sorted((data / "satellite" / "bluemarble_monthly").glob("world.2004*.jpg"))


def sentinel2(data: Path) -> Source:
    """All 64-pixel crops of the 23 real Sentinel-2 patches."""
    return read.sentinel2(data / "satellite" / "sentinel2_patches", crop=64)


def along_a_curve(places: Points) -> Points:
    """The same places with neighbours one after another, so that a large raster is read piece by piece."""
    column, row = ((places + np.array([180, 90])) / 360 * 256).astype(np.int64).T
    return places[np.lexsort((np.where(row % 2, -column, column), row))]


def prepare_groups(data: Path, to: Path, *, land: int = 400_000, sea: int = 30_000, beside: int = 3) -> Dataset:
    """What is known of the world by day (`day`, `detail`), by `night` and in words (`text`), under `to`.

    Images are at area-uniform places on land and at sea, and at `beside` places about 10 km from every text.
    """
    towns = prepare({"text": text(data)}, to=to)["text"].lonlat
    spread = land_and_sea(land=land, sea=sea, draws=8 * (land + sea), seed=0)
    lon, lat = along_a_curve(np.concatenate([spread, *(near(towns, 10, seed) for seed in range(beside))])).T
    pictures = data / "satellite"
    options: dict[str, Any] = {"lon": lon, "lat": lat, "licence": "public domain, NASA"}
    images = {
        "day": read.raster(month_pictures(data), bounds=WORLD, size_km=126, pixels=9, **options),
        "detail": read.raster(pictures / "bluemarble_z7.tif", size_km=40, pixels=17, **options),
        "night": read.raster(pictures / "blackmarble_z7.tif", size_km=80, pixels=17, **options),
    }
    return prepare(images, to=to)


def keep_places(table: Table, to: Path) -> None:
    """The places of a modality as a table of their own, for `teacher_places`."""
    lon, lat = table.lonlat.T
    pq.write_table(pa.table({"lon": lon, "lat": lat}), to)


def prepare_text_and_image(data: Path, to: Path) -> Dataset:
    """Text and image (Blue Marble) under `to`; goes on where it was."""
    texts = prepare({"text": text(data)}, to=to)["text"]
    places = image_places(texts.lonlat, land=75_000, ocean=15_000)
    return prepare({"image": months(data, places)}, to=to)


def prepare_world(data: Path, to: Path) -> Dataset:
    """Text, image (Blue Marble) and sentinel2 under `to`; goes on where it was."""
    prepare_text_and_image(data, to)
    return prepare({"sentinel2": sentinel2(data)}, to=to)


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(prepare_world(Path(sys.argv[1]), Path(sys.argv[2])))
