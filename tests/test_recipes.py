"""Every recipe trains on tiny prepared data, is written, loaded again and gives the same vectors."""

import json

import numpy as np
import pytest
import torch

import graticule
from graticule.data.store import prepare
from graticule.encoders.location import location_encoder
from graticule.encoders.towers import tower
from graticule.errors import DataError, SettingError
from graticule.geo.coords import offset_km, uniform_places
from graticule.geo.variogram import semivariogram
from graticule.learners.contrastive import ContrastiveLearner
from graticule.learners.places import PlaceQueue, RandomPlaces
from graticule.parts import Parts
from graticule.recipes import DEFAULTS, RECIPES, recipe
from graticule.runs import train
from graticule.settings import Settings
from graticule.tensors import load_tensors
from graticule.training.trainer import Phase, read_log
from tests.prepared import image_source, source, text_source

SMALL = {"steps": 5, "batch_size": 8, "dim": 8, "log_every": 1}
HARMONICS = {
    "location": "harmonics",
    "location.max_degree": 4,
    "location.width": 16,
    "location.depth": 1,
    "trunk.text": "ngram",
}
ONE = {"modalities": "image", "location.width": 16}
CASES = {
    "imagebind": HARMONICS,
    "cyclic": HARMONICS | {"every": 2},
    "melt": HARMONICS | {"regression": 0.5},
    "distil": HARMONICS | {"neighbours.text": 4},
    "all-to-all": HARMONICS,
    "satclip": ONE | {"location.max_degree": 4},
    "geoclip": ONE | {"location.frequencies_per_sigma": 8, "queue": 20},
    "csp": ONE | {"location.radii": 4, "random_places": 6},
}
NEAR = {
    "soft_km": 500,
    "soft_km.text": "fitted",
    "mask_km": 20,
    "soft_kernel": "exponential",
    "coarse": 0.5,
    "prefixes": "2,4",
    "negatives": "random,ring,queue",
    "random_places": 5,
    "ring_places": 5,
    "queue": 5,
    "uniformity": 0.1,
    "consistency": 0.1,
    "sampler": "density",
    "balance": "rows",
}
PLACES = {"lon": np.linspace(-180, 180, 9), "lat": np.linspace(90, -90, 9)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Texts and images at the same places."""
    places = uniform_places(30, seed=5)
    made = {"text": text_source(places=places), "image": image_source(places=places)}
    return prepare(made, to=tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Texts and images at places some hundred km apart, so that near ones exist; three images for each text."""
    centres = np.repeat(uniform_places(20, seed=1), 10, axis=0)
    places = offset_km(centres, *np.random.default_rng(0).normal(0, 100, (2, 200, 1)))[:, 0]
    words = [f"{'north' if lat > 0 else 'south'} w{i // 10} w{i // 10} x{i}" for i, (_, lat) in enumerate(places)]
    made = {"text": source("text", places[::3], words[::3]), "image": image_source(places=places)}
    return prepare(made, to=tmp_path_factory.mktemp("crowded"))


def weights(model, prefix=""):
    tensors = load_tensors(model.folder / "model.safetensors")[0]
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def equal(a, b):
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def parts(names=("text", "image"), rows=30, **settings):
    location = location_encoder("harmonics", max_degree=1, body="linear", dim=4)
    towers = {name: tower(3, dim=4) for name in names}
    return Parts(location, towers, dict.fromkeys(names, rows), Settings(dim=4, **settings))


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_trains_and_loads_again(name, data, tmp_path):
    folder = tmp_path / "run"
    model = train(name, data, to=folder, **SMALL, **CASES[name])
    about = json.loads((folder / "run.json").read_text())
    assert about["recipe"] == name
    assert about["settings"]["steps"] == 5
    names = CASES[name].get("modalities", "text,image").split(",")
    towers, teacher = ((), {"teacher"}) if name == "distil" else (names, set())
    assert set(about["data"]) == set(names)
    assert set(about["rows_trained"]) == {*names, *teacher}
    assert set(about["towers"]) == set(model.modalities) == set(towers)
    assert about["data"]["image"]["fingerprint"] == data["image"].fingerprint
    assert about["graticule"] == graticule.__version__
    assert sorted(p.name for p in folder.iterdir()) == ["log.jsonl", "model.safetensors", "run.json"]
    rows = list(read_log(folder))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(np.isfinite(list(row.values())).all() and {"loss", "rank", "spread"} <= set(row) for row in rows)
    vectors, again = model.embed(**PLACES), graticule.load(folder)
    assert vectors.shape == (9, 8)
    assert np.isfinite(vectors).all()
    assert vectors.std(axis=0).max() > 0
    assert np.array_equal(again.embed(**PLACES), vectors)
    for modality in towers:
        contents = list(data[modality].all_contents())[:3]
        assert np.array_equal(again.embed_contents(modality, contents), model.embed_contents(modality, contents))
    started = location_encoder(**about["location"]).state_dict()
    assert not equal(weights(model, "location."), started)


@pytest.mark.parametrize("name", RECIPES)
def test_same_seed_same_weights_other_seed_other_weights(name, data, tmp_path):
    changes = [{"seed": seed, "steps": 2} for seed in (1, 1, 2)]
    runs = [train(name, data, to=tmp_path / str(i), **SMALL | CASES[name] | c) for i, c in enumerate(changes)]
    assert equal(weights(runs[0]), weights(runs[1]))
    assert not equal(weights(runs[0]), weights(runs[2]))


@pytest.mark.parametrize("name", ["imagebind", "cyclic", "melt"])
def test_distance_prefixes_and_samplers_in_the_three_architectures(name, crowded, tmp_path):
    """Everything at once trains, is written down, resembles no plain run, and is the same when run again."""
    asked = NEAR | {"every": 2, "distil": 0.5}
    run = train(name, crowded, to=tmp_path / "run", **SMALL, **HARMONICS, **asked)
    assert run.about["prefixes"] == [2, 4, 8]
    assert set(run.about["fitted_km"]) == {"text"}
    assert 0 < run.about["fitted_km"]["text"] < 5000
    row = list(read_log(run.folder))[-1]
    assert {"uniformity", "consistency", "teacher"} <= set(row)
    assert np.isfinite(list(row.values())).all()
    again = train(name, crowded, to=tmp_path / "again", **SMALL, **HARMONICS, **asked)
    plain = train(name, crowded, to=tmp_path / "plain", **SMALL, **HARMONICS, every=2)
    assert equal(weights(run), weights(again))
    assert not equal(weights(run), weights(plain))
    assert (plain.about["prefixes"], plain.about["fitted_km"]) == ([], {})


@pytest.mark.parametrize("name", ["cyclic", "melt"])
@pytest.mark.parametrize("kind", ["area", "stratified"])
def test_a_killed_run_with_all_of_it_goes_on_exactly(name, kind, crowded, tmp_path, monkeypatch):
    options = SMALL | HARMONICS | NEAR | {"every": 2, "distil": 0.5, "sampler": kind, "steps": 9, "checkpoint_every": 2}
    whole = train(name, crowded, to=tmp_path / "whole", **options)
    for lives in (3, 4):
        with monkeypatch.context() as patch:
            steps = iter([None] * lives)
            after = ContrastiveLearner.after_step

            def mortal(learner, progress, steps=steps, after=after):
                after(learner, progress)
                if next(steps, "dead"):
                    raise KeyboardInterrupt

            patch.setattr(ContrastiveLearner, "after_step", mortal)
            with pytest.raises(KeyboardInterrupt):
                train(name, crowded, to=tmp_path / "torn", **options)
    torn = train(name, crowded, to=tmp_path / "torn", **options)
    assert equal(weights(torn), weights(whole))


def test_soft_targets_make_vectors_smooth(crowded, tmp_path):
    """Against hard targets, half the mean squared difference over 50 to 150 km falls, and so it does with a mask."""
    options = SMALL | HARMONICS | {"steps": 150, "batch_size": 64, "learning_rate": 1e-2, "log_every": 150}
    options |= {"location.max_degree": 30, "dim": 16}
    rough = {}
    for name, asked in {"hard": {}, "soft": {"soft_km": 400}, "mask": {"mask_km": 400}}.items():
        run = train("imagebind", crowded, to=tmp_path / name, **options, **asked)
        places = crowded["image"].lonlat
        rough[name] = semivariogram(places, run.embed_points(places), (50, 150)).gamma[0]
    assert rough["soft"] < 0.7 * rough["hard"]
    assert rough["mask"] < 0.9 * rough["hard"]


@pytest.mark.parametrize("name", ["csp", "all-to-all"])
@pytest.mark.parametrize("asked", [{"soft_km": 9.0}, {"mask_km_of": {"image": 9.0}}, {"prefixes": "2"}])
def test_recipes_that_know_no_distance_say_so(name, asked):
    with pytest.raises(SettingError, match=f"The recipe {name} has no {next(iter(asked)).removesuffix('_of')}, got"):
        recipe(name)(parts(["image"], **asked))


@pytest.mark.parametrize("asked", [{"negatives": "random"}, {"balance": "rows"}])
def test_rows_drawn_together_have_no_other_negatives(asked):
    with pytest.raises(SettingError, match="no other negatives, and balance is even"):
        recipe("all-to-all")(parts(**asked))


def test_the_three_architectures_differ(data, tmp_path):
    runs = [train(n, data, to=tmp_path / n, **SMALL, **HARMONICS) for n in ("imagebind", "cyclic", "melt")]
    vectors = [run.embed(**PLACES) for run in runs]
    assert not any(np.allclose(a, b) for i, a in enumerate(vectors) for b in vectors[:i])


@pytest.mark.parametrize("start", [False, True])
def test_frozen_location_stands_still_to_the_bit(data, tmp_path, start):
    options = SMALL | HARMONICS | {"freeze_location": True, "weight_decay": 0.5, "ema": 0.9, "every": 2}
    if start:
        first = train("imagebind", data, to=tmp_path / "first", **SMALL, **HARMONICS)
        options["start"] = first.folder
        expected = weights(first, "location.")
    run = train("cyclic", data, to=tmp_path / "frozen", **options)
    if not start:
        expected = location_encoder(**run.about["location"]).state_dict()
    moving = train("cyclic", data, to=tmp_path / "moving", **options | {"freeze_location": False})
    assert equal(weights(run, "location."), dict(expected))
    assert not equal(weights(moving, "location."), dict(expected))
    one, other = (
        weights(run, "towers."),
        weights(train("cyclic", data, to=tmp_path / "0", **options | {"steps": 0}), "towers."),
    )
    heads = [name for name in one if ".head." in name]
    assert heads
    assert not any(torch.equal(one[name], other[name]) for name in heads)


def test_a_run_goes_on_from_another_of_other_width(data, tmp_path):
    first = train("melt", data, to=tmp_path / "first", **SMALL, **HARMONICS)
    second = train(
        "imagebind", data, to=tmp_path / "second", start=first.folder, **SMALL | {"dim": 64, "trunk.text": "ngram"}
    )
    assert second.dim == 8
    assert second.embed_contents("text", ["a harbour"]).shape == (1, 8)


def test_turns_of_the_cycle():
    def lengths(**settings):
        return [(phase.modalities, phase.steps, phase.frozen) for phase in recipe("cyclic")(parts(**settings))[1]]

    assert lengths(every=3) == [(("text",), 3, ()), (("image",), 3, ())]
    assert lengths(every=2, cycle="epochs", batch_size=7) == [(("text",), 8, ()), (("image",), 8, ())]
    assert lengths(every=2, cycle="epochs", batch_size=64) == [(("text",), 2, ()), (("image",), 2, ())]
    assert [frozen for _, _, frozen in lengths(freeze_location=True)] == [(r"location\.",)] * 2
    for wrong in ({"cycle": "days"}, {"every": 0}):
        with pytest.raises(SettingError, match="steps or epochs"):
            lengths(**wrong)


def test_all_modalities_every_step_and_pairs_for_all_to_all():
    for name in ("imagebind", "melt"):
        assert recipe(name)(parts())[1] == [Phase(("text", "image"))]
    assert recipe("all-to-all")(parts())[1] == [Phase(("text", "image"), paired=True)]


def test_symmetry_by_default_and_when_asked():
    def symmetric(name, **settings):
        return recipe(name)(parts(**settings))[0].objective.symmetric

    assert [symmetric(n) for n in ("imagebind", "cyclic", "melt")] == [True, True, False]
    assert [symmetric(n, symmetric=False) for n in ("imagebind", "cyclic", "melt")] == [False] * 3
    assert [symmetric(n, symmetric=True) for n in ("imagebind", "cyclic", "melt")] == [True] * 3
    binary = [recipe(n)(parts(["image"]))[0] for n in ("satclip", "geoclip")]
    assert [learner.objective.symmetric for learner in binary] == [True, False]


def test_negatives_of_the_binary_recipes():
    geoclip, csp = (recipe(n)(parts(["image"], queue=9, random_places=4))[0] for n in ("geoclip", "csp"))
    (queue,), (random,) = geoclip.other_places, csp.other_places
    assert isinstance(queue, PlaceQueue)
    assert len(queue.places) == 9
    assert isinstance(random, RandomPlaces)
    assert random.count == 4
    assert csp.second_view


def test_csp_views_differ_as_the_recipe_comes():
    """Without dropout the two views of a place would be one and the term would teach nothing."""
    settings = DEFAULTS["csp"]
    encoder = location_encoder(settings.location, **settings.location_options).train()
    place = torch.zeros(1, 2, dtype=torch.float64)
    assert not torch.equal(encoder(place), encoder(place))


@pytest.mark.parametrize("name", ["satclip", "geoclip", "csp"])
def test_binary_recipes_take_one_modality(name):
    with pytest.raises(SettingError, match="text, image: choose by --set modalities=NAME"):
        recipe(name)(parts())


@pytest.mark.parametrize(
    ("name", "near"), [("imagebin", "'imagebind'"), ("meld", "'melt'"), ("all2all", "'all-to-all'")]
)
def test_unknown_recipe_names_the_nearest(name, near):
    with pytest.raises(SettingError, match=f"Unknown recipe {name!r}. Did you mean {near}"):
        recipe(name)


def test_all_to_all_takes_the_shared_places_only(tmp_path):
    shared, alone = uniform_places(20, seed=1), uniform_places(6, seed=2)
    rng = np.random.default_rng(0)
    order = rng.permutation(20)
    moved = shared[order] + rng.uniform(-1, 1, (20, 2)) * 1e-4  # within 16 m
    made = {"text": text_source(places=np.concatenate([alone, shared])), "image": image_source(places=moved)}
    made["photo"] = source("image", moved[::-1], [np.full((2, 1, 1), i, np.uint16) for i in range(20)])
    run = train("all-to-all", prepare(made, to=tmp_path / "data"), to=tmp_path / "run", **SMALL, **HARMONICS)
    assert run.about["rows_trained"] == {"text": 20, "image": 20, "photo": 20}
    couples = {"location-text", "location-image", "location-photo", "image-text", "image-photo", "photo-text"}
    row = list(read_log(run.folder))[-1]
    assert couples == {"-".join(sorted(k.split("-"), key=lambda n: (n != "location", n))) for k in row if "-" in k}


def test_all_to_all_without_shared_places_says_so(tmp_path):
    made = {"text": text_source(seed=1), "image": image_source(seed=2)}
    with pytest.raises(DataError, match="No place within 1 km is shared by image, text"):
        train("all-to-all", prepare(made, to=tmp_path / "data"), to=tmp_path / "run", **SMALL, **HARMONICS)


def test_a_trunk_that_trains_with_the_run(tmp_path):
    places = uniform_places(12, seed=0)
    made = {"image": image_source(bands=12, size=16, places=places), "text": text_source(places=places)}
    data = prepare(made, to=tmp_path / "data")
    options = SMALL | HARMONICS | {"train_trunks": "image", "batch_size": 4}
    run = train("melt", data, to=tmp_path / "run", **options | {"steps": 2})
    start = train("melt", data, to=tmp_path / "start", **options | {"steps": 0})
    assert run.about["towers"]["image"]["trunk"] is None
    assert run.trunk("image") is None
    moved, still = weights(run, "towers.image."), weights(start, "towers.image.")
    assert any(name.startswith("body.") for name in moved)
    assert all(not torch.equal(moved[n], still[n]) for n in moved if n.endswith("weight") and moved[n].ndim > 1)
    pixels = list(data["image"].all_contents())
    vectors = run.embed_contents("image", pixels)
    assert vectors.shape == (12, 8)
    assert np.array_equal(graticule.load(run.folder).embed_contents("image", pixels), vectors)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "all-to-all"])
def test_a_teacher_is_heard_in_every_phase(name, data, tmp_path):
    run = train(name, data, to=tmp_path, **SMALL, **CASES[name], distil=0.5)
    assert all("teacher" in row for row in read_log(run.folder))


def test_rows_drawn_together_have_no_teacher(data, tmp_path):
    with pytest.raises(SettingError, match="leave distil at 0"):
        train("all-to-all", data, to=tmp_path, **SMALL, **CASES["all-to-all"], distil=0.5)
