"""A trained JEPA over maps as a function: regions or a whole extract in, vectors of regions and entities out."""

from __future__ import annotations

from graticule.embed_map.embedder import GeoJepaEmbedder
from graticule.embed_map.frames import MapVectors
from graticule.embed_map.model import MapModel, load_map
from graticule.embed_map.search import between, like
from graticule.embed_map.write import Written, write_map

__all__ = ["GeoJepaEmbedder", "MapModel", "MapVectors", "Written", "between", "like", "load_map", "write_map"]
