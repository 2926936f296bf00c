"""Features for places: position ties text, satellite images, photos and maps together.

model = graticule.load()                                       # the small trained model that ships inside
z = model.embed(lon=[11.58, 13.40], lat=[48.14, 52.52])        # (2, 256) float32
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from graticule import read as read
    from graticule.data.store import Dataset as Dataset
    from graticule.data.store import open_dataset as open_dataset
    from graticule.data.store import prepare as prepare
    from graticule.embed import Model as Model
    from graticule.embed import load as load
    from graticule.embed_map import GeoJepaEmbedder as GeoJepaEmbedder
    from graticule.embed_map import MapModel as MapModel
    from graticule.embed_map import load_map as load_map
    from graticule.evaluation.runs import evaluate as evaluate
    from graticule.geo.coords import lonlat as lonlat
    from graticule.runs import train as train
    from graticule.web.show import show as show

_HOME = {
    "Dataset": "graticule.data.store",
    "GeoJepaEmbedder": "graticule.embed_map",
    "MapModel": "graticule.embed_map",
    "Model": "graticule.embed",
    "evaluate": "graticule.evaluation.runs",
    "load": "graticule.embed",
    "load_map": "graticule.embed_map",
    "lonlat": "graticule.geo.coords",
    "open_dataset": "graticule.data.store",
    "prepare": "graticule.data.store",
    "show": "graticule.web.show",
    "train": "graticule.runs",
}

__all__ = sorted([*_HOME, "read"])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import graticule` stays light."""
    if name == "read":
        return importlib.import_module("graticule.read")
    if name not in _HOME:
        raise AttributeError(f"module 'graticule' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
