"""With numpy, pyarrow, safetensors and threadpoolctl alone: embedding by every encoder, as torch would do it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import graticule
from graticule import __version__
from graticule.embed import INSIDE, load
from graticule.encoders.location import location_encoder
from graticule.encoders.networks import TorchNetworks
from graticule.encoders.networks import in_torch as module_vectors
from graticule.files import write_json
from graticule.geo.coords import uniform_places
from graticule.geo.geoparquet import table_vectors
from graticule.tensors import save_tensors
from tests.contract.test_location_encoders import CASES
from tests.small_run import texts

HOME = Path(graticule.__file__).parent.parent
BARE = """
import sys
ALLOWED = {"graticule", "numpy", "pyarrow", "safetensors", "threadpoolctl"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and top not in sys.stdlib_module_names and not name.startswith(("_", "pyarrow", "numpy")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
sys.path_importer_cache.clear()
"""
PLACES = np.concatenate([uniform_places(700, seed=5), [(-180, 90), (20, 90), (-180, 0), (179.999, 0), (5, -90)]])


def bare(code, *arguments):
    """Run code in an interpreter that refuses every package but those of the core: what it wrote to stdout."""
    done = subprocess.run(
        [sys.executable, "-c", BARE + code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


COMMAND = "from graticule.cli import main\ncode = main(sys.argv[2:])\nassert code == int(sys.argv[1]), code\n"


def near(found, expected):
    assert found.shape == expected.shape
    size = np.linalg.norm(expected, axis=1).mean()
    assert np.linalg.norm(found - expected, axis=1).max() < 1e-5 * size


def in_torch(folder, points=PLACES):
    return module_vectors(load(folder).location, points)


@pytest.fixture
def places(tmp_path):
    path = tmp_path / "places.csv"
    path.write_text("name,lon,lat\n" + "".join(f"p{i},{x},{y}\n" for i, (x, y) in enumerate(PLACES.tolist())))
    return path


def test_the_refusal_refuses():
    bare("try:\n    import torch\nexcept ImportError:\n    pass\nelse:\n    sys.exit(1)")
    bare("try:\n    from scipy.spatial import cKDTree\nexcept ImportError:\n    pass\nelse:\n    sys.exit(1)")


@pytest.mark.parametrize("which", ["inside", "run"])
def test_embed_by_command(which, run, places, tmp_path):
    folder = INSIDE if which == "inside" else run.folder
    out = tmp_path / "out.parquet"
    given = ["--model", folder] if which == "run" else []
    assert bare(COMMAND, 0, "embed", places, "-o", out, *given) == f"{out}: {len(PLACES)} rows\n"
    table = pq.read_table(out)
    assert table["name"].to_pylist() == [f"p{i}" for i in range(len(PLACES))]
    near(table_vectors(table), in_torch(folder))
    bare(COMMAND, 0, "embed", places, "-o", out, "--int8", *given)
    again = tmp_path / "again.parquet"
    load(folder).save(again, lon=PLACES[:, 0], lat=PLACES[:, 1], int8=True)
    steps = np.array(pq.read_table(out)["embedding"].to_pylist()) - pq.read_table(again)["embedding"].to_pylist()
    assert np.abs(steps).max() <= 1
    assert (steps != 0).mean() < 1e-3


def test_the_model_inside_in_python(tmp_path):
    bare(
        """
import numpy as np, graticule
points = np.load(sys.argv[1])
model = graticule.load()
assert repr(model) == sys.argv[3], repr(model)
vectors = model.embed(lon=points[:, 0], lat=points[:, 1])
assert model.save(sys.argv[2] + ".parquet", lon=points[:, 0], lat=points[:, 1], name=["x"] * len(points)) == len(points)
np.savez(sys.argv[2], vectors=vectors, shared=model.share(vectors), one=model.embed(lon=5, lat=6), none=model.embed(lon=[], lat=[]))
assert not {"torch", "scipy", "sklearn", "tqdm"} & set(sys.modules)
""",  # noqa: E501
        *(_saved(tmp_path), tmp_path / "found.npz", repr(load())),
    )
    found, model = np.load(tmp_path / "found.npz"), load()
    near(found["vectors"], in_torch(INSIDE))
    layer = torch.nn.Linear(model.dim, 384)
    arrays = model.networks._arrays
    layer.load_state_dict({key: torch.from_numpy(arrays[f"shared.{key}"]).float() for key in ("weight", "bias")})
    near(found["shared"], layer(torch.from_numpy(in_torch(INSIDE))).detach().numpy())
    assert found["none"].shape == (0, model.dim)
    near(found["one"], in_torch(INSIDE, np.array([[5.0, 6.0]])))


def _saved(folder):
    np.save(folder / "points.npy", PLACES)
    return folder / "points.npy"


def test_any_trained_encoder(tmp_path):
    """Runs of all bases, bodies and presets, in one interpreter without torch."""
    for name, settings in CASES.items():
        encoder = location_encoder(**settings)
        about = {"format": 1, "name": name, "recipe": "none", "location": encoder.config, "prefixes": [5]}
        folder = tmp_path / name.replace(" ", "-")
        weights = {f"location.{key}": tensor for key, tensor in encoder.state_dict().items()}
        save_tensors(folder / "model.safetensors", weights)
        write_json(folder / "run.json", about | {"weights": "", "graticule": __version__, "data": {}, "towers": {}})
    bare(
        """
import numpy as np, graticule
from pathlib import Path
points = np.load(sys.argv[1])
for file in sorted(Path(sys.argv[2]).glob("*/run.json")):
    model = graticule.load(file.parent)
    vectors = model.embed_points(points)
    np.save(file.parent / "found.npy", vectors)
    assert np.array_equal(model.prefix(5).embed_points(points), vectors[:, :5])
assert not {"torch", "scipy", "sklearn", "tqdm"} & set(sys.modules)
""",
        *(_saved(tmp_path), tmp_path),
    )
    for name in CASES:
        folder = tmp_path / name.replace(" ", "-")
        near(np.load(folder / "found.npy"), in_torch(folder))


def test_what_needs_torch_says_so(run):
    ask = """
import graticule
from graticule.errors import MissingExtra
model = graticule.load(sys.argv[1])
for use in ("model.towers", "model.location", "model.embed_contents('text', ['snow'])", "model.trunk('text')",
            "model.embed_features('text', __import__('numpy').zeros((1, 512)))"):
    try:
        eval(use)
    except MissingExtra as error:
        assert "'torch', which is not installed: pip install 'graticule[train]'" in str(error), error
    else:
        sys.exit(use)
try:
    model.embed_contents("txt", [])
except graticule.errors.SettingError as error:
    assert "Did you mean 'text'" in str(error)
"""
    bare(ask, run.folder)
    bare(COMMAND, 1, "nearest", run.folder, "--text", texts()[0])
    bare(COMMAND, 1, "train", "melt", run.folder, "--to", run.folder)


def test_nearest_places_need_no_torch(run, places):
    out = bare(COMMAND, 0, "nearest", run.folder, "--lon", 5, "--lat", 6, "--places", places, "-k", 3)
    assert len(out.splitlines()) == 3


def test_a_terminal_without_tqdm_still_shows_progress(monkeypatch, caplog):
    from graticule import progress

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level("INFO", "graticule.progress"), progress.Progress("embed x", 4) as shown:
        assert shown.bar is None
        shown.advance(3)
    assert "embed x: 3 of 4 rows" in caplog.text


def test_torch_is_not_loaded_where_it_is_installed(tmp_path):
    code = "import json, sys, graticule\ngraticule.load().embed(lon=1, lat=2)\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(HOME)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"torch", "scipy", "sklearn"} & set(json.loads(done.stdout))


def test_modules_are_copies_and_can_embed_on_their_own():
    model = load()
    before = model.embed_points(PLACES)
    with torch.no_grad():
        model.location.body[-1].bias.add_(1)
    assert np.array_equal(model.embed_points(PLACES), before)
    moved = replace(model, networks=TorchNetworks(model.location))
    near(moved.embed_points(PLACES), before + 1)
    assert sorted(model.towers) == model.modalities == ["day", "text"]
    assert not any(parameter.requires_grad for parameter in model.towers["day"].parameters())
