"""Raw data with a planted truth: what a run must recover, and must lose when the signal is taken away."""

from __future__ import annotations

import bz2
import csv
import functools
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from graticule.data.sentinel2 import BANDS, OFFSET, ORDERS
from graticule.errors import SettingError
from graticule.geo.coords import Points, fibonacci_lattice, uniform_places, unit_sphere

SIGNAL_BANDS = ("B4", "B8", "B11")  # every other band is independent of place
LEVELS = dict(
    zip(ORDERS["canonical"], (700, 900, 1100, 1400, 1600, 1900, 2100, 2200, 2300, 2400, 300, 2000, 1500), strict=True)
)
PIXEL_M = 10.0


def hidden_functions(places: Points, *, count: int, seed: int) -> NDArray[np.float64]:
    """(n, 2) lon/lat -> (n, count) smooth functions of position in (-1, 1): random polynomials of degree <= 3."""
    powers = [(i, j, k) for i in range(4) for j in range(4) for k in range(4) if 1 <= i + j + k <= 3]

    def monomials(points: Points) -> NDArray[np.float64]:
        xyz = unit_sphere(points)
        return np.stack([np.prod(xyz ** np.array(p), axis=1) for p in powers], axis=1)

    everywhere = monomials(fibonacci_lattice(2000))
    weights = np.random.default_rng([seed, 1]).normal(size=(len(powers), count))
    raw = everywhere @ weights
    return np.asarray(np.tanh((monomials(places) @ weights - raw.mean(axis=0)) / raw.std(axis=0)))


def write_s2_folder(
    folder: str | Path, *, n: int, seed: int, size: int = 64, bands: int = 12, shifted: float = 0.0
) -> tuple[Points, NDArray[np.float64]]:
    """Write an S2-100K folder of `n` Sentinel-2-like patches; return their (n, 2) places and (n, 2) hidden values.

    Two hidden smooth functions of position set the ratios B8 / B4 and B11 / B8A; brightness, texture and noise do
    not depend on the place, so nothing can be recovered once B4, B8 and B11 are zeroed. Patches are `size` x `size`
    uint16 GeoTIFFs in UTM with 10 m pixels at reflectance * 10000; a share `shifted` of them carries the +1000 of
    newer processing baselines. `bands` is 12, 13 (with B10), or fewer for the first bands only.
    """
    if not (1 <= bands <= 13 and n >= 1 and size >= 1 and 0 <= shifted <= 1):
        raise SettingError(f"Expected 1 to 13 bands, n and size from 1, shifted in [0, 1]; got {bands}, {n}, {size}.")
    names = ORDERS["canonical"] if bands == 13 else BANDS[:bands]
    rng = np.random.default_rng(seed)
    places = uniform_places(2 * n + 20, seed=rng)
    places = places[(places[:, 1] > -79) & (places[:, 1] < 83)][:n]  # where UTM is defined
    hidden = hidden_functions(places, count=2, seed=seed)
    carries = rng.random(n) < shifted
    images = Path(folder) / "images"
    images.mkdir(parents=True, exist_ok=True)
    with (Path(folder) / "index.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["fn", "lat", "lon"])
        table.writerows([f"patch_{i}.tif", float(lat), float(lon)] for i, (lon, lat) in enumerate(places))
    for i, (lon, lat) in enumerate(places.tolist()):
        pixels = patch(names, hidden[i], size, rng) + np.uint16(OFFSET * carries[i])
        epsg = (32600 if lat >= 0 else 32700) + int((lon + 180) // 6) % 60 + 1
        crs, to_utm = zone(epsg)
        x, y = to_utm.transform(lon, lat)
        corner = Affine(PIXEL_M, 0.0, x - size / 2 * PIXEL_M, 0.0, -PIXEL_M, y + size / 2 * PIXEL_M)
        profile = {"width": size, "height": size, "count": bands, "dtype": "uint16", "crs": crs, "transform": corner}
        with rasterio.open(images / f"patch_{i}.tif", "w", driver="GTiff", interleave="band", **profile) as dataset:
            dataset.write(pixels)
    return places, hidden


def patch(names: Sequence[str], hidden: NDArray[np.float64], size: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """(bands, size, size) digital numbers: level * brightness * texture * noise, with some dark pixels of shade."""
    ratio, swir = 0.5 * hidden
    signal = {"B4": -ratio, "B8": ratio, "B11": swir}
    levels = np.array([LEVELS[name] * np.exp(signal.get(name, 0.0)) for name in names], np.float32)
    coarse = rng.normal(size=(-(-size // 8), -(-size // 8))).repeat(8, axis=0).repeat(8, axis=1)[:size, :size]
    texture = np.exp(0.1 * rng.normal() + 0.1 * coarse).astype(np.float32)
    texture[rng.random((size, size)) < 0.02] *= 0.15
    noise = 1 + 0.05 * rng.standard_normal((len(names), size, size), dtype=np.float32)
    return np.clip(levels[:, None, None] * texture * noise, 1, 60000).astype(np.uint16)


@functools.cache
def zone(epsg: int) -> tuple[Any, pyproj.Transformer]:
    """A UTM zone for rasterio, and the way from lon/lat into it."""
    return CRS.from_epsg(epsg), pyproj.Transformer.from_crs("EPSG:4326", epsg, always_xy=True)


def write_wiki_dump(path: str | Path, pages: Iterable[tuple[int, str, str]], *, version: str = "0.11") -> None:
    """Write a MediaWiki XML export of articles (id, title, wikitext); compressed when the name ends in .bz2."""
    path = Path(path)
    space = f"http://www.mediawiki.org/xml/export-{version}/"
    with bz2.open(path, "wt", encoding="utf-8") if path.suffix == ".bz2" else path.open("w", encoding="utf-8") as file:
        file.write(f'<mediawiki xmlns="{space}" version="{version}" xml:lang="en">\n')
        for number, title, text in pages:
            file.write(
                f"<page><title>{html.escape(title)}</title><ns>0</ns><id>{number}</id><revision><id>{number}</id>"
                "<model>wikitext</model><format>text/x-wiki</format>"
                f'<text xml:space="preserve">{html.escape(text)}</text></revision></page>\n'
            )
        file.write("</mediawiki>\n")
