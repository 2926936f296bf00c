"""The maps that GeoJEPA is measured on: extracts of 36 cities and islands, cut into tiles, and hexagons of two.

    python -m benchmarks.maps DATA MAPS [--workers 2]

Writes MAPS/europe and MAPS/rest (slippy tiles of zoom 16 with at least five entities of their own, and a window of
20 km of Blue Marble round each, 16 pixels of 1.2 km wide) and MAPS/hexagons (H3 cells of resolution 9 of Porto Alegre
and Sao Paulo, the same).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.running import side_by_side
from graticule.data.osm.source import osm
from graticule.data.store import open_dataset, prepare
from graticule.evaluation.regions.cities import is_european
from graticule.geo.region import Region

SETS = ("europe", "rest", "hexagons")
HEXAGON_CITIES = ("porto-alegre", "saopaulo")
WINDOW_KM, WINDOW_PIXELS = 20.0, 16


def files(data: Path, name: str) -> list[Path]:
    """The extracts of a set."""
    every = sorted((data / "osm").glob("*.osm.*"))
    if name == "hexagons":
        return [path for path in every if path.name.startswith(HEXAGON_CITIES)]
    return [path for path in every if is_european(path.name) == (name == "europe")]


def prepare_set(data: Path, maps: Path, name: str) -> None:
    """One set of regions, on disk."""
    source = osm(
        files(data, name),
        cells="h3:9" if name == "hexagons" else "slippy:16",
        least=1 if name == "hexagons" else 5,
        images=data / "satellite" / "bluemarble_z7.tif",
        image_km=WINDOW_KM,
        image_pixels=WINDOW_PIXELS,
    )
    prepare({"osm": source}, to=maps / name)


@cache
def cities(maps: Path, name: str) -> dict[str, list[Region]]:
    """All regions of a set by city, the file's name without its ending."""
    table = open_dataset(maps / name)["osm"]
    found: dict[str, list[Region]] = defaultdict(list)
    for identity, region in zip(table.ids, table.all_contents(), strict=True):
        assert isinstance(region, Region)
        found[identity.partition("/")[0]].append(region)
    return dict(sorted(found.items()))


def some(regions: list[Region], most: int, seed: int = 0) -> list[Region]:
    """At most so many regions, drawn at random with a seed, in their order."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(regions))[:most])
    return [regions[i] for i in drawn]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("maps", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=SETS)
    asked = parser.parse_args()
    if asked.only:
        prepare_set(asked.data, asked.maps, asked.only)
    else:
        side_by_side(
            "benchmarks.maps", [(str(asked.data), str(asked.maps), "--only", name) for name in SETS], asked.workers
        )


if __name__ == "__main__":
    main()
