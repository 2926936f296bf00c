import dataclasses
import math

import numpy as np
import pytest

from graticule import nearest as module
from graticule.encoders.networks import TorchNetworks
from graticule.errors import DataError, SettingError
from graticule.geo.coords import great_circle_km, uniform_places
from graticule.nearest import Gallery, gallery, nearest, question
from tests.small_run import ROWS, images, texts


def cosine(a, b):
    return float(np.dot(a, b) / math.sqrt(np.dot(a, a)) / math.sqrt(np.dot(b, b)))


def naive(vector, among, k):
    scores = [cosine(vector.astype(float), v.astype(float)) for v in among.vectors]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])[:k]
    return [(among.names[i], *among.lonlat[i], scores[i]) for i in order]


def check(found, expected):
    assert [f.name for f in found] == [e[0] for e in expected]
    np.testing.assert_allclose([(f.lon, f.lat, f.similarity) for f in found], [e[1:] for e in expected], atol=1e-5)


@pytest.fixture
def table(tmp_path):
    places = uniform_places(50, seed=8)
    lines = [f"spot {i},{x!r},{y!r}" for i, (x, y) in enumerate(places.tolist())]
    path = tmp_path / "spots.csv"
    path.write_text("\n".join(["name,lon,lat", *lines]))
    return path


QUESTIONS = {
    "place": {"lon": 11.58, "lat": 48.14},
    "text": {"text": "snow and ice, place number 4"},
    "image": {"image": images()[5]},
}


@pytest.mark.parametrize("asked", QUESTIONS)
@pytest.mark.parametrize("answer", ["place", "text", "image"])
def test_answers_are_those_of_the_naive_loop(run, table, asked, answer):
    vector = question(run, **QUESTIONS[asked])
    among = gallery(run, answer, table=table)
    assert len(among.names) == len(among.vectors) == len(among.lonlat) == (50 if answer == "place" else ROWS)
    check(nearest(vector, among, 7), naive(vector, among, 7))


def test_galleries_hold_the_rows_in_order(run, data, table):
    spots, text, image = (gallery(run, name, table=table) for name in ("place", "text", "image"))
    assert spots.names[:2] == ["spot 0", "spot 1"]
    np.testing.assert_array_equal(spots.lonlat, uniform_places(50, seed=8))
    np.testing.assert_array_equal(spots.vectors, run.embed_points(spots.lonlat))
    np.testing.assert_array_equal(text.lonlat, data["text"].lonlat)
    # features are cached in float16, then whitened
    np.testing.assert_allclose(text.vectors, run.embed_contents("text", texts()), atol=5e-3)
    assert image.names == [f"image-{i}" for i in range(ROWS)]
    np.testing.assert_allclose(image.vectors, run.embed_contents("image", images()), atol=5e-3)


def test_labels_of_texts_are_one_short_line(run):
    names = gallery(run, "text").names
    assert names[0] == "snow and ice, place number 0"
    assert names[4].endswith("…")
    assert len(names[4]) == module.LABEL
    assert not any("\n" in name for name in names)


def test_a_row_finds_itself_and_its_distance(run):
    among = gallery(run, "text")
    best = nearest(question(run, text=texts()[13]), among, 1)[0]
    assert best.similarity == pytest.approx(1, abs=1e-4)
    assert best.name == among.names[13]
    assert best.distance_km is None
    place = uniform_places(1, seed=3)
    for found in nearest(question(run, lon=place[0, 0], lat=place[0, 1]), among, 5, place=place):
        expected = great_circle_km(place[0], np.array([found.lon, found.lat]))
        assert found.distance_km == pytest.approx(float(expected))


def test_without_a_table_the_whole_earth_answers(run, monkeypatch):
    monkeypatch.setattr(module, "PLACES", 300)
    among = gallery(run)
    assert len(among.names) == 300
    for name, (lon, lat) in zip(among.names, among.lonlat, strict=True):
        y, x = name.split(" ")
        assert float(y[:-1]) * (1 if y[-1] == "N" else -1) == pytest.approx(lat, abs=0.051)
        assert float(x[:-1]) * (1 if x[-1] == "E" else -1) == pytest.approx(lon, abs=0.051)
    here = among.lonlat[42]
    assert nearest(question(run, lon=here[0], lat=here[1]), among, 1)[0].name == among.names[42]


def test_places_without_names_are_numbered_through(run, tmp_path):
    path = tmp_path / "bare.csv"
    path.write_text("lon,lat\n1,2\n3,4\n")
    assert gallery(run, table=path).names == ["row 0", "row 1"]
    path.write_text("lon,lat\n")
    empty = gallery(run, table=path)
    assert (empty.names, empty.vectors.shape) == ([], (0, 16))
    assert nearest(question(run, lon=1, lat=2), empty) == []


def test_ties_keep_the_order_and_zero_vectors_are_no_neighbours():
    vectors = np.array([[0, 0], [0, 1], [2, 0], [1, 0]], np.float32)
    among = Gallery("place", list("abcd"), np.zeros((4, 2)), vectors)
    assert [f.name for f in nearest(np.array([3.0, 0]), among, 9)] == ["c", "d", "a", "b"]
    assert [f.similarity for f in nearest(np.zeros(2), among, 2)] == [0, 0]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"lon": 1},
        {"lat": 1},
        {"lon": 1, "text": "a"},
        {"lon": 1, "lat": 2, "text": "a"},
        {"text": "a", "image": images()[0]},
        {"lon": 1, "lat": 2, "image": images()[0]},
    ],
)
def test_exactly_one_question(run, asked):
    with pytest.raises(SettingError, match="exactly one of"):
        question(run, **asked)


@pytest.mark.parametrize("k", [0, -1])
def test_at_least_one_answer(run, table, k):
    with pytest.raises(SettingError, match=f"k={k}"):
        nearest(question(run, lon=1, lat=2), gallery(run, table=table), k)


def test_a_model_without_texts_says_what_it_reads(run):
    blind = dataclasses.replace(run, networks=TorchNetworks(run.location, {"image": run.towers["image"]}))
    with pytest.raises(SettingError, match="knows image; none of them reads text"):
        question(blind, text="snow")
    with pytest.raises(SettingError, match="embeds places alone: nothing in it reads photo or image"):
        question(dataclasses.replace(run, networks=TorchNetworks(run.location)), image=images()[0])


def test_data_that_is_gone_is_said_so(run, tmp_path):
    entries = {name: {**entry, "folder": str(tmp_path / name)} for name, entry in run.about["data"].items()}
    elsewhere = dataclasses.replace(run, about={**run.about, "data": entries})
    with pytest.raises(DataError, match=r"rows of 'text' .* are not on this machine.*Ask for places instead"):
        gallery(elsewhere, "text")
    assert question(elsewhere, text="snow").shape == (16,)


def test_unknown_answers_name_the_nearest(run):
    with pytest.raises(SettingError, match="Did you mean 'text'"):
        gallery(run, "texts")


def test_answers_apart_lie_far_from_the_place_and_from_each_other(run):
    among = gallery(run)
    place = np.array([[25.0, 24.0]])
    vector = question(run, lon=25.0, lat=24.0)
    found = nearest(vector, among, 5, place=place, apart_km=1500)
    points = np.array([(f.lon, f.lat) for f in found])
    apart = great_circle_km(points[:, None], points[None])
    assert len(found) == 5
    assert all(f.distance_km >= 1500 for f in found)
    assert apart[~np.eye(5, dtype=bool)].min() >= 1500
    everything = [f for f in nearest(vector, among, len(among.names), place=place) if f.distance_km >= 1500]
    assert found[0] == everything[0]
    assert [f.similarity for f in found] == sorted((f.similarity for f in found), reverse=True)
