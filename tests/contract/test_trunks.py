"""What every trunk must keep: the same list of demands for each of them."""

import json

import numpy as np
import pytest
import shapely

from graticule.encoders.towers import TRUNKS, trunk
from graticule.geo.region import Region
from tests.encoders.test_text import write_bert_folder
from tests.map_model import save_model
from tests.photo_model import picture, write_clip_folder

PIXELS = np.random.default_rng(0).integers(0, 6000, (7, 12, 24, 24)).astype(np.uint16)


def region(count):
    """A region of so many points, no two alike."""
    tags = tuple({"building": "yes"} if j % 2 else {"amenity": "cafe", "highway": "path"} for j in range(count))
    points = tuple(shapely.to_wkb(shapely.Point(0.1 * (j + 1), 0.1 * count)) for j in range(count))
    ids = tuple(f"node/{j}" for j in range(count))
    return Region(shapely.to_wkb(shapely.box(0, 0, 1, 1)), ids, tags, points, (1.0,) * count)


CONTENTS = {
    "region": [region(count) for count in range(7)],
    "text": ["the river", "a small old church in the village", "", "north", "harbour of the north", "a", "the " * 15],
    "image": list(PIXELS),
    "photo": [picture(seed, width=30 + 5 * seed) for seed in range(7)],
}
DIMS = {
    "sentence": 24,
    "ngram": 512,
    "statistics": 60,
    "multispectral": 256,
    "resnet18": 512,
    "photo": 16,
    "regions": 11,  # entities and 2 frequent tags counted, a mean of 8
}
CASES = {
    "sentence": ({"name": "sentence", "dtype": "float32"}, {"max_tokens": 6}),
    "ngram": ({"name": "ngram"}, {"seed": 1}),
    "statistics": ({"name": "statistics"}, {"boxes": [1, 9]}),
    "multispectral": ({"name": "multispectral"}, {"seed": 1}),
    "resnet18": ({"name": "multispectral", "architecture": "resnet18"}, {"architecture": "small"}),
    "photo": ({"name": "photo"}, {"folder": "other"}),
    "regions": ({"name": "regions"}, {"folder": "other map"}),
}


def map_folder(folder, seed):
    folder.mkdir()
    save_model(folder, seed=seed)
    return str(folder)


def test_every_trunk_is_here():
    assert {options["name"] for options, _ in CASES.values()} == set(TRUNKS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("trunks")
    pytest.importorskip("transformers")
    return {
        "sentence": str(write_bert_folder(root / "bert")),
        "photo": str(write_clip_folder(root / "clip")),
        "other": str(write_clip_folder(root / "clip2", seed=1)),
        "regions": map_folder(root / "map", seed=0),
        "other map": map_folder(root / "map2", seed=1),
    }


@pytest.fixture(params=sorted(CASES))
def case(request, folders):
    options, change = CASES[request.param]
    options = options | ({"folder": folders[request.param]} if request.param in folders else {})
    change = {key: folders.get(value, value) if key == "folder" else value for key, value in change.items()}
    return request.param, trunk(**options), trunk(**(options | change))


def test_shape_dtype_and_zero_rows(case):
    name, built, _ = case
    features = built(CONTENTS[built.kind])
    assert features.shape == (7, DIMS[name])
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    nothing = built(PIXELS[:0] if built.kind == "image" else [])
    assert nothing.shape == (0, DIMS[name])
    assert nothing.dtype == np.float32


def test_rows_do_not_depend_on_their_neighbours(case):
    _, built, _ = case
    contents = CONTENTS[built.kind]
    together = built(contents)
    alone = np.concatenate([built([content]) for content in contents])
    backwards = built(contents[::-1])[::-1]
    scale = np.abs(together).max()
    assert np.unique(together.round(5), axis=0).shape[0] == len(contents)
    np.testing.assert_allclose(alone, together, atol=1e-5 * max(scale, 1))
    np.testing.assert_allclose(backwards, together, atol=1e-5 * max(scale, 1))


def test_deterministic_and_rebuilt_from_its_config(case):
    _, built, _ = case
    contents = CONTENTS[built.kind]
    again = trunk(**json.loads(json.dumps(built.config)))
    assert np.array_equal(built(contents), built(contents))
    assert np.array_equal(again(contents), built(contents))
    assert again.identity() == built.identity()
    assert again.config == built.config


def test_identity_is_json_and_changes_with_settings(case):
    _, built, changed = case
    identity = built.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["name"] == built.config["name"]
    assert changed.identity() != identity
    contents = CONTENTS[built.kind]
    ours, other = built(contents), changed(contents)
    assert ours.shape != other.shape or not np.allclose(ours, other)


def test_contents_are_left_alone(case):
    _, built, _ = case
    if built.kind == "image":
        before = PIXELS.copy()
        frozen = [row.copy() for row in PIXELS]
        for row in frozen:
            row.flags.writeable = False
        built(frozen)
        assert np.array_equal(PIXELS, before)
