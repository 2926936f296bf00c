"""`graticule osm`: an extract of OpenStreetMap in, vectors of its regions and entities and a map of them out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graticule.errors import DataError, SettingError, need
from graticule.files import read_json

if TYPE_CHECKING:
    from graticule.embed_map import MapModel

MOST_ON_PAGE = 50_000  # entities; a page of more is slow to open
KEYS = ("amenity", "shop", "tourism", "leisure", "highway", "railway", "waterway", "natural", "landuse", "building")


def arguments(one: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    one.add_argument("files", nargs="+", type=Path, metavar="CITY.osm.pbf", help="extracts, read as one map")
    one.add_argument("-o", "--out", type=Path, required=True, help="folder for the vectors, the ledger and map.html")
    one.add_argument("--model", type=Path, help="folder of a geojepa run (default: the model inside the package)")
    one.add_argument(
        "--cells", default="slippy:16", help="slippy:ZOOM, h3:RESOLUTION or a file of polygons (default: slippy:16)"
    )
    one.add_argument("--images", type=Path, metavar="FOLDER", help="folder of georeferenced rasters")
    one.add_argument("--image-km", type=float, metavar="KM", help="side of the square cut from them for a region")


def run(asked: argparse.Namespace) -> int:
    """Embed the map, write its files, say what became of every id."""
    from graticule.data.osm.source import osm
    from graticule.embed_map import load_map, write_map

    for path in asked.files:
        if not path.exists():
            raise DataError(f"{path} does not exist.")
    model = load_map(asked.model)
    images = _images(model, asked.images, asked.image_km)
    source = osm(asked.files, cells=asked.cells, **images)
    written = write_map(model, source, asked.out)
    page = write_page(asked.out, title=", ".join(path.name.partition(".")[0] for path in asked.files))
    sys.stdout.write(f"{written}\n  {page}: open it in a browser\n")
    return 0


def _images(model: MapModel, folder: Path | None, side_km: float | None) -> dict[str, Any]:
    """Options of the reader for images as the model knows them."""
    if folder is None:
        if side_km is not None:
            raise SettingError("--image-km needs --images: the folder of rasters.")
        return {}
    if not folder.exists():
        raise DataError(f"{folder} does not exist.")
    if model.image_pixels is None:
        raise SettingError(f"{model.folder} was trained without images: leave --images out, or choose another model.")
    return {"images": folder, "image_pixels": model.image_pixels, "image_km": side_km}


def write_page(out: Path, *, title: str) -> Path:
    """`out`/map.html: the regions of a finished folder, and its entities unless they are too many for a page."""
    import pyarrow.parquet as pq

    from graticule.embed_map.write import ENTITIES, LEDGER, REGIONS
    from graticule.geo.antimeridian import unwrapped
    from graticule.geo.geoparquet import vectors_of
    from graticule.web.region_page import EntityLayer, write_region_map

    shapely = need("shapely", "osm")
    ledger = read_json(out / LEDGER)
    regions = pq.read_table(out / REGIONS)
    layer = None
    if ledger["entities"] <= MOST_ON_PAGE:
        table = pq.read_table(out / ENTITIES)
        shapes = unwrapped(shapely.from_wkb(table["geometry"].to_pylist()), short_way=False)
        labels = [label(dict(tags)) for tags in table["tags"].to_pylist()]
        layer = EntityLayer(table["id"].to_pylist(), shapes.tolist(), vectors_of(table["embedding"]), labels)
    return write_region_map(
        out / "map.html",
        outlines=unwrapped(shapely.from_wkb(regions["geometry"].to_pylist()), short_way=False).tolist(),
        ids=regions["region_id"].to_pylist(),
        vectors=vectors_of(regions["embedding"]),
        counts=regions["n_entities"].to_pylist(),
        entities=layer,
        title=title,
        about=f"{ledger['regions']:,} regions, {ledger['entities']:,} entities. Map data: {ledger['licence']}. "
        f"Vectors: {ledger['model']}.",
    )


def label(tags: dict[str, str]) -> str:
    """What an entity is, as "amenity=cafe": its tag of the first of KEYS that it has, else its first tag."""
    key = next((key for key in (*KEYS, *tags) if key in tags), None)
    return "" if key is None else f"{key}={tags[key]}"


def is_map(asked: argparse.Namespace) -> bool:
    """Whether `nearest` was asked about a folder of `graticule osm`; SettingError for half of such a question."""
    there = asked.run is not None and (asked.run / "regions.parquet").exists()
    if there and asked.like is None:
        raise SettingError(f"{asked.run} holds vectors of a map: ask with --like and the id of a region or an entity.")
    if asked.like is None and asked.among is not None:
        raise SettingError("--among needs --like: the region or the entity asked for.")
    if asked.like is not None and asked.run is None:
        raise SettingError("--like needs the folder of `graticule osm` that holds the region or the entity.")
    if asked.like is not None and any(v is not None for v in (asked.lon, asked.lat, asked.text, asked.image)):
        raise SettingError("Ask with exactly one of: --like, --lon and --lat, --text, --image.")
    return asked.like is not None


def alike(asked: argparse.Namespace) -> list[str]:
    """Lines of `graticule nearest OUT --like ID`: the regions or entities most like one of a finished folder."""
    from graticule.embed_map import like

    found: list[Any] = like(asked.run, asked.like, asked.k, other=asked.among, apart_km=asked.apart_km)
    return [
        f"{one.similarity:6.3f}  {one.lat:8.4f} {one.lon:9.4f}  {one.distance_km:9,.2f} km  {one.name}"
        + "".join(f"  {key}={value}" for key, value in one.tags.items())
        for one in found
    ]
