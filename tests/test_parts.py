"""How settings become the parts of a recipe."""

import pytest

from graticule.encoders.location import location_encoder
from graticule.encoders.towers import tower
from graticule.errors import SettingError
from graticule.learners.places import PlaceQueue, RandomPlaces, RingPlaces
from graticule.parts import Parts, learner, rows_a_step, softmax
from graticule.settings import Settings


def parts(fitted=None, **settings):
    location = location_encoder("cartesian", body="linear", dim=4)
    towers = {name: tower(3, dim=4) for name in ("text", "image")}
    given = (location, towers, dict.fromkeys(towers, 30), Settings(**settings))
    return Parts(*given, fitted) if fitted else Parts(*given)


def test_by_default_the_own_place_alone_is_the_target_of_whole_vectors():
    assert softmax(parts()) == {"temperature": 0.4, "learn_temperature": False, "near": None, "prefixes": ()}


def test_each_modality_has_its_own_kilometres():
    asked = []

    def fitted(name):
        asked.append(name)
        return 77.0

    near = softmax(parts(fitted, soft_km="fitted", soft_km_of={"image": 40}, mask_km_of={"text": 5}))["near"]
    assert near.soft_km == {"text": 77.0, "image": 40.0}
    assert near.mask_km == {"text": 5.0, "image": 0.0}
    assert (near.kernel, near.coarse) == ("gaussian", 0.0)
    assert asked == ["text"]
    with pytest.raises(SettingError, match="Nothing can be fitted to 'text' here"):
        softmax(parts(mask_km="fitted"))


def test_prefixes_belong_to_the_vector_that_there_is():
    assert softmax(parts(prefixes="2", dim=256))["prefixes"] == (2, 4)
    assert learner(parts(prefixes="3,1"), None).prefixes == (1, 3, 4)
    with pytest.raises(SettingError, match="from 1 to 4"):
        softmax(parts(prefixes="16"))


def test_prefixes_are_not_of_a_shared_space():
    assert learner(parts(shared=3), None).shared.out_features == 3
    with pytest.raises(SettingError, match="leave shared at 0, got 3"):
        learner(parts(shared=3, prefixes="2"), None)


def test_encoders_embed_as_many_rows_at_once_as_asked():
    assert learner(parts(), None).rows_at_once == 0
    assert learner(parts(rows_at_once=64), None).rows_at_once == 64


def test_negatives_are_those_asked_for_or_else_the_recipe_s_own():
    def kinds(own="", **settings):
        return [type(places) for places in learner(parts(**settings), None, negatives=own).other_places]

    assert kinds() == []
    assert kinds("queue") == [PlaceQueue]
    assert kinds("queue", negatives="ring, random") == [RingPlaces, RandomPlaces]
    (ring,) = learner(parts(negatives="ring", ring_places=7, ring_km=3.0), None).other_places
    assert (ring.count, ring.radius_km) == (7, 3.0)


@pytest.mark.parametrize(
    ("rows", "balance", "expected"),
    [
        ({"a": 10, "b": 1000}, "even", {"a": 100, "b": 100}),
        ({"a": 100, "b": 300}, "rows", {"a": 50, "b": 150}),
        ({"a": 1, "b": 999_999}, "rows", {"a": 1, "b": 200}),
        ({"a": 7}, "rows", {"a": 100}),
        ({}, "rows", {}),
    ],
)
def test_rows_a_step(rows, balance, expected):
    assert rows_a_step(rows, Settings(batch_size=100, balance=balance)) == expected
