"""What stands beside the scores: a planted pair of embeddings, of which each knows what the other does not."""

import json

import numpy as np
import pytest

from graticule.errors import CacheError, SettingError
from graticule.evaluation import study as module
from graticule.evaluation.examine import evaluate
from graticule.evaluation.residuals import plain
from graticule.evaluation.study import MEASURES, remembered, study
from graticule.evaluation.tasks import Task
from graticule.geo.coords import uniform_places, unit_sphere
from tests.evaluation.planted import waves

PLACES = uniform_places(300, seed=9)


def rough(seed, columns=4):
    """Numbers of the place that change within some km: neighbours and harmonics cannot tell them."""
    return lambda points: np.cos(unit_sphere(points) @ np.random.default_rng(seed).normal(0, 900, (3, columns)))


def both(points):
    return np.hstack([rough(1)(points), rough(2)(points)])


def task(name="planted", rows=250):
    """Label = a large signal that text sees + a small one that image sees."""
    points = uniform_places(rows, seed=4)
    return Task(name, points, 2 * rough(1)(points)[:, 0] + rough(2)(points)[:, 0], "regression")


def other_task():
    """The same for classes, which only image knows."""
    points = uniform_places(250, seed=4)
    return Task("classes", points, (rough(2)(points)[:, 1] > 0).astype(np.int64), "classification", ("a", "b"))


EMBEDS = {"text": rough(1), "image": rough(2)}


@pytest.fixture(scope="module")
def report():
    return evaluate(EMBEDS, [task(), other_task()], baselines=False)


@pytest.fixture(scope="module")
def kept(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, study(report, EMBEDS, PLACES, cache=folder)


def test_each_of_a_pair_is_found_to_know_its_own_signal(kept):
    _, found = kept
    assert found.pair == ("text", "image")
    for split in ("random", "blocks"):
        parts = found.partitions["planted"][split]["parts"]
        assert parts["text"] == pytest.approx(0.8, abs=0.1)
        assert parts["image"] == pytest.approx(0.2, abs=0.1)
        assert abs(parts["coordinates"]) < 0.1
        assert abs(parts["text + image"]) < 0.1
        low, high = found.partitions["planted"][split]["intervals"]["text"]
        assert 0.5 < low < parts["text"] < high < 1.2
        parts = found.partitions["classes"][split]["parts"]
        assert parts["image"] > 0.3 > 0.15 > abs(parts["text"])


def test_unrelated_embeddings_are_unlike_and_equal_ones_alike(report, kept):
    _, found = kept
    assert set(found.similarity) == set(MEASURES)
    for name, matrix in found.similarity.items():
        same, unlike = (np.pi / 2, 0) if name == "Procrustes angle" else (0, 1)
        assert np.shape(matrix) == (2, 2)
        assert matrix[0][1] == matrix[1][0]
        assert abs(matrix[0][0] - unlike) < 0.05 or name == "Procrustes angle"
        assert abs(matrix[0][1] - same) < 0.45
    twice = study(report, {"text": rough(1), "again": rough(1), "image": rough(2)}, PLACES, pair=("text", "image"))
    assert twice.similarity["linear CKA"][0][1] == pytest.approx(1)
    assert twice.similarity["linear CKA"][1][2] < 0.1
    assert twice.pair == ("text", "image")
    assert twice.partitions == found.partitions


def test_differing_places_keep_apart_and_lie_at_their_rows(kept):
    _, found = kept
    assert 1 <= len(found.differing) <= 20
    values = [place.value for place in found.differing]
    assert values == sorted(values, reverse=True)
    for place in found.differing:
        assert (place.lon, place.lat) == tuple(PLACES[place.row])


def test_everything_goes_into_json(report, kept, tmp_path):
    _, found = kept
    written = json.loads(json.dumps(plain(found.to_json()), allow_nan=False))
    assert set(written["profiles"]) == {"text", "image"}
    assert written["profiles"]["text"]["components"] == 4
    assert np.shape(written["places"]) == (300, 2)
    assert written["partitions"] == found.partitions
    np.testing.assert_array_equal(np.array(written["dimension"]["image"], float), found.dimension["image"])
    assert len(written["differing"]) == len(found.differing)
    np.testing.assert_equal(study(report, EMBEDS, PLACES).to_json(), found.to_json())  # the cache changes nothing


def test_a_second_call_computes_nothing(report, kept, monkeypatch):
    folder, found = kept

    def refused(*arguments, **settings):
        raise AssertionError("computed again")

    for name in ("profile", "local_dimension", "_alike", "partition"):
        monkeypatch.setattr(module, name, refused)
    again = study(report, EMBEDS, PLACES, cache=folder)
    assert again.to_json() == found.to_json()
    renamed = study(report, {"a": rough(1), "b": rough(2)}, PLACES, cache=folder)
    assert list(renamed.profiles.values()) == list(found.profiles.values())
    with pytest.raises(AssertionError, match="computed again"):
        study(report, {"a": rough(3)}, PLACES, cache=folder)


class Killed(BaseException):
    pass


def test_a_killed_call_goes_on(report, kept, tmp_path, monkeypatch):
    folder, found = kept
    done = []

    def mortal(*arguments):
        if len(done) == 1:
            raise Killed
        done.append(arguments)
        return partition(*arguments)

    partition = module._alike
    with monkeypatch.context() as patch:
        patch.setattr(module, "_alike", mortal)
        with pytest.raises(Killed):
            study(report, EMBEDS, PLACES, cache=tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.split("-")[0] for name in names] == ["dimension", "dimension", "profile", "profile", "similarity"]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    resumed = study(report, EMBEDS, PLACES, cache=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in folder.iterdir())
    assert resumed.to_json() == found.to_json()


def test_a_damaged_file_is_named(tmp_path):
    assert remembered(tmp_path, "sum", [np.arange(3)], lambda: [1.5, None]) == [1.5, None]
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CacheError, match=f"{path} is damaged"):
        remembered(tmp_path, "sum", [np.arange(3)], lambda: [1.5, None])


def test_one_embedding_has_no_pair(report):
    found = study(report, {"text": rough(1)}, PLACES)
    assert (found.pair, found.partitions, found.differing) == ((), {}, [])
    assert np.shape(found.similarity["linear CKA"]) == (1, 1)
    json.dumps(plain(found.to_json()), allow_nan=False)


def test_a_collapsed_embedding_is_left_out_and_said_so(report):
    found = study(report, {"flat": lambda points: np.ones((len(points), 3)), "text": rough(1)}, PLACES)
    assert found.collapsed == ["flat"]
    assert list(found.profiles) == list(found.dimension) == ["text"]
    assert found.pair == ()
    assert study(report, {"flat": lambda points: np.ones((len(points), 3))}, PLACES).collapsed == ["flat"]


def test_variance_is_taken_apart_only_where_a_task_was_asked():
    """One task cannot be cut into blocks, and none is cut in a way that is taken apart."""
    local = Task("local", *(lambda t: (t.points, t.label))(task(rows=120)), "regression",
                 folds={"fold_block10": np.zeros(120, np.int64)})  # fmt: skip
    mixed = evaluate(EMBEDS, [local, task(rows=120)], baselines=False)
    assert [failure.task for failure in mixed.failures] == ["local"]
    found = study(mixed, EMBEDS, PLACES)
    assert {name: list(by) for name, by in found.partitions.items()} == {
        "local": ["random"], "planted": ["random", "blocks"],
    }  # fmt: skip
    cells = evaluate(EMBEDS, [task(rows=120)], split="cells", baselines=False)
    assert study(cells, EMBEDS, PLACES).partitions == {"planted": {}}


def test_a_pair_that_is_none_is_refused(report):
    with pytest.raises(SettingError, match=r"Unknown embedding of the pair 'texts'. Did you mean 'text'"):
        study(report, EMBEDS, PLACES, pair=("texts", "image"))


def test_smooth_embeddings_share_what_coordinates_know():
    """Nothing is unique to either of two views of one smooth signal that harmonics see too."""
    points = uniform_places(250, seed=4)
    smooth = Task("smooth", points, waves(points) @ np.random.default_rng(0).normal(size=40), "regression")
    embeds = {"one": waves, "two": lambda p: waves(p, seed=2)}
    found = study(evaluate(embeds, [smooth], split="random", baselines=False), embeds, PLACES)
    parts = found.partitions["smooth"]["random"]["parts"]
    assert parts["one + two + coordinates"] > 0.9
    assert max(abs(parts[name]) for name in ("one", "two", "coordinates")) < 0.05
