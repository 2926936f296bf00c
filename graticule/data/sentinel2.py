"""A folder of Sentinel-2 patches: S2-100K layout, whole patches or windows of them, all on one reflectance scale."""

from __future__ import annotations

import csv
import functools
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyproj
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from graticule.data.source import Row, Skip, Source
from graticule.errors import CoordinateError, DataError, SettingError, unknown
from graticule.geo.coords import lonlat, offset_km

log = logging.getLogger(__name__)

BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")  # L2A: no cirrus band B10
COMMON_NAMES = {
    "B1": "coastal",
    "B2": "blue",
    "B3": "green",
    "B4": "red",
    "B5": "rededge1",
    "B6": "rededge2",
    "B7": "rededge3",
    "B8": "nir",
    "B8A": "nir08",
    "B9": "nir09",
    "B10": "cirrus",
    "B11": "swir16",
    "B12": "swir22",
}
ORDERS = {  # how files without band names are laid out
    "canonical": (*BANDS[:10], "B10", *BANDS[10:]),
    "eurosat": ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "B12", "B8A"),
}
OFFSET = 1000  # digital numbers added by processing baselines >= 04.00 (since January 2022)
PIXEL_KM = 0.01

Patch = NDArray[np.uint16]


def band_name(text: str | None) -> str | None:
    """The name used here, such as "B4" or "B8A", of a band called "B04", "b4", "Band 4" or "red"; None if unknown."""
    word = (text or "").strip().lower()
    if match := re.fullmatch(r"b(?:and)?[ _]?0?(\d{1,2})(a?)", word):
        word = f"B{int(match[1])}{match[2].upper()}"
        return word if word in COMMON_NAMES else None
    return next((name for name, common in COMMON_NAMES.items() if common == word), None)


def has_offset(patch: NDArray[Any]) -> bool:
    """Whether (bands, h, w) digital numbers carry the +1000 of processing baselines >= 04.00, judged by the dark end.

    The dark end of a band is the 0.1 percentile of its non-zero values. The offset is there when the darkest band
    stays above 950 (reflectance zero lies at 1000, less noise), or above 850 while half of the bands end below
    1250: over dark water and shade all bands meet at the shifted zero, some below it after atmospheric correction.
    A patch without any dark pixel in any band (reflectance above 0.095 throughout: bright sand, closed clouds)
    cannot be told apart and counts as shifted.
    """
    flat = np.asarray(patch).reshape(len(patch), -1)
    valid = flat[:, (flat > 0).all(axis=0)]
    if valid.shape[1] == 0:
        return False
    dark = np.percentile(valid, 0.1, axis=1)
    return bool(dark.min() >= 950 or (dark.min() >= 850 and np.median(dark) <= 1250))


def stated_offset(tags: Mapping[str, str]) -> bool | None:
    """Whether the tags of a file say that its pixels carry the offset; None when they say nothing.

    Read in this order, any case and prefix: `boa_offset_applied` (true: already subtracted), `boa_add_offset` or
    `radio_add_offset` (-1000: carried), `processing_baseline` (from 04.00 on: carried).
    """
    pairs = (f"{key}={value}".rpartition("=") for key, value in tags.items())  # GDAL splits s2:key=value at the colon
    plain = {re.split(r"[:.=]", key.lower())[-1]: value.strip() for key, _, value in pairs}
    try:
        if plain.get("boa_offset_applied", "").lower() in ("true", "1", "yes"):
            return False
        for key in ("boa_add_offset", "radio_add_offset"):
            if key in plain:
                return float(plain[key]) != 0
        return float(plain["processing_baseline"]) >= 4 if "processing_baseline" in plain else None
    except ValueError:
        return None


def without_offset(patch: Patch, offset: int = OFFSET) -> Patch:
    """Digital numbers at reflectance * 10000: `offset` subtracted, negative reflectance cut at 0."""
    return np.maximum(patch, offset) - np.uint16(offset)


def band_index(count: int, descriptions: tuple[str | None, ...], order: str, where: Path) -> list[int]:
    """Which bands of a file are B1..B8, B8A, B9, B11, B12: by their descriptions, or else by `order`."""
    if order not in ORDERS:
        raise unknown("band order", order, ORDERS)
    named = [band_name(text) for text in descriptions]
    if set(BANDS) <= set(named):
        return [named.index(band) for band in BANDS]
    if count not in (12, 13):
        raise DataError(
            f"{where} must have 12 bands (L2A: {', '.join(BANDS)}) or 13 (L1C, with B10); it has {count}. "
            "Read other band sets with graticule.data.rasters.raster."
        )
    layout = [band for band in ORDERS[order] if count == 13 or band != "B10"]
    return [layout.index(band) for band in BANDS]


def listing(folder: Path) -> list[tuple[Path, tuple[float, float] | None]]:
    """Every patch of a folder with its (lon, lat): those of `index.csv` in its order, then the others by name."""
    if not folder.is_dir():
        raise DataError(f"{folder} must be a folder with index.csv and images/*.tif; it is not a folder.")
    home = folder / "images" if (folder / "images").is_dir() else folder
    found = sorted(p for p in home.iterdir() if p.suffix.lower() in (".tif", ".tiff"))
    index = folder / "index.csv"
    rows: dict[Path, tuple[float, float] | None] = {}
    if index.exists():
        with index.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if missing := {"lat", "lon", "fn"} - set(table.fieldnames or ()):
                raise DataError(f"{index} must have the columns lat, lon, fn; missing: {', '.join(sorted(missing))}.")
            for number, row in enumerate(table, start=2):
                try:
                    place = lonlat(lon=float(row["lon"]), lat=float(row["lat"]))[0]
                except (TypeError, ValueError) as error:
                    raise DataError(
                        f"{index}:{number} has lon={row['lon']}, lat={row['lat']}; expected degrees."
                    ) from error
                rows[home / Path(row["fn"]).name] = (float(place[0]), float(place[1]))
    rows |= {path: None for path in found if path not in rows}
    if not found:
        raise DataError(f"{folder} holds no patch: expected *.tif in images/ or beside index.csv.")
    return list(rows.items())


def open_patch(path: Path) -> Any:
    """An open rasterio dataset; files without georeference are welcome."""
    with warnings.catch_warnings(), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):  # folders of 100,000 files
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def first_readable(paths: Iterable[Path]) -> tuple[Path, tuple[int, int], int, tuple[str | None, ...]]:
    """The first patch that opens, with its (height, width), number of bands and their descriptions."""
    problem: Exception | None = None
    for path in paths:
        try:
            with open_patch(path) as dataset:
                return path, dataset.shape, dataset.count, dataset.descriptions
        except RasterioIOError as error:
            problem = problem or error
    raise DataError(f"None of the patches can be read as a raster; the first says: {problem}.")


def read_patch(path: Path, order: str) -> tuple[Patch, Any, bool]:
    """(12, h, w) digital numbers at reflectance * 10000, the open dataset's georeference, whether it was shifted."""
    with open_patch(path) as dataset:
        index = band_index(dataset.count, dataset.descriptions, order, path)
        if not np.issubdtype(dataset.dtypes[0], np.integer):
            raise DataError(f"{path} must hold integers (reflectance * 10000); it holds {dataset.dtypes[0]}.")
        patch = np.clip(dataset.read([i + 1 for i in index]), 0, 65535).astype(np.uint16)
        shifted = stated_offset(dataset.tags())
        shifted = has_offset(patch) if shifted is None else shifted
        return without_offset(patch) if shifted else patch, (dataset.crs, dataset.transform), shifted


@functools.lru_cache(maxsize=128)
def to_lonlat(wkt: str) -> Any:
    """The way from a coordinate system into lon/lat degrees."""
    return pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(wkt), "EPSG:4326", always_xy=True)


def centres(
    georeference: Any, place: tuple[float, float] | None, shape: tuple[int, int], corners: NDArray[Any], size: int
) -> NDArray[np.float64] | None:
    """(n, 2) lon/lat of the middles of windows of `size` pixels with these (row, column) corners; None if unknown."""
    row, column = (corners + size / 2 if size else corners + np.array(shape) / 2).T
    crs, transform = georeference
    if crs is not None:
        a, b, c, d, e, f = transform[:6]
        lon, lat = to_lonlat(crs.to_wkt()).transform(a * column + b * row + c, d * column + e * row + f)
        return lonlat(lon=lon, lat=lat)
    if place is None:
        return None
    east, north = (column - shape[1] / 2) * PIXEL_KM, (shape[0] / 2 - row) * PIXEL_KM
    return np.asarray(offset_km(np.array([place]), east, north)[0])


def sentinel2(
    folder: str | Path,
    *,
    crop: int | None = None,
    pixels: int | None = None,
    band_order: Literal["canonical", "eurosat"] = "canonical",
    licence: str = "Copernicus Sentinel data",
) -> Source:
    """Sentinel-2 patches of a folder: `index.csv` (lat, lon, fn) and GeoTIFFs in images/ or beside it.

    Contents: (12, h, w) uint16 at reflectance * 10000, bands B1..B8, B8A, B9, B11, B12; B10 of a 13-band file is
    dropped, `band_order` says where files without band descriptions keep B8A. The offset of newer processing
    baselines is subtracted where the tags state it or `has_offset` sees it. `pixels` takes the middle of each
    patch; `crop` then cuts it into windows, each a row with its own coordinates and an id like patch_445/r0c2.
    Files without a line in the index take the position of their georeference.

    Raises DataError for a folder without patches, another band count, no integers, or patches of several sizes.
    """
    folder = Path(folder)
    patches = listing(folder)
    first, shape_of_first, count, descriptions = first_readable(path for path, _ in patches if path.exists())
    band_index(count, descriptions, band_order, first)
    full = (pixels, pixels) if pixels else shape_of_first
    if (crop is not None and not 0 < crop <= min(full)) or (pixels is not None and pixels < 1):
        raise SettingError(f"crop and pixels must be positive and crop at most {min(full)}; got {crop} and {pixels}.")
    rows, columns = (full[0] // crop, full[1] // crop) if crop else (1, 1)
    cells = [(r, c) for r in range(rows) for c in range(columns)]
    step = crop or 0
    corners = np.array(cells, np.int64) * step

    def windows(path: Path, place: tuple[float, float] | None, counts: dict[str, int]) -> Iterator[Row | Skip]:
        names = [f"{path.stem}/r{r}c{c}" if crop else path.stem for r, c in cells]
        if not path.exists():
            yield from (Skip("in the index but not in the folder", name) for name in names)
            return
        try:
            patch, georeference, shifted = read_patch(path, band_order)
        except RasterioIOError as error:
            log.warning("%s is damaged: %s", path, error)
            yield from (Skip("damaged file", name) for name in names)
            return
        shape = patch.shape[1:]
        if min(shape) < min(full) or (pixels is None and shape != full):
            raise DataError(
                f"{path} has {shape[0]} x {shape[1]} pixels, expected {full[0]} x {full[1]} as in {first.name}. "
                "Give pixels=... no larger than the smallest patch."
            )
        counts["read"] += 1
        counts["shifted"] += shifted
        margin = (np.array(shape) - full) // 2
        try:
            own = crop or place is None
            middles = centres(georeference, place, shape, corners + margin, step) if own else np.array([place])
        except CoordinateError as error:
            raise DataError(f"{path} has a georeference that is not on Earth: {error}") from error
        for k, (name, corner) in enumerate(zip(names, (corners + margin).tolist(), strict=True)):
            height, width = (crop, crop) if crop else full
            content = patch[:, corner[0] : corner[0] + height, corner[1] : corner[1] + width]
            if middles is None:
                yield Skip("no position in index or file", name)
            elif not content.any():
                yield Skip("no data", name)
            else:
                yield Row(name, float(middles[k, 0]), float(middles[k, 1]), np.ascontiguousarray(content))

    def records(start: int) -> Iterator[Row | Skip]:
        counts = {"read": 0, "shifted": 0}
        skipped = start // len(cells)
        for number, (path, place) in enumerate(patches[skipped:], start=skipped):
            for k, record in enumerate(windows(path, place, counts), start=number * len(cells)):
                if k >= start:
                    yield record
        log.info("%s: offset of %d subtracted from %d of %d patches", folder, OFFSET, counts["shifted"], counts["read"])

    index = folder / "index.csv"
    return Source(
        kind="image",
        records=records,
        about={"crop": crop, "pixels": pixels, "band_order": band_order},
        files=(*([index] if index.exists() else []), *(path for path, _ in patches if path.exists())),
        licence=licence,
        total=len(patches) * len(cells),
        bands=BANDS,
    )
