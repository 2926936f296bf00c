import json
import logging

import numpy as np
import pytest
import torch

import graticule
from graticule.data.store import open_dataset, prepare
from graticule.errors import CacheError, DataError, GraticuleError, SettingError
from graticule.geo.coords import great_circle_km, uniform_places
from graticule.nearest import gallery, nearest, question
from graticule.runs import train
from graticule.tensors import load_tensors
from graticule.training import trainer
from graticule.web.show import model_map
from tests.prepared import image_source, source, text_source

OPTIONS = {
    "steps": 4,
    "batch_size": 8,
    "dim": 8,
    "log_every": 2,
    "location": "harmonics",
    "location.max_degree": 3,
    "location.body": "linear",
    "trunk.text": "ngram",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare({"text": text_source(30), "image": image_source(40)}, to=tmp_path_factory.mktemp("world"))


@pytest.fixture
def seen(monkeypatch):
    """What the trainer is given."""
    given = []

    def spy(learner, sources, phases, schedule, folder):
        given.append((sources, phases, schedule))
        return trainer.fit(learner, sources, phases, schedule, folder)

    monkeypatch.setattr("graticule.runs.fit", spy)
    return given


def test_a_finished_run_is_loaded_not_trained_again(data, tmp_path, seen):
    first = train("melt", data, to=tmp_path / "run", **OPTIONS)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    second = train("melt", str(data.folder), to=str(tmp_path / "run"), **OPTIONS)
    assert len(seen) == 1
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before
    assert np.array_equal(first.embed(lon=[3], lat=[4]), second.embed(lon=[3], lat=[4]))


def test_sites_of_a_hybrid_move_and_are_weights_not_settings(data, tmp_path):
    sites = {"location.max_degree": 3, "location.sites": 30, "location.nearest": 5, "location.body": "mlp"}
    run = train("melt", data, to=tmp_path / "run", **OPTIONS | sites | {"location": "harmonics+voronoi"})
    saved, _ = load_tensors(run.folder / "model.safetensors")
    started = run.location.basis.basis.arrays()["1_sites"]
    assert 0 < abs(saved["location.basis.1_sites"].numpy() - started).max() < 0.1
    assert len(json.dumps(run.about["location"])) < 600
    assert np.array_equal(
        graticule.load(run.folder).embed(lon=[180, 3], lat=[4, 90]), run.embed(lon=[-180, 3], lat=[4, 90])
    )


@pytest.mark.parametrize(
    ("recipe", "changes", "what"),
    [("imagebind", {}, "recipe"), ("melt", {"steps": 5}, "settings"), ("melt", {"modalities": "text"}, "settings")],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_belongs_to_one_run(data, tmp_path, recipe, changes, what, finished, monkeypatch):
    if not finished:

        def killed(*arguments):
            (arguments[-1] / "resume.safetensors").touch()
            raise GraticuleError("killed")

        monkeypatch.setattr("graticule.runs.fit", killed)
        with pytest.raises(GraticuleError, match="killed"):
            train("melt", data, to=tmp_path, **OPTIONS)
    else:
        train("melt", data, to=tmp_path, **OPTIONS)
    with pytest.raises(SettingError, match=f"other {what}"):
        train(recipe, data, to=tmp_path, **OPTIONS | changes)


def test_a_run_that_failed_before_its_first_checkpoint_leaves_the_folder_free(data, tmp_path):
    with pytest.raises(SettingError, match="cannot be made"):
        train("melt", data, to=tmp_path, **OPTIONS | {"location.max_degree": "abc"})
    assert train("imagebind", data, to=tmp_path, **OPTIONS).about["recipe"] == "imagebind"


def test_the_difference_is_named(data, tmp_path):
    train("melt", data, to=tmp_path, **OPTIONS)
    with pytest.raises(SettingError, match=r"other settings \(steps: 4 there, 5 here\)"):
        train("melt", data, to=tmp_path, **OPTIONS | {"steps": 5})


def test_a_folder_belongs_to_one_data(data, tmp_path):
    train("melt", data, to=tmp_path / "run", **OPTIONS | {"modalities": "text"})
    other = prepare({"text": text_source(31)}, to=tmp_path / "other")
    with pytest.raises(SettingError, match="other data"):
        train("melt", other, to=tmp_path / "run", **OPTIONS | {"modalities": "text"})


def test_settings_reach_the_trainer(data, tmp_path, seen):
    asked = {"learning_rate": 0.5, "weight_decay": 0.25, "warmup": 0.125, "clip": 2.0, "ema": 0.75, "seed": 3}
    train("melt", data, to=tmp_path, **OPTIONS, **asked, checkpoint_every=2, precision="float32")
    ((_, _, schedule),) = seen
    for key, value in (asked | {"steps": 4, "batch_size": 8, "log_every": 2, "checkpoint_every": 2}).items():
        assert getattr(schedule, key) == value, key


def test_only_the_modalities_asked_for(data, tmp_path, seen):
    model = train("melt", data, to=tmp_path, modalities=" text ", **OPTIONS)
    assert model.modalities == ["text"]
    assert list(seen[0][0]) == ["text"]
    with pytest.raises(SettingError, match="Did you mean 'text'"):
        train("melt", data, to=tmp_path / "x", modalities="txt", **OPTIONS)


def test_points_are_no_modality_to_train_on(tmp_path):
    places = uniform_places(20, seed=0)
    made = prepare({"spots": source("point", places, [None] * 20), "text": text_source(20)}, to=tmp_path / "data")
    assert train("melt", made, to=tmp_path / "run", **OPTIONS).modalities == ["text"]
    only = prepare({"spots": source("point", places, [None] * 20)}, to=tmp_path / "only")
    with pytest.raises(DataError, match="no modality with content"):
        train("melt", only, to=tmp_path / "x", **OPTIONS)


@pytest.mark.parametrize("name", ["loss", "step", "items", "teacher", "training"])
def test_names_that_are_used_otherwise_are_refused(tmp_path, name):
    made = prepare({name: text_source(20)}, to=tmp_path / "data")
    with pytest.raises(SettingError, match=f"cannot be called {name!r}"):
        train("melt", made, to=tmp_path / "run", **{k: v for k, v in OPTIONS.items() if k != "trunk.text"})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"stepps": 3}, "'steps'"),
        ({"trunk.images": "statistics"}, "Did you mean 'image'"),
        ({"trunk.image": "statistic"}, "Did you mean 'statistics'"),
        ({"trunk.image": "statistics:3+x"}, "at least one pixel"),
        ({"distil": -1}, "distil"),
        ({"distil": 1, "neighbours.texts": 3}, "Did you mean 'text'"),
        ({"distil": 1, "neighbours.text": 0}, "neighbours.text=0"),
        ({"location.max_degre": 3}, "'max_degree'"),
        ({"location": "harmonic"}, "Did you mean 'harmonics'"),
        ({"head": "mpl"}, "'mlp'"),
        ({"temperature": -1}, "must be positive"),
        ({"train_trunks": "text"}, "Only image rows"),
        ({"batch_size": 0}, "batch_size"),
        ({"soft_km": "wide"}, "soft_km of 'image' must be a number of km or fitted, got 'wide'"),
        ({"soft_km": -1}, "soft_km of 'image' must be a finite number of km, 0 or more, got -1"),
        ({"soft_km": 9, "soft_kernel": "gauss"}, "Did you mean 'gaussian'"),
        ({"mask_km.texts": 9}, "Did you mean 'text'"),
        ({"coarse": 0.5}, "got coarse=0.5 with soft_km=0.0 and prefixes=''"),
        ({"prefixes": "4,9"}, "from 1 to 8, the length of the vector, got 9"),
        ({"negatives": "rings"}, "Did you mean 'ring'"),
        ({"negatives": "ring", "ring_km": 0}, "above 0 km, got 0"),
        ({"negatives": "random", "random_places": 0}, "at least 1, got 0"),
        ({"sampler": "strata"}, "Did you mean 'stratified'"),
        ({"sampler": "area", "cell_km": 0}, "must be at least 1 km, got 0"),
        ({"sampler": "density", "debias": 3}, "from 0 to 2, got 3"),
        ({"soft_km.text": True}, "soft_km of 'text' must be a number of km or fitted, got True"),
        ({"balance": "odd"}, "balance must be even or rows, got 'odd'"),
    ],
)
def test_wrong_settings_are_answered_with_one_sentence(data, tmp_path, asked, message):
    with pytest.raises(GraticuleError, match=message):
        train("melt", data, to=tmp_path, **OPTIONS | asked)


def test_distil_without_its_weight_is_refused(data, tmp_path):
    with pytest.raises(SettingError, match="distil=0"):
        train("distil", data, to=tmp_path, **OPTIONS, distil=0)


def test_the_teacher_speaks_at_the_places_asked_for(data, tmp_path, seen):
    (tmp_path / "places.csv").write_text("lon,lat\n10,50\n11,51\n10,50\n")
    train("distil", data, to=tmp_path / "all", **OPTIONS)
    train("melt", data, to=tmp_path / "some", **OPTIONS, distil=0.5, teacher_places=str(tmp_path / "places.csv"))
    everywhere, some = (sources["teacher"] for sources, _, _ in seen)
    own = np.concatenate([data["text"].lonlat, data["image"].lonlat])
    assert np.array_equal(everywhere.lonlat, np.unique(own, axis=0))
    assert some.lonlat.tolist() == [[10, 50], [11, 51]]
    assert some.features.shape == (2, 8)
    assert [phase.modalities for _, phases, _ in seen for phase in phases] == [
        ("teacher",),
        ("image", "text", "teacher"),
    ]


def test_a_killed_run_does_not_make_its_teacher_again(data, tmp_path, monkeypatch):
    whole = train("distil", data, to=tmp_path / "whole", **OPTIONS)

    def killed(*_, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("graticule.runs.fit", killed)
        with pytest.raises(KeyboardInterrupt):
            train("distil", data, to=tmp_path / "torn", **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr("graticule.runs.contrastive.teach", killed)
        with pytest.raises(KeyboardInterrupt):  # of another seed it is another one
            train("distil", data, to=tmp_path / "torn", **OPTIONS, seed=1)
        torn = train("distil", data, to=tmp_path / "torn", **OPTIONS)
    assert (torn.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    assert sorted(p.name for p in torn.folder.iterdir()) == ["log.jsonl", "model.safetensors", "run.json"]


def test_a_run_goes_on_from_a_taught_encoder_and_leaves_it_alone_when_frozen(data, tmp_path):
    taught = train("distil", data, to=tmp_path / "taught", **OPTIONS)
    with pytest.raises(SettingError, match=r"'taught' embeds places alone, it was tied to no text.*start="):
        taught.embed_contents("text", ["a"])
    tied = train("cyclic", data, to=tmp_path / "tied", **OPTIONS, start=str(taught.folder), freeze_location=True)
    assert tied.modalities == ["image", "text"]
    assert tied.about["started_from"]["recipe"] == "distil"
    assert tied.about["started_from"]["data"] == taught.about["data"]
    assert np.array_equal(tied.embed(lon=[3, 9], lat=[4, 8]), taught.embed(lon=[3, 9], lat=[4, 8]))


def test_a_run_that_goes_on_from_another_can_keep_to_what_that_one_knew(data, tmp_path, monkeypatch):
    taught = train("distil", data, to=tmp_path / "taught", **OPTIONS)
    monkeypatch.setattr("graticule.runs.contrastive.teach", None)  # no teacher is made
    options = OPTIONS | {"start": str(taught.folder), "steps": 60, "learning_rate": 0.02}
    free, kept = (train("melt", data, to=tmp_path / str(w), **options, distil=w) for w in (0.0, 100.0))
    places = uniform_places(200, seed=4)
    known = taught.embed_points(places)
    moved = [np.square(run.embed_points(places) - known).mean() for run in (free, kept)]
    assert 0 < moved[1] < moved[0] / 3


def test_places_are_compared_in_the_shared_space(data, tmp_path):
    options = OPTIONS | {"shared": 512, "head.text": "none", "head": "linear"}
    run = train("cyclic", data, to=tmp_path / "run", **options, freeze_location=True)
    vectors = run.embed(lon=[3, 9], lat=[4, 8])
    saved, _ = load_tensors(run.folder / "model.safetensors")
    places = vectors @ saved["shared.weight"].numpy().T + saved["shared.bias"].numpy()
    assert vectors.shape == (2, 8)
    np.testing.assert_allclose(run.share(vectors), places, atol=1e-5)
    assert run.share(vectors[:0]).shape == (0, 512)
    text = run.embed_contents("text", ["snow"])
    np.testing.assert_allclose(
        text, run._tower("text").targets(torch.from_numpy(run.trunk("text")(["snow"]))), atol=1e-5
    )
    assert run.embed_contents("image", [np.ones((3, 6, 6))]).shape == (1, 512)
    asked = question(run, lon=3, lat=4)
    np.testing.assert_allclose(asked, places[0], atol=1e-5)
    found = nearest(question(run, text="snow"), gallery(run), k=1)[0]
    place = run.share(run.embed(lon=[found.lon], lat=[found.lat]))[0]
    cosine = place @ text[0] / np.linalg.norm(place) / np.linalg.norm(text[0])
    assert found.similarity == pytest.approx(cosine, abs=1e-4)
    page = model_map(run, tmp_path / "map.html", {"snow": text[0]})
    assert page.exists()
    again = graticule.load(run.folder)
    assert np.array_equal(again.share(again.embed(lon=[3, 9], lat=[4, 8])), run.share(vectors))


def test_a_head_of_an_unknown_modality_is_refused(data, tmp_path):
    with pytest.raises(SettingError, match=r"head\.NAME.*'words'"):
        train("melt", data, to=tmp_path, **OPTIONS, **{"head.words": "none"})


def test_boxes_of_image_statistics_can_be_set(data, tmp_path):
    run = train("melt", data, to=tmp_path, **OPTIONS, **{"trunk.image": "statistics:1+3"})
    assert run.about["towers"]["image"]["trunk"]["boxes"] == [1, 3]


def test_photos_need_a_trunk_of_their_own(tmp_path):
    made = prepare({"photo": source("photo", uniform_places(4, seed=0), [b"x"] * 4)}, to=tmp_path / "data")
    with pytest.raises(SettingError, match=r"trunk\.photo=photo:FOLDER"):
        train("melt", made, to=tmp_path / "run", steps=1)


def test_holdout_removes_what_is_near(data, tmp_path, seen, caplog):
    held = uniform_places(3, seed=9)
    table = tmp_path / "held.csv"
    table.write_text("lon,lat\n" + "".join(f"{x},{y}\n" for x, y in held))
    with caplog.at_level(logging.INFO):
        model = train("melt", data, to=tmp_path / "run", holdout=table, holdout_km=4000, **OPTIONS)
    for name, rows in seen[0][0].items():
        away = [min(great_circle_km(place, spot) for spot in held) for place in data[name].lonlat]
        kept = [str(i) for i, km in zip(data[name].ids, away, strict=True) if km > 4000]
        assert 0 < len(kept) < len(data[name])
        assert rows.ids.tolist() == kept
        assert model.about["rows_trained"][name] == len(kept)
        assert any(f"{len(kept)} of {len(data[name])} rows of {name}" in r.message for r in caplog.records)
    with pytest.raises(DataError, match=r"All rows of 'image' lie within 20100 km of .*held\.csv"):
        train("melt", data, to=tmp_path / "none", holdout=table, holdout_km=20_100, **OPTIONS)


def test_shuffle_permutes_the_places_and_nothing_else(data, tmp_path, seen):
    train("melt", data, to=tmp_path / "true", **OPTIONS)
    train("melt", data, to=tmp_path / "shuffled", shuffle=True, **OPTIONS)
    (true, _, _), (shuffled, _, _) = seen
    for name in true:
        assert np.array_equal(true[name].features, shuffled[name].features)
        assert true[name].ids.tolist() == shuffled[name].ids.tolist()
        places, torn = true[name].lonlat, shuffled[name].lonlat
        assert sorted(map(tuple, places)) == sorted(map(tuple, torn))
        assert np.mean((places == torn).all(axis=1)) < 0.2


def test_damaged_weights_are_named_and_not_used(data, tmp_path):
    run = train("melt", data, to=tmp_path, **OPTIONS)
    path = run.folder / "model.safetensors"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-9] ^= 4
    for damaged in (flipped, whole[:-100], b""):
        path.write_bytes(damaged)
        with pytest.raises(CacheError, match=r"model\.safetensors"):
            graticule.load(run.folder)
        with pytest.raises(CacheError, match=r"model\.safetensors"):
            train("melt", data, to=tmp_path, **OPTIONS)
    path.unlink()
    with pytest.raises(CacheError, match=r"model\.safetensors"):
        graticule.load(run.folder)


def test_weights_of_another_run_are_refused(data, tmp_path):
    one = train("melt", data, to=tmp_path / "a", **OPTIONS)
    other = train("melt", data, to=tmp_path / "b", **OPTIONS | {"dim": 4})
    (one.folder / "model.safetensors").write_bytes((other.folder / "model.safetensors").read_bytes())
    with pytest.raises(CacheError, match="does not fit"):
        graticule.load(one.folder)


def test_a_damaged_or_unfinished_run_says_what_to_do(data, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no trained run"):
        graticule.load(tmp_path)
    run = train("melt", data, to=tmp_path / "run", **OPTIONS)
    path = run.folder / "run.json"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(CacheError, match=r"run\.json is damaged"):
        graticule.load(run.folder)
    path.unlink()
    with pytest.raises(DataError, match="run the same `train` again"):
        graticule.load(run.folder)


@pytest.mark.parametrize("when", ["before the weights", "before run.json"])
def test_killed_while_finishing(data, tmp_path, monkeypatch, when):
    """The training is done, but not all files are there: the same call writes them without a step more."""
    whole = train("melt", data, to=tmp_path / "whole", ema=0.5, **OPTIONS)
    target = "save_tensors" if when == "before the weights" else "digest_file"
    with monkeypatch.context() as patched:
        patched.setattr(f"graticule.runs.{target}", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train("melt", data, to=tmp_path / "torn", ema=0.5, **OPTIONS)
    assert not (tmp_path / "torn" / "run.json").exists()
    torn = train("melt", data, to=tmp_path / "torn", ema=0.5, **OPTIONS)
    expected, found = (load_tensors(run.folder / "model.safetensors")[0] for run in (whole, torn))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_run_json_says_where_everything_came_from(data, tmp_path):
    run = train("melt", open_dataset(data.folder), to=tmp_path / "mine", **OPTIONS)
    about = json.loads((run.folder / "run.json").read_text())
    assert about["name"] == "mine"
    assert about["torch"] == torch.__version__
    assert about["seconds"] >= 0
    assert about["data"]["text"]["licence"] == "CC0-1.0"
    assert about["data"]["text"]["rows"] == 30
    assert about["settings"]["trunks"] == {"text": "ngram"}
    assert about["towers"]["image"]["trunk"]["name"] == "statistics"
    kept = load_tensors(run.folder / "model.safetensors")[0]
    assert {name.split(".")[0] for name in kept} == {"location", "towers"}


def test_threads(data, tmp_path):
    before = torch.get_num_threads()
    try:
        train("melt", data, to=tmp_path, threads=1, device="cpu", **OPTIONS)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
