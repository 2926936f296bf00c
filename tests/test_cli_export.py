"""`graticule export` as it is typed, and the model inside as ONNX for real."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import graticule
from graticule.encoders.region_vectors import INSIDE as MAPS
from graticule.geo.coords import uniform_places


def test_the_model_inside_in_all_forms(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = command("export", "--onnx", "--pt2", "--stac", "-q")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    written = ["graticule-small/model.onnx", "graticule-small/model.pt2", "graticule-small/item.json"]
    assert [line.partition(":")[0] for line in lines] == written
    assert " MB, at most " in lines[0]
    model, places = graticule.load(), uniform_places(3000, seed=5)
    wanted = model.embed_points(places)
    shared = model.share(wanted)
    session = onnxruntime.InferenceSession("graticule-small/model.onnx")
    loaded = torch.export.load("graticule-small/model.pt2").module()(torch.from_numpy(places))
    for embedding, space in (session.run(None, {"lonlat": places}), (out.numpy() for out in loaded.values())):
        assert np.linalg.norm(embedding - wanted, axis=1).max() < 1e-5 * np.linalg.norm(wanted, axis=1).mean()
        assert np.linalg.norm(space - shared, axis=1).max() < 1e-5 * np.linalg.norm(shared, axis=1).mean()
    assert session.get_modelmeta().custom_metadata_map["model_hash"] == model.about["weights"]
    assets = json.loads(Path("graticule-small/item.json").read_text())["assets"]
    assert sorted(assets) == ["onnx", "pt2", "run", "weights"]


def test_a_run_and_its_vectors(command, run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "small")
    code, out, _ = command("export", folder, "--stac")
    assert (code, out) == (0, f"{folder}/item.json\n")
    (tmp_path / "places.csv").write_text("lon,lat\n1,2\n3,4\n")
    vectors = tmp_path / "v.parquet"
    assert command("embed", tmp_path / "places.csv", "--model", folder, "-o", vectors)[0] == 0
    code, out, _ = command("export", vectors, "--stac", "--model-item", folder / "item.json")
    assert (code, out) == (0, f"{tmp_path}/v-collection.json\n{tmp_path}/v.json\n")
    assert json.loads((tmp_path / "v.json").read_text())["bbox"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say what to write: --onnx, --pt2, --stac or several."),
        (["--stac", "--model-item", "item.json"], "--model-item is for a file of vectors"),
        (["--onnx", "--dim", "64"], "not to be cut, got dim=64"),
        ([MAPS, "--onnx"], "it embeds maps, not places"),
        (["missing", "--onnx"], "missing holds no trained run (run.json is missing)"),
        ([__file__, "--onnx"], "is a file of vectors: --stac describes it; models are folders of runs"),
        ([__file__, "--stac"], "is no Parquet file, or damaged"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused("export", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_refused(refused, run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "small")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\1\2\3")
    assert "is damaged" in refused("export", folder, "--onnx")
    assert not (folder / "model.onnx").exists()
