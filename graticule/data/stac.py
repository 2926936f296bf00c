"""Sentinel-2 patches from a STAC search, or from the rasters of one STAC item."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import ArrayLike, NDArray
from pystac_client import Client
from pystac_client.exceptions import APIError
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT

from graticule.data.rasters import asked
from graticule.data.sentinel2 import COMMON_NAMES, OFFSET, band_name, without_offset
from graticule.data.source import Row, Skip, Source
from graticule.errors import DataError, SettingError

log = logging.getLogger(__name__)

Item = dict[str, Any]
Locate = Callable[[str], str]  # the href of an asset -> what GDAL opens

CLEAR = (4, 5, 6, 7, 11)  # SCL: vegetation, bare, water, unclassified, snow
LICENCE = "Copernicus Sentinel data"
REMOTE = {"GDAL_HTTP_MAX_RETRY": "3", "GDAL_HTTP_RETRY_DELAY": "1"}


def reflectance_offset(item: Item) -> int:
    """The digital numbers to subtract from an item's pixels to get reflectance * 10000: 0 or 1000.

    In this order: `*:boa_offset_applied` true, the pixels are shifted already (Earth Search v1 declares an offset
    and has applied it); the declared `offset` of the red band in `raster:bands` (or `bands` since STAC 1.1);
    the processing baseline, stated or part of the product name (N0400 and later: 1000); the date of acquisition.
    """
    properties = item.get("properties", {})
    plain = {key.split(":")[-1]: value for key, value in properties.items()}
    if plain.get("boa_offset_applied") is True:
        return 0
    red = find_asset(item, "B4") or {}
    for band in (*red.get("raster:bands", ()), *red.get("bands", ()), red):
        offset, scale = (band.get(key, band.get(f"raster:{key}")) for key in ("offset", "scale"))
        if offset is not None:
            return round(-float(offset) / float(scale or 1e-4))
    baseline = str(plain.get("processing_baseline", ""))
    if not re.fullmatch(r"\d+\.\d+", baseline):
        names = (plain.get("product_id"), plain.get("product_uri"), item.get("id"), red.get("href"))
        match = next(filter(None, (re.search(r"_N(\d\d)(\d\d)_", str(name)) for name in names)), None)
        baseline = f"{match[1]}.{match[2]}" if match else ""
    if baseline:
        return OFFSET if float(baseline) >= 4 else 0
    return OFFSET if str(properties.get("datetime") or "") >= "2022-01-25" else 0


def find_asset(item: Item, name: str) -> dict[str, Any] | None:
    """The asset of a band ("B4") or of "SCL": by key (B04, red, ...), or by the names in its bands."""
    assets: dict[str, dict[str, Any]] = item.get("assets", {})
    code = re.sub(r"^B(\d)(?!\d)", r"B0\1", name)
    for key in (code, code.lower(), name, COMMON_NAMES.get(name, name.lower())):
        if key in assets:
            return assets[key]
    for key, asset in assets.items():
        bands = asset.get("eo:bands") or asset.get("bands") or ()
        names = [band_name(band.get("name")) for band in bands]
        if names == [name] and not key.endswith("-jp2"):
            return asset
    return None


def cloud_cover(item: Item) -> float:
    """Per cent of clouds, 100 where the item does not say."""
    return float(item.get("properties", {}).get("eo:cloud_cover", 100.0))


def open_asset(href: str) -> Any:
    """An open rasterio dataset; sidecar files (.aux.xml) are looked for only where that costs nothing."""
    listing = "EMPTY_DIR" if "://" in href or href.startswith("/vsi") else "TRUE"
    with warnings.catch_warnings(), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=listing):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(href)


class Reader:
    """Reads patches from items; the datasets opened last stay open."""

    def __init__(self, bands: Sequence[str], size_km: float, pixels: int, min_clear: float) -> None:
        self.bands = [band_name(band) or "" for band in bands]
        if not bands or "" in self.bands:
            raise SettingError(f"bands must be Sentinel-2 bands such as B02, B8A or red; got {list(bands)}.")
        if pixels < 1 or not size_km > 0 or not 0 <= min_clear <= 1:
            raise SettingError(
                "size_km and pixels must be positive, min_clear a share between 0 and 1; "
                f"got {size_km}, {pixels} and {min_clear}."
            )
        self.pixels, self.cell_m, self.min_clear = pixels, size_km * 1000 / pixels, min_clear
        self.about = {"bands": self.bands, "size_km": size_km, "pixels": pixels, "min_clear": min_clear}
        self._open = functools.lru_cache(maxsize=32)(open_asset)

    def patch(self, item: Item, place: NDArray[np.float64], locate: Locate) -> NDArray[np.uint16] | str:
        """(bands, pixels, pixels) at reflectance * 10000 around a place, or the reason why there is none."""
        hrefs = [locate(asset["href"]) for band in self.bands if (asset := find_asset(item, band))]
        if len(hrefs) < len(self.bands):
            return "item without one of the bands"
        classes = find_asset(item, "SCL")
        try:
            with rasterio.Env(**REMOTE):
                first = self._open(hrefs[0])
                if first.crs is None:
                    return "raster without georeference"
                if (transform := self._grid(first, place)) is None:
                    return "outside the scene"
                if classes is not None:
                    scene = self._read(locate(classes["href"]), first.crs, transform, Resampling.nearest)
                    if np.isin(scene, CLEAR).mean() < self.min_clear:
                        return "outside the scene" if (scene == 0).mean() > 1 - self.min_clear else "not clear enough"
                content = np.stack([self._read(href, first.crs, transform) for href in hrefs])
        except RasterioError as error:
            log.warning("item %s cannot be read: %s", item.get("id"), error)
            return "unreadable asset"
        if (content > 0).all(axis=0).mean() < self.min_clear:
            return "outside the scene"
        offset = reflectance_offset(item)
        return without_offset(content, offset) if offset else content

    def _grid(self, dataset: Any, place: NDArray[np.float64]) -> Affine | None:
        """The patch on the dataset's grid, its middle within half a cell of the place; None when it is far off."""
        crs = pyproj.CRS.from_wkt(dataset.crs.to_wkt())
        x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*place)
        half, bounds = self.pixels * self.cell_m / 2, dataset.bounds
        if not (abs(2 * x - bounds.left - bounds.right) <= bounds.right - bounds.left + 2 * half):
            return None
        if not (abs(2 * y - bounds.bottom - bounds.top) <= bounds.top - bounds.bottom + 2 * half):
            return None
        west = bounds.left + round((x - half - bounds.left) / self.cell_m) * self.cell_m
        north = bounds.top - round((bounds.top - y - half) / self.cell_m) * self.cell_m
        return Affine(self.cell_m, 0.0, west, 0.0, -self.cell_m, north)

    def _read(self, href: str, crs: Any, transform: Affine, how: Resampling | None = None) -> NDArray[Any]:
        dataset = self._open(href)
        own = abs(dataset.transform[0])
        if how is None:
            same = np.isclose(own, self.cell_m)
            how = Resampling.nearest if same else Resampling.average if own < self.cell_m else Resampling.bilinear
        options = {"crs": crs, "transform": transform, "width": self.pixels, "height": self.pixels, "nodata": 0}
        with WarpedVRT(dataset, src_nodata=0, resampling=how, **options) as view:
            return np.asarray(view.read(1))


def stac_search(
    url: str,
    *,
    lon: ArrayLike,
    lat: ArrayLike,
    collection: str,
    datetime: str,
    ids: Sequence[str] | None = None,
    max_cloud: float = 20,
    bands: Sequence[str] = ("B02", "B03", "B04", "B08"),
    size_km: float = 2.56,
    pixels: int = 256,
    min_clear: float = 0.8,
    max_items: int = 100,
    sign: Callable[[str], str] | None = None,
    licence: str = LICENCE,
) -> Source:
    """For each place the least cloudy Sentinel-2 patch that a STAC API has, e.g. Earth Search v1, Planetary Computer.

    Contents: (bands, pixels, pixels) uint16 at reflectance * 10000 in the item's UTM grid, the offset of newer
    processing baselines subtracted. Items in `datetime` (RFC 3339, or an interval "2023-05-01/2023-09-30") under
    `max_cloud` per cent are tried from clear to cloudy until a share of `min_clear` of the patch is clear by SCL.
    `sign` turns the href of an asset into one that can be read: planetary_computer.sign for Planetary Computer.

    Raises DataError when the API cannot be reached or refuses the search.
    """
    points, names, digest = asked(lon, lat, ids)
    reader = Reader(bands, size_km, pixels, min_clear)
    question = {"collection": collection, "datetime": datetime, "max_cloud": max_cloud, "max_items": max_items}

    def locate(item: Item, href: str) -> str:
        base = next((link["href"] for link in item.get("links", ()) if link["rel"] == "self"), url)
        absolute = urljoin(base, href)
        return sign(absolute) if sign else absolute

    def records(start: int) -> Iterator[Row | Skip]:
        client = connect(url)
        for place, name in zip(points[start:], names[start:], strict=True):
            reason = "no item"
            for item in search(client, place, question):
                content = reader.patch(item, place, functools.partial(locate, item))
                if not isinstance(content, str):
                    yield Row(name, float(place[0]), float(place[1]), content)
                    break
                reason = content
            else:
                yield Skip(reason, name)

    about = {"url": url, **question, **reader.about, "places": digest}
    return Source("image", records, about, licence=licence, total=len(points), bands=tuple(reader.bands))


def scene(
    item_json: str | Path,
    *,
    lon: ArrayLike,
    lat: ArrayLike,
    ids: Sequence[str] | None = None,
    bands: Sequence[str] = ("B02", "B03", "B04", "B08"),
    size_km: float = 2.56,
    pixels: int = 256,
    min_clear: float = 0.8,
    licence: str = LICENCE,
) -> Source:
    """Patches around places from one STAC item on disk; its rasters lie beside it, or where its hrefs say.

    Contents as in `stac_search`. Raises DataError when the file is no STAC item or lacks a band.
    """
    path = Path(item_json)
    try:
        item: Item = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a STAC item: {error}.") from error
    if not isinstance(item, dict) or item.get("type") != "Feature" or "assets" not in item:
        raise DataError(f"{path} must be a STAC item (type Feature, with assets); it is something else.")
    points, names, digest = asked(lon, lat, ids)
    reader = Reader(bands, size_km, pixels, min_clear)
    assets = {name: find_asset(item, name) for name in (*reader.bands, "SCL")}
    if missing := [band for band in reader.bands if assets[band] is None]:
        raise DataError(f"{path} has no asset for {', '.join(missing)}; it has {', '.join(item['assets'])}.")

    def locate(href: str) -> str:
        inside = unquote(urlsplit(href).path)
        near = [path.parent / inside, path.parent / os.path.basename(inside)]
        return next((str(p) for p in near if p.exists()), href)

    def records(start: int) -> Iterator[Row | Skip]:
        for place, name in zip(points[start:], names[start:], strict=True):
            content = reader.patch(item, place, locate)
            yield (
                Skip(content, name)
                if isinstance(content, str)
                else Row(name, float(place[0]), float(place[1]), content)
            )

    files = [Path(locate(asset["href"])) for asset in assets.values() if asset]
    return Source(
        "image",
        records,
        {"item": item.get("id"), **reader.about, "places": digest},
        files=(path, *(p for p in files if p.exists())),
        licence=licence,
        total=len(points),
        bands=tuple(reader.bands),
    )


def connect(url: str) -> Client:
    """An open STAC API."""
    try:
        return Client.open(url)
    except Exception as error:  # requests, urllib3 and pystac-client each have their own
        raise DataError(f"The STAC API {url} does not answer: {error}.") from error


def search(client: Client, place: NDArray[np.float64], question: dict[str, Any]) -> list[Item]:
    """Items over a place under the cloud limit, from clear to cloudy."""
    try:
        found = client.search(
            collections=[question["collection"]],
            intersects={"type": "Point", "coordinates": place.tolist()},
            datetime=question["datetime"],
            query={"eo:cloud_cover": {"lte": question["max_cloud"]}},
            max_items=question["max_items"],
        )
        items = [item for item in found.items_as_dicts() if cloud_cover(item) <= question["max_cloud"]]
    except APIError as error:
        raise DataError(f"The STAC API refused the search {question} at {place.tolist()}: {error}.") from error
    return sorted(items, key=lambda item: (cloud_cover(item), item["id"]))
