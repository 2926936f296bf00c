"""A GeoParquet file of vectors as a STAC collection and item with the Embedding extension 0.0.1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError
from graticule.export.stac import FILE_INFO, asset, moment, plain_name, relative, shape, write_document
from graticule.files import read_json
from graticule.geo.bounds import Bounds
from graticule.geo.geoparquet import CORNERS
from graticule.progress import Progress

EMBEDDINGS = "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json"
PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
GEOPARQUET = "application/vnd.apache.parquet"
DTYPES = {"float": "float32", "halffloat": "float16", "int8": "int8"}  # of STAC, by those of pyarrow


def write_vectors_items(path: Path, folder: Path, model_item: Path | None = None) -> list[Path]:
    """Describe a file of vectors: `STEM-collection.json` (what they are) and `STEM.json` (this file), in `folder`.

    The extension wants the kind and length of vectors in the collection, and how they were made and packed in the item.
    `model_item` is the item of the model, to link to; without it the link is a name that holds the model's hash.
    DataError for a file without vectors or rows, or when the item is of another model.
    """
    emb, kind, rows, bounds = read_vectors(path)
    collection_path, item_path = folder / f"{path.stem}-collection.json", folder / f"{path.stem}.json"
    model = _model_link(emb, folder, model_item, path)
    when = moment(path.stat().st_mtime)
    sources = "; ".join(f"{name}: {licence}" for name, licence in emb["source"].items())
    made = f"Made by Graticule {emb['graticule']} with the model {emb['model']} ({emb['model_hash']})"
    says = f"{rows:,} vectors of {emb['dimensions']} numbers, one a row with its place. {made}"
    says += f", which learned from {sources}." if sources else "."
    says += f" Of a map under {emb['map_licence']}." if emb.get("map_licence") else ""
    home = {"rel": "collection", "href": relative(collection_path, folder), "type": "application/json"}
    back = {"rel": "item", "href": relative(item_path, folder), "type": "application/geo+json"}
    source = {"rel": "emb:source-data", "href": relative(path, folder), "type": GEOPARQUET}
    source["title"] = "The places, with the columns of the input, in the same file"
    collection = {
        "type": "Collection",
        "stac_version": "1.0.0",  # the one that version 0.0.1 of the extension asks for
        "stac_extensions": [EMBEDDINGS],
        "id": plain_name(f"{path.stem}-vectors"),
        "description": says,
        "license": "various",
        "extent": {"spatial": {"bbox": [list(bounds)]}, "temporal": {"interval": [[when, when]]}},
        "emb:type": "chip",  # one vector a geometry, in contrast to one a pixel
        "emb:dimensions": emb["dimensions"],
        "data_type": kind,
        "emb:fit_for_use": ["classification", "regression", "retrieval", "similarity_search"],
        "links": [back, model, source],
    }
    runtime = {"model": emb["model"], "model_hash": emb["model_hash"], "recipe": emb["recipe"], "column": emb["column"]}
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [EMBEDDINGS, PROCESSING, FILE_INFO],
        "id": plain_name(path.stem),
        "collection": collection["id"],
        "geometry": shape(*bounds),
        "bbox": list(bounds),
        "properties": {
            "datetime": when,
            "description": says,
            "processing:datetime": when,
            "processing:software": {"graticule": emb["graticule"]},
            "emb:runtime_parameters": runtime,
            **_quantization(emb, kind),
        },
        "links": [home, model, source],
        "assets": {"embeddings": asset(path, folder, "Vectors with their places", GEOPARQUET, ["data"])},
    }
    return [write_document(collection_path, collection), write_document(item_path, item)]


def read_vectors(path: Path) -> tuple[dict[str, Any], str, int, tuple[float, float, float, float]]:
    """What a file says of its vectors, their type, the number of rows, and west, south, east, north of the places.

    Streamed: memory does not grow with the file. DataError unless it holds vectors of Graticule, and at least one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is no Parquet file, or damaged: {error}.") from error
    metadata = file.schema_arrow.metadata or {}
    if b"emb" not in metadata:
        raise DataError(f"{path} holds no vectors of Graticule (no `emb` metadata): make them by `graticule embed`.")
    if "bbox" not in file.schema_arrow.names:
        raise DataError(f"{path} has no column `bbox`, which tells the extent: write it anew by `graticule embed`.")
    emb = json.loads(metadata[b"emb"])
    value = str(file.schema_arrow.field(emb["column"]).type.value_type)
    rows, bounds = file.metadata.num_rows, Bounds()
    if not rows:
        raise DataError(f"{path} has no rows: there is nothing to describe.")
    with Progress(f"read {path.name}") as progress:
        for batch in file.iter_batches(columns=["bbox"]):
            west, south, east, north = (batch["bbox"].field(corner).to_numpy() for corner in CORNERS)
            bounds.add(west, south, east, north)
            progress.advance(len(batch))
    return emb, DTYPES.get(value, value), rows, bounds.box()


def _quantization(emb: dict[str, Any], kind: str) -> dict[str, Any]:
    if "scale" not in (emb["quantization"] or {}):
        return {}  # numbers that are the vectors' own, at most rounded to the data type
    scale: NDArray[np.float64] = np.atleast_1d(emb["quantization"]["scale"])
    method = {"method": "linear", "original_dtype": "float32", "quantized_dtype": kind, "scale": scale.tolist()}
    return {"emb:quantization": method}


def _model_link(emb: dict[str, Any], folder: Path, item: Path | None, path: Path) -> dict[str, Any]:
    if item is None:
        return {"rel": "emb:model", "href": f"urn:graticule:{emb['model_hash']}", "title": emb["model"]}
    found = read_json(item).get("properties", {}).get("graticule:weights")
    if found != emb["model_hash"]:
        raise DataError(
            f"{item} is the item of a model with weights {found}, but {path} was made with {emb['model_hash']}: "
            "give the item of that model."
        )
    return {"rel": "emb:model", "href": relative(item, folder), "type": "application/geo+json", "title": emb["model"]}
