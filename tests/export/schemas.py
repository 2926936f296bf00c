"""JSON schemas of STAC and its extensions, to hold documents against; none is fetched while tests run.

They lie in a folder named by GRATICULE_SCHEMAS, as published under the addresses in their "$id", in files of any name:
STAC core 1.0.0 and 1.1.0 (files named as published), GeoJSON, and of the extensions mlm 1.5.2, embeddings 0.0.1, file
2.1.0, processing 1.1.0 and 1.2.0, raster 1.1.0, classification 1.1.0. All are Apache-2.0.
"""

import json
import os
from pathlib import Path

import pytest


def published():
    """Every schema by its address; skips without the folder."""
    folder = os.environ.get("GRATICULE_SCHEMAS")
    if not folder:
        pytest.skip("GRATICULE_SCHEMAS does not name a folder of STAC schemas (tests/export/schemas.py lists them)")
    found = {}
    for path in Path(folder).rglob("*.json"):
        schema = json.loads(path.read_text())
        address = schema["$id"].rstrip("#")
        found[address] = found[address.rpartition("/")[0] + "/" + path.name] = schema  # one $id has lost its dot
    return found


def core():
    """The schemas of STAC 1.1.0 alone, which pystac brings."""
    from pystac.validation.local_validator import get_local_schema_cache

    return get_local_schema_cache()


def faults(document, schemas, extensions=True):
    """What the schema of STAC, and those that a document names, have against it: lines, none when it is valid."""
    import jsonschema
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    resources = [(name, Resource.from_contents(one, default_specification=DRAFT7)) for name, one in schemas.items()]
    registry, checked = Registry().with_resources(resources), jsonschema.FormatChecker()
    kind = {"Feature": "item", "Collection": "collection"}[document["type"]]
    stac = f"https://schemas.stacspec.org/v{document['stac_version']}/{kind}-spec/json-schema/{kind}.json"
    return [
        f"{address} {error.json_path}: {error.message}"
        for address in (stac, *(document["stac_extensions"] if extensions else ()))
        for error in jsonschema.Draft7Validator(
            schemas[address], registry=registry, format_checker=checked
        ).iter_errors(document)
    ]
