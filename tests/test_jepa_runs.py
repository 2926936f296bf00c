"""From an extract to a trained GeoJEPA, and from there to a modality that is tied to position."""

import json

import numpy as np
import pytest
import torch

import graticule
from graticule import embed_map
from graticule.data.osm.source import osm
from graticule.data.store import prepare
from graticule.errors import DataError, SettingError
from graticule.runs import train
from graticule.tensors import load_tensors
from tests.data.osm.write_osm import N, W, ring, square, write

SMALL = {
    "trunk.osm": "ngram",
    "steps": 6,
    "batch_tokens": 64,
    "checkpoint_every": 2,
    "log_every": 2,
    "device": "cpu",
    "jepa.width": 16,
    "jepa.depth": 1,
    "jepa.heads": 2,
    "jepa.predictor_width": 8,
    "jepa.predictor_depth": 1,
}
KINDS = ("house", "apartments", "garage", "industrial")


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A town of 300 buildings and 40 streets over some tiles of zoom 16."""
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(0)
    nodes, ways = [], []
    for i in range(300):
        lon, lat = 11.5 + 0.02 * rng.random(), 48.1 + 0.015 * rng.random()
        nodes += square(4 * i + 1, lon, lat, 0.0001)
        ways.append(W(i + 1, ring(4 * i + 1), {"building": KINDS[i % 4]}))
    for i in range(40):
        (a, b), (c, d) = 11.5 + 0.02 * rng.random(2), 48.1 + 0.015 * rng.random(2)
        first = 2001 + 2 * i
        nodes += [N(first, a, c), N(first + 1, b, d)]
        ways.append(W(1001 + i, [first, first + 1], {"highway": "residential" if i % 2 else "primary"}))
    path = write(folder / "town.osm.pbf", *nodes, *ways)
    return prepare({"osm": osm(path, cells="slippy:16", least=3)}, to=folder / "data")


@pytest.fixture(scope="module")
def run(maps, tmp_path_factory):
    return train("geojepa", maps, to=tmp_path_factory.mktemp("runs") / "small", **SMALL)


def test_a_run_is_a_model_of_maps(run, maps):
    assert isinstance(run, graticule.MapModel)
    assert run.about["recipe"] == "geojepa"
    regions = list(maps["osm"].all_contents())
    vectors, entities = run.embed_regions(regions)
    assert vectors.shape == (len(regions), 1 + 500 + 16)
    assert run.about["trunk"] == {"patch_pixels": 16, "frequent": 500}
    frequent = [tag.split("=") for tag in run.trunk.tags.frequent(500)]
    assert sorted(frequent)[:1] == [["building", "apartments"]]
    for region, vector in zip(regions, vectors, strict=True):
        counts = [len(region), *(sum(tags.get(key) == value for tags in region.tags) for key, value in frequent)]
        np.testing.assert_allclose(vector[:501], np.log1p(counts + [0] * (501 - len(counts))), rtol=1e-6)
    assert [part.shape for part in entities] == [(len(region), 32) for region in regions]
    assert np.isfinite(vectors).all()
    again, _ = graticule.load_map(run.folder).embed_regions(regions)
    np.testing.assert_array_equal(vectors, again)


def test_the_log_shows_rank_and_losses(run):
    rows = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    for name in ("loss", "prediction", "prediction/entities", "variance", "covariance", "rank", "spread", "left_out"):
        assert all(np.isfinite(row[name]) for row in rows), name


def test_a_killed_run_ends_with_the_same_weights(run, maps, tmp_path, monkeypatch):
    from graticule.training import trainer

    def killed(self, step, device):
        if step == 5:
            raise KeyboardInterrupt
        return whole(self, step, device)

    whole = trainer._Loop.step
    with monkeypatch.context() as patched:
        patched.setattr(trainer._Loop, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            train("geojepa", maps, to=tmp_path / "run", **SMALL)
    resumed = train("geojepa", maps, to=tmp_path / "run", **SMALL)
    expected, found = (load_tensors(r.folder / "model.safetensors")[0] for r in (run, resumed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_settings_of_the_paper_run_fifty_steps_and_go_on(maps, tmp_path, monkeypatch):
    from graticule.training import trainer

    options = {"trunk.osm": "ngram", "batch_tokens": 24, "row_tokens": 12, "checkpoint_every": 25, "device": "cpu"}
    steps = []

    def counted(self, step, device):
        steps.append(step)
        if step == 30 and len(steps) == 31:
            raise KeyboardInterrupt
        return whole(self, step, device)

    whole = trainer._Loop.step
    monkeypatch.setattr(trainer._Loop, "step", counted)
    with pytest.raises(KeyboardInterrupt):
        train("geojepa-paper", maps, to=tmp_path, steps=50, **options)
    model = train("geojepa-paper", maps, to=tmp_path, steps=50, **options)
    assert steps == [*range(31), *range(25, 50)]
    assert (model.encoder.width, len(model.encoder.transformer.blocks)) == (384, 12)
    settings = model.about["settings"]
    assert (settings["beta2"], settings["last_learning_rate"], settings["last_weight_decay"]) == (0.95, 1e-6, 0.1)


def test_osm_is_a_modality_tied_to_position(run, maps, tmp_path):
    options = {"location": "harmonics", "location.max_degree": 4, "dim": 8, "steps": 3, "batch_size": 4}
    model = train("melt", maps, to=tmp_path / "run", device="cpu", **{"trunk.osm": f"regions:{run.folder}", **options})
    contents = list(maps["osm"].all_contents())[:3]
    assert model.modalities == ["osm"]
    assert model.embed_contents("osm", contents).shape == (3, 8)
    assert model.embed(lon=[11.5], lat=[48.1]).shape == (1, 8)


def test_runs_of_the_other_family_are_refused(run, maps, tmp_path):
    with pytest.raises(DataError, match=r"it embeds maps, not places\. Use graticule\.load_map"):
        graticule.load(run.folder)
    with pytest.raises(DataError, match="it embeds places"):
        embed_map.load_map(graticule.load().folder)
    with pytest.raises(SettingError, match="option of geojepa 'widht'"):
        train("geojepa", maps, to=tmp_path / "run", **SMALL | {"jepa.widht": 3})


def test_geojepa_needs_regions(data, tmp_path):
    with pytest.raises(DataError, match="GeoJEPA learns from one modality of regions, found none"):
        train("geojepa", data, to=tmp_path / "run")
