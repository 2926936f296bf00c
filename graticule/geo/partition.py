"""Ways to cut the Earth into regions: slippy tiles, H3 cells, own polygons."""

from __future__ import annotations

import re
from pathlib import Path

from graticule.errors import DataError, SettingError
from graticule.geo.partition_base import Keys, Members, Partition
from graticule.geo.partition_h3 import H3Cells
from graticule.geo.partition_own import OwnPolygons
from graticule.geo.partition_slippy import SlippyTiles

__all__ = ["GRIDS", "H3Cells", "Keys", "Members", "OwnPolygons", "Partition", "SlippyTiles", "partition"]

GRIDS = {"slippy": SlippyTiles, "h3": H3Cells}
FORMATS = (".geojson", ".json", ".parquet", ".geoparquet")


def partition(spec: str | Path) -> Partition:
    """The regions that `spec` names: "slippy:0" to "slippy:20", "h3:0" to "h3:15", or a file of polygons.

    Raises SettingError for anything else and DataError for a file that cannot serve.
    """
    grid = re.fullmatch(r"(slippy|h3):(\d+)", str(spec))
    if grid:
        return GRIDS[grid[1]](int(grid[2]))
    if Path(spec).suffix.lower() not in FORMATS:
        raise SettingError(
            f"cells must be 'slippy:0' to 'slippy:20', 'h3:0' to 'h3:15' or a file of polygons "
            f"({', '.join(FORMATS)}), got {str(spec)!r}."
        )
    if not Path(spec).is_file():
        raise DataError(f"There is no file {spec} with polygons of regions.")
    return OwnPolygons(spec)
