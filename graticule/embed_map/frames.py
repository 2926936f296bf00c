"""Vectors of a map as the three frames of srai: regions, features, and which feature lies in which region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from graticule.embed_map.gather import parts_table, whole_entities, wrapped
from graticule.errors import DataError, need
from graticule.geo.geoparquet import vectors_of
from graticule.geo.region import Region
from graticule.progress import Progress

if TYPE_CHECKING:
    from graticule.data.source import Row, Source
    from graticule.embed_map.gather import Part
    from graticule.embed_map.model import MapModel, Vectors

CHUNK_REGIONS = 256  # regions that become tokens at once
CHUNK_ENTITIES = 20_000


@dataclass(frozen=True)
class MapVectors:
    """Three geopandas frames, indexed as srai's.

    regions    by `region_id`: geometry, n_entities, vector_0 ... (float32)
    features   by `feature_id` ("way/123"), each once: geometry, kind, tags (dictionaries), vector (arrays); of an
               entity in several regions the union of its parts and the mean of its vectors, weighted by share
    joint      by (`region_id`, `feature_id`): share, the part of the entity's length or area in the region
    """

    regions: Any
    features: Any
    joint: Any


def embedded(model: MapModel, source: Source, progress: Progress) -> Iterator[tuple[list[Row], Vectors, list[Part]]]:
    """Rows of a source in chunks, with the (n, dim) vectors of the regions and the parts of their entities."""
    rows = source.rows()
    while chunk := _chunk(rows):
        regions = [cast(Region, row.content) for row in chunk]
        whole, entities = model.embed_regions(regions)
        progress.advance(len(chunk))
        ids = [row.id for row in chunk]
        yield chunk, whole, list(zip(ids, regions, entities, strict=True))


def _chunk(rows: Iterator[Row]) -> list[Row]:
    chunk: list[Row] = []
    entities = 0
    for row in islice(rows, CHUNK_REGIONS):
        if not isinstance(row.content, Region):
            raise DataError(f"Row {row.id!r} holds no region: a map is read from a source of regions, as osm() gives.")
        chunk.append(row)
        entities += len(row.content)
        if entities >= CHUNK_ENTITIES:
            break
    return chunk


def frames(model: MapModel, source: Source) -> MapVectors:
    """All regions of a source and their entities as frames. Raises DataError when there is none."""
    gpd, pd, shapely = need("geopandas", "osm"), need("pandas", "osm"), need("shapely", "osm")
    import numpy as np

    with Progress("embed map", source.total, unit="regions") as progress:
        chunks = list(embedded(model, source, progress))
    if not chunks:
        raise DataError("The source gave no region: there is nothing to embed.")
    rows = [row for chunk, _, _ in chunks for row in chunk]
    parts = parts_table([part for _, _, some in chunks for part in some], model.width)
    entities = whole_entities(parts)
    vectors = np.concatenate([whole for _, whole, _ in chunks])
    contents = [cast(Region, row.content) for row in rows]
    regions = gpd.GeoDataFrame(
        {"n_entities": [len(c) for c in contents], **{f"vector_{i}": column for i, column in enumerate(vectors.T)}},
        geometry=shapely.from_wkb(wrapped([c.outline for c in contents])),
        index=pd.Index([row.id for row in rows], name="region_id"),
        crs="EPSG:4326",
    )
    features = gpd.GeoDataFrame(
        {
            "kind": entities["kind"].to_pylist(),
            "tags": [dict(pairs) for pairs in entities["tags"].to_pylist()],
            "vector": list(vectors_of(entities["embedding"])),
        },
        geometry=shapely.from_wkb(entities["geometry"].to_pylist()),
        index=pd.Index(entities["id"].to_pylist(), name="feature_id"),
        crs="EPSG:4326",
    )
    both = pd.MultiIndex.from_arrays(
        [parts["region"].to_pylist(), parts["id"].to_pylist()], names=["region_id", "feature_id"]
    )
    return MapVectors(regions, features, gpd.GeoDataFrame({"share": parts["share"].to_numpy()}, index=both))
