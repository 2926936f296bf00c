"""An index against the naive loop over all rows, and what is refused."""

import json
import math
import shutil

import numpy as np
import pytest

from graticule.errors import CacheError, DataError, SettingError
from graticule.files import read_json, write_json
from graticule.geo.coords import great_circle_km, lonlat, uniform_places
from graticule.index import array_rows, build_index, open_index
from graticule.index import build as build_module
from graticule.index import search as search_module
from graticule.nearest import Gallery, nearest

DIM = 12


def cosine(a, b):
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def naive(vectors, asked, k):
    scores = [cosine(asked.tolist(), v.tolist()) for v in vectors]
    return sorted(range(len(scores)), key=lambda i: -scores[i])[:k], scores


def smooth(points, seed=0):
    """Vectors that change gently over the Earth, as those of a location encoder do."""
    from graticule.geo.coords import unit_sphere

    rng = np.random.default_rng(seed)
    waves = unit_sphere(points) @ rng.normal(size=(3, DIM)) * 2 + rng.uniform(0, 6, DIM)
    return np.sin(waves).astype(np.float32)


def made(tmp_path, points, vectors, name="x.index", **options):
    about = {"model": "m", "model_hash": "h"}
    return open_index(build_index(array_rows(points, vectors, **about), tmp_path / name, **options))


@pytest.mark.parametrize("count", [1, 2, 100, 3000])
def test_answers_are_those_of_the_naive_loop(tmp_path, count):
    points = uniform_places(count, seed=1)
    vectors = smooth(points)
    index = made(tmp_path, points, vectors)
    assert (len(index), index.dim, index.space) == (count, DIM, "own")
    for asked in smooth(uniform_places(5, seed=2)):
        rows, scores = index.search(asked, 10)
        expected, similarity = naive(vectors, asked, 10)
        np.testing.assert_allclose(scores, [similarity[i] for i in expected], atol=2e-5)
        np.testing.assert_allclose([similarity[i] for i in rows], [similarity[i] for i in expected], atol=2e-6)
        assert len(rows) == min(10, count)


def test_more_answers_than_rows(tmp_path):
    points = uniform_places(300, seed=1)
    index = made(tmp_path, points, smooth(points))
    for k in (300, 301, 5000):
        assert sorted(index.search(smooth(points)[3], k)[0].tolist()) == list(range(300))


def test_no_rows(tmp_path):
    index = made(tmp_path, lonlat(lon=[], lat=[]), np.zeros((0, DIM), np.float32))
    rows, scores = index.search(np.ones(DIM), 5)
    assert (len(index), len(rows), len(scores)) == (0, 0, 0)
    assert index.nearest(np.ones(DIM), 5, apart_km=10) == []


def test_duplicates_are_all_found_and_ties_keep_the_order(tmp_path):
    points = uniform_places(1000, seed=1)
    vectors = smooth(points)
    vectors[100:200] = vectors[7]
    rows, scores = made(tmp_path, points, vectors).search(vectors[7], 101)
    assert rows.tolist() == [7, *range(100, 200)]
    np.testing.assert_allclose(scores, 1, atol=1e-6)


def test_vectors_of_zeros_are_near_nothing(tmp_path):
    points = uniform_places(400, seed=1)
    vectors = smooth(points)
    vectors[[0, 50, 399]] = 0
    index = made(tmp_path, points, vectors)
    rows, scores = index.search(vectors[5], 400)
    assert {0, 50, 399} <= set(rows[np.abs(scores) < 1e-6].tolist())
    assert not {0, 50, 399} & set(index.search(vectors[5], 10)[0].tolist())
    assert index.search(np.zeros(DIM), 3)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("apart_km", [10.0, 500.0, 3000.0, 12_000.0])
@pytest.mark.parametrize("where", [(179.99, 10.0), (-180.0, 0.0), (30.0, 90.0)])
def test_answers_apart_are_those_of_the_whole_table(tmp_path, apart_km, where, monkeypatch):
    """Across the antimeridian and the pole, whether the graph, the widened graph or all rows answer."""
    monkeypatch.setattr(search_module, "LEAST_PROPOSED", 20)
    monkeypatch.setattr(search_module, "WIDER", 3)
    monkeypatch.setattr(search_module, "WIDEST", 900)
    points = np.concatenate([uniform_places(1500, seed=4), lonlat(lon=[180, -179.995, 0], lat=[10, 10, 90])])
    vectors = smooth(points)
    index = made(tmp_path, points, vectors)
    place = lonlat(lon=[where[0]], lat=[where[1]])
    asked = smooth(place)[0]
    found = index.nearest(asked, 4, place=place, apart_km=apart_km)
    among = Gallery("place", [f"row {i}" for i in range(len(points))], points, vectors)
    expected = nearest(asked, among, 4, place=place, apart_km=apart_km)
    assert [f.name for f in found] == [f.name for f in expected]
    np.testing.assert_allclose([f.similarity for f in found], [f.similarity for f in expected], atol=2e-5)
    for one in found:
        assert one.distance_km == pytest.approx(float(great_circle_km(place[0], np.array([one.lon, one.lat]))))
        assert one.distance_km >= apart_km


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64, np.int8])
def test_vectors_of_any_kind(tmp_path, kind):
    points = uniform_places(500, seed=1)
    vectors = (smooth(points) * 100).astype(kind)
    index = made(tmp_path, points, vectors)
    rows, scores = index.search(vectors[17].astype(np.float32), 1)
    assert naive(vectors.astype(float), vectors[17].astype(float), 1)[1][rows[0]] == pytest.approx(1, abs=1e-6)
    assert scores[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"connectivity": 1}, "1, 128 and"), ({"expansion": 0}, "16, 0 and"), ({"graph_rows": 0}, "and 0")],
)
def test_impossible_settings(tmp_path, options, said):
    rows = array_rows(uniform_places(3), np.ones((3, DIM)))
    with pytest.raises(SettingError, match=said):
        build_index(rows, tmp_path / "x", **options)


def test_impossible_vectors(tmp_path):
    points = uniform_places(5, seed=0)
    vectors = smooth(points)
    with pytest.raises(DataError, match=r"one vector a place: 5 places, vectors \(4, 12\)"):
        array_rows(points, vectors[:4])
    for value in (np.nan, np.inf):
        vectors[3, 2] = value
        with pytest.raises(DataError, match="must be finite, row 3 is not"):
            build_index(array_rows(points, vectors), tmp_path / "nan")


def test_impossible_questions(tmp_path):
    points = uniform_places(5, seed=0)
    index = made(tmp_path, points, smooth(points))
    with pytest.raises(SettingError, match="at least one answer, got k=0"):
        index.search(np.ones(DIM), 0)
    for asked in (np.ones(DIM - 1), np.full(DIM, np.nan)):
        with pytest.raises(DataError, match=r"answers vectors of 12 finite numbers"):
            index.search(asked)


@pytest.fixture
def index(tmp_path):
    points = uniform_places(300, seed=1)
    return made(tmp_path, points, smooth(points))


def damage(path, how):
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes({"flip": whole, "cut": whole[:-9], "empty": b""}[how])


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "missing"])
@pytest.mark.parametrize("name", ["graph-00000.usearch", "rows.int16", "places.float64"])
def test_damaged_files_are_named(index, how, name):
    path = index.folder / name
    path.unlink() if how == "missing" else damage(path, how)
    with pytest.raises(CacheError, match=f"{name} is missing or damaged. Delete .*x.index and build it again"):
        open_index(index.folder)


def test_a_damaged_manifest_is_named(index):
    path = index.folder / "manifest.json"
    path.write_text(path.read_text().replace('"rows": 300', '"rows": 299'))
    with pytest.raises(CacheError, match=r"manifest\.json is damaged"):
        open_index(index.folder)
    path.write_text(path.read_text()[:40])
    with pytest.raises(CacheError, match=r"manifest\.json is damaged"):
        open_index(index.folder)


def test_a_copied_index_is_as_good(index, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(index.folder, copy, copy_function=shutil.copyfile)  # with other times
    asked = np.ones(DIM)
    assert open_index(copy).search(asked)[0].tolist() == index.search(asked)[0].tolist()


def test_what_is_no_index_is_refused(index, tmp_path):
    with pytest.raises(DataError, match="holds no index"):
        open_index(tmp_path / "nothing")
    manifest = read_json(index.folder / "manifest.json")
    write_json(index.folder / "manifest.json", manifest | {"complete": False})
    with pytest.raises(DataError, match="holds an unfinished index"):
        open_index(index.folder)
    write_json(index.folder / "manifest.json", manifest | {"format": 99})
    with pytest.raises(CacheError, match="of format 99, this version reads"):
        open_index(index.folder)
    write_json(index.folder / "manifest.json", manifest)
    with pytest.raises(SettingError, match="made of arrays: it has no table"):
        open_index(index.folder, table=tmp_path)


def test_a_finished_index_is_left_alone_and_another_refused(index):
    points = uniform_places(300, seed=1)
    stamps = {path: path.stat().st_mtime_ns for path in index.folder.iterdir()}
    rows = array_rows(points, smooth(points), model="m", model_hash="h")
    assert build_index(rows, index.folder) == index.folder
    assert stamps == {path: path.stat().st_mtime_ns for path in index.folder.iterdir()}
    others = [
        (array_rows(points, smooth(points) + 1, model="m", model_hash="h"), {}),
        (array_rows(points[::-1], smooth(points), model="m", model_hash="h"), {}),
        (array_rows(points, smooth(points), model="m", model_hash="other"), {}),
        (rows, {"connectivity": 8}),
    ]
    for other, options in others:
        with pytest.raises(SettingError, match="index of other rows or settings"):
            build_index(other, index.folder, **options)


class Killed(BaseException):
    pass


def dying(rows, after):
    """The same rows, which end in the middle of a batch."""

    def batches(start):
        for number, batch in enumerate(rows.batches(start)):
            if number == after:
                raise Killed
            yield batch

    return build_module.VectorRows(rows.count, rows.dim, batches, rows.about)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(build_module, "BATCH", 70)  # of which some reach from one graph into the next


def test_several_graphs_answer_as_one(tmp_path, small_batches):
    points = uniform_places(1100, seed=1)
    vectors = smooth(points)
    whole = made(tmp_path, points, vectors, "whole")
    several = made(tmp_path, points, vectors, "several", graph_rows=300)
    assert ([len(graph) for graph in several.graphs], len(whole.graphs)) == ([300, 300, 300, 200], 1)
    np.testing.assert_array_equal(several.rows, whole.rows)
    for asked in smooth(uniform_places(5, seed=2)):
        for k in (1, 10, 90):
            assert several.search(asked, k)[0].tolist() == whole.search(asked, k)[0].tolist()


@pytest.mark.parametrize("lives", [(1,), (3,), (6,), (2, 0, 4)])
def test_a_killed_build_goes_on_without_loss_or_repetition(tmp_path, lives, small_batches):
    points = uniform_places(520, seed=1)
    vectors = smooth(points)
    vectors[130] = 0
    rows = array_rows(points, vectors, model="m", model_hash="h")
    out = tmp_path / "torn"
    for after in lives:
        with pytest.raises(Killed):
            build_index(dying(rows, after), out, graph_rows=100)
    index = open_index(build_index(rows, out, graph_rows=100))
    whole = made(tmp_path, points, vectors, "whole", graph_rows=100)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.folder.iterdir())
    np.testing.assert_array_equal(index.rows, whole.rows)
    np.testing.assert_array_equal(index.lonlat, points)
    keys = [graph.search(np.ones(DIM, np.int8), 100).keys.tolist() for graph in index.graphs]
    assert [len(graph) for graph in index.graphs] == [100, 99, 100, 100, 100, 20]
    assert sorted(key for some in keys for key in some) == [row for row in range(520) if row != 130]
    for asked in smooth(uniform_places(5, seed=2)):
        assert index.search(asked, 10)[0].tolist() == whole.search(asked, 10)[0].tolist()


def test_a_damaged_unfinished_index_is_refused(tmp_path, small_batches):
    points = uniform_places(520, seed=1)
    rows = array_rows(points, smooth(points))
    out = tmp_path / "torn"
    with pytest.raises(Killed):
        build_index(dying(rows, 5), out, graph_rows=100)
    with pytest.raises(DataError, match="unfinished"):
        open_index(out)
    path = out / "graph-00001.usearch"
    whole = path.read_bytes()
    damage(path, "flip")
    with pytest.raises(CacheError, match=r"graph-00001\.usearch is missing or damaged"):
        build_index(rows, out, graph_rows=100)
    path.write_bytes(whole)
    damage(out / "rows.int16", "empty")
    with pytest.raises(CacheError, match=r"rows\.int16 is damaged: it is shorter than it was"):
        build_index(rows, out, graph_rows=100)


def test_rows_that_end_too_early(tmp_path):
    points = uniform_places(20, seed=1)
    rows = array_rows(points, smooth(points))
    with pytest.raises(DataError, match="end after 20 rows, 21 were announced"):
        build_index(build_module.VectorRows(21, DIM, rows.batches), tmp_path / "x")


def test_the_manifest_is_plain_json(index):
    manifest = json.loads((index.folder / "manifest.json").read_text())
    assert (manifest["rows"], manifest["dim"], manifest["metric"], manifest["numbers"]) == (300, DIM, "cos", "int8")
    assert manifest["of"]["model_hash"] == "h"
