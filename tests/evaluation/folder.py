"""A task as files, in the layout that `load_task` reads."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from graticule.geo.coords import uniform_places


def write_task(folder: Path, name: str, rows: int = 80) -> None:
    points = uniform_places(rows, seed=2)
    label = np.cos(np.radians(points[:, 1]))
    pq.write_table(pa.table({"lon": points[:, 0], "lat": points[:, 1], "label": label}), folder / f"{name}.parquet")
    about = {"name": name, "type": "regression", "source": "planted", "licence": "none"}
    (folder / f"{name}.json").write_text(json.dumps(about))
