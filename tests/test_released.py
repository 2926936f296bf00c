"""The models inside the package: small, of no machine, and sensible."""

import numpy as np
import pytest
import torch

import graticule
from graticule.embed import INSIDE
from graticule.encoders.region_vectors import INSIDE as GEOJEPA
from graticule.files import read_json
from graticule.geo.coords import uniform_places
from graticule.objectives.regression import effective_rank


@pytest.mark.parametrize("folder", [INSIDE, GEOJEPA], ids=lambda folder: folder.name)
def test_at_most_8_megabytes_and_no_path_of_a_machine(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 8_000_000

    def texts(value):
        if isinstance(value, dict):
            return [text for key, inner in value.items() for text in [key, *texts(inner)]]
        return [text for inner in value for text in texts(inner)] if isinstance(value, list) else [value]

    assert not [text for text in texts(read_json(folder / "run.json")) if isinstance(text, str) and "/" in text[:2]]


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_vectors_use_their_dimensions_and_know_no_seam():
    model = graticule.load()
    vectors = model.embed_points(uniform_places(4000, seed=1))
    assert effective_rank(torch.from_numpy(vectors)) > 128
    lat = np.linspace(-89, 89, 90)
    west, east = (model.embed(lon=np.full(90, lon), lat=lat) for lon in (180.0, -180 + 1e-9))
    np.testing.assert_allclose(west, east, atol=1e-4)


def test_deserts_are_like_deserts_and_forests_like_forests():
    model = graticule.load()
    lon, lat = [25.0, 46.0, -60.0, 22.0, 100.0, -115.0], [24.0, 19.0, -5.0, 0.0, 62.0, 62.0]
    libya, arabia, amazon, congo, siberia, canada = model.share(model.embed(lon=lon, lat=lat))
    for one, other in ((libya, arabia), (amazon, congo), (siberia, canada)):
        strangers = [v for v in (libya, arabia, amazon, congo, siberia, canada) if v is not one and v is not other]
        assert cosine(one, other) > max(cosine(one, v) for v in strangers)
