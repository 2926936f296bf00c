"""A small untrained MapModel, with a table of a few tags read by nobody."""

from pathlib import Path

import numpy as np
import torch

from graticule.embed_map import MapModel
from graticule.files import write_json
from graticule.geo.region import Region

TAGS = ("amenity", "amenity=cafe", "building", "building=yes", "highway", "landuse", "natural")
BANDS = 3


def trunk():
    from graticule.encoders.region import RegionTrunk
    from graticule.encoders.tags import TagTable

    vectors = np.random.default_rng(0).normal(size=(len(TAGS), 8))
    return RegionTrunk(TagTable(TAGS, vectors, {"name": "random"}), patch_pixels=4, frequent=2)


def encoder(patches=0, width=8, seed=0):
    """A RegionEncoder that fits the tokens of `trunk`."""
    import shapely

    from graticule.encoders.region_encoder import RegionEncoder

    side = 4 * round(patches**0.5)
    image = np.zeros((BANDS, side, side), np.float32) if patches else None
    tokens = trunk()([Region(shapely.to_wkb(shapely.box(0, 0, 1, 1)), image=image)])
    torch.manual_seed(seed)
    made = RegionEncoder(
        tokens.tag_sets.shape[1],
        tokens.geometry.shape[1],
        tokens.position.shape[1],
        patch_dim=tokens.patches.shape[2] if patches else 0,
        patches=patches,
        width=width,
        depth=2,
        heads=2,
        frequent=tokens.frequent.shape[1],
    )
    return made.requires_grad_(False).eval()


def about(**parts):
    return {
        "format": 1,
        "graticule": "0.1.0",
        "name": "small",
        "recipe": "geojepa",
        "weights": "hash",
        "data": {"osm": {"licence": "ODbL-1.0", "kind": "region", "rows": 3}},
        "trunk": {"patch_pixels": 4, "frequent": 2},
        **parts,
    }


def model(**options):
    """A MapModel; the same weights for the same options."""
    return MapModel(Path("small"), about(), trunk(), encoder(**options))


def save_model(folder, **options):
    """The same in the files of a run: the folder, and the model that was written."""
    from graticule.tensors import save_tensors

    made = model(**options)
    weights = {f"encoder.{name}": tensor for name, tensor in made.encoder.state_dict().items()}
    save_tensors(folder / "model.safetensors", weights)
    made.trunk.tags.save(folder / "tags.safetensors")
    write_json(folder / "run.json", about(encoder=made.encoder.config))
    return folder, made
