import inspect
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from graticule.encoders.tags import TagTable, as_text
from graticule.encoders.text import NgramTrunk
from graticule.encoders.text_cache import CHUNK, text_vectors
from graticule.errors import CacheError, DataError, SettingError

COUNTS = {
    "building=yes": 900,
    "building=apartments": 40,
    "highway=residential": 200,
    "highway=bus_stop": 30,
    "roof:shape=gabled": 12,
    "addr:street=Hauptstraße": 1,
    "addr:street=Rue de l'Église\n2": 1,
    "cuisine=ethiopian": 1,
}


class Diary(NgramTrunk):
    """An n-gram trunk that writes down what it reads."""

    def __init__(self, dim=32):
        super().__init__(dim)
        self.read = []

    def __call__(self, contents):
        self.read += contents
        return super().__call__(contents)


@pytest.fixture
def trunk():
    return Diary()


@pytest.fixture
def table(trunk):
    return TagTable.build(COUNTS, trunk)


def half(vectors):
    return vectors.astype(np.float16).astype(np.float32)


def test_frequent_tags_and_keys_first(table):
    assert table.tags[:4] == ("building", "building=yes", "highway", "highway=residential")
    assert "addr:street" in table.tags  # twice as a key
    assert not {"addr:street=Hauptstraße", "cuisine", "cuisine=ethiopian"} & set(table.tags)
    assert len(table) == len(table.tags) == len(table.vectors)
    assert table.dim == 32
    assert TagTable.build(dict(reversed(COUNTS.items())), Diary()).tags == table.tags
    assert "cuisine=ethiopian" in TagTable.build(COUNTS, Diary(), least=1).tags


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("building", "apartments", "building: apartments"),
        ("roof:shape", "gabled", "roof shape: gabled"),
        ("highway", "bus_stop", "highway: bus stop"),
        ("sport", "soccer;tennis", "sport: soccer tennis"),
        ("addr:housenumber", "", "addr housenumber"),
        ("", "", ""),
        ("note", "x" * 500, "note: " + "x" * 114),
    ],
)
def test_text_of_a_tag(key, value, text):
    assert as_text(key, value) == text


def test_vectors_are_those_of_the_trunk(table):
    texts = ["building: yes", "highway", "roof shape: gabled"]
    rows = [table.tags.index(tag) for tag in ("building=yes", "highway", "roof:shape=gabled")]
    np.testing.assert_array_equal(table.vectors[rows], half(NgramTrunk(32)(texts)))


def test_sums_are_sums(table):
    tags = [
        {},
        {"building": "yes", "roof:shape": "gabled"},
        {"highway": "residential"},
        {"roof:shape": "gabled", "building": "yes"},
        {},
        {"building": "apartments"},
    ]
    rows, sums = table.sums(tags)
    assert rows.tolist() == [0, 1, 2, 1, 0, 3]
    assert rows.dtype == np.int64
    assert sums.shape == (4, 32)
    assert sums.dtype == np.float32
    assert not sums[0].any()
    for one, row in zip(tags, rows, strict=True):
        expected = np.zeros(32)
        for key, value in one.items():
            expected += table.vectors[table.tags.index(f"{key}={value}")]
        np.testing.assert_allclose(sums[row], expected, atol=1e-6)
    assert not table.fallbacks


def test_sums_of_nothing(table):
    for tags, size in (([], 0), ([{}, {}], 2)):
        rows, sums = table.sums(tags)
        assert rows.shape == (size,)
        assert rows.dtype == np.int64
        assert sums.shape == (1, 32)


def test_frequent_tags_are_those_with_values_by_count(table):
    assert table.frequent(3) == ("building=yes", "highway=residential", "building=apartments")
    assert table.frequent(0) == ()
    assert table.frequent(100) == tuple(sorted((t for t in table.tags if "=" in t), key=lambda t: -COUNTS[t]))


@pytest.mark.parametrize("most", [1, 3, 5, 9])
def test_frequent_tags_that_are_held_equal_the_naive_loop(table, most):
    """Unknown tags, plain keys and values that look like tags count nowhere; columns without a tag stay 0."""
    tags = [
        {"building": "yes", "roof:shape": "gabled"},
        {},
        {"highway": "residential", "building": "apartments", "cuisine": "ethiopian"},
        {"roof:shape": "gabled", "building": "yes"},
        {"building": "igloo"},
        {"building": "yes=no", "": "building=yes", "building=yes": ""},
        {"highway": "bus_stop"},
    ]
    rows, sums = table.sums(tags)
    held = table.held(tags, most)
    assert held.shape == (len(sums), most)
    assert held.dtype == np.float32
    assert not held[0].any()
    frequent = table.frequent(most)
    for one, row in zip(tags, rows, strict=True):
        for column in range(most):
            there = column < len(frequent) and [f"{k}={v}" for k, v in one.items()].count(frequent[column]) > 0
            assert held[row, column] == there
    assert len(frequent) == min(most, 5)
    assert table.held([], most).shape == (1, most)


def test_a_row_does_not_depend_on_the_others(table):
    rng = np.random.default_rng(0)
    pool = [{k: v} for k, _, v in (tag.partition("=") for tag in COUNTS)] + [{"building": "yes", "unheard": "of"}]
    many = [pool[i] | pool[j] for i, j in rng.integers(0, len(pool), (200, 2))]
    rows, sums = table.sums(many)
    for i in range(0, 200, 17):
        alone, own = table.sums([many[i]])
        np.testing.assert_array_equal(own[alone[0]], sums[rows[i]])


def test_every_unknown_tag_has_a_vector(table):
    tags = [
        {"building": "igloo"},
        {"building": "igloo"},
        {"building:levels": "7"},
        {"roof:shape:left": "x"},
        {"addr:street": "New Street"},
        {"highway_lit": "no"},
        {"unheard": "of", "building": "yes"},
        {"": ""},
    ]
    rows, sums = table.sums(tags)
    of = {tag: table.vectors[i] for i, tag in enumerate(table.tags)}
    mean = table.vectors[[i for i, tag in enumerate(table.tags) if "=" not in tag]].mean(axis=0)
    names = ("building", "building", "building", "roof:shape", "addr:street", "highway")
    expected = [*(of[key] for key in names), mean + of["building=yes"], mean]
    np.testing.assert_allclose(sums[rows], expected, atol=1e-6)
    assert table.fallbacks == Counter(key=3, part=3, mean=2)


def test_the_trunk_reads_unknown_tags_once(table, trunk):
    trunk.read.clear()
    open_table = table.reading(trunk)
    tags = [{"building": "igloo", "cuisine": "ethiopian"}, {"building": "igloo"}, {"building": "yes"}]
    for _ in range(2):
        rows, sums = open_table.sums(tags)
    assert sorted(trunk.read) == ["building: igloo", "cuisine: ethiopian"]
    igloo, food = half(NgramTrunk(32)(["building: igloo", "cuisine: ethiopian"]))
    yes = table.vectors[table.tags.index("building=yes")]
    np.testing.assert_allclose(sums[rows], [igloo + food, igloo, yes], atol=1e-6)
    assert open_table.fallbacks == Counter(trunk=6)
    assert not table.fallbacks
    assert open_table.identity() != table.identity()


def test_another_trunk_is_refused(table):
    with pytest.raises(SettingError, match="read by the text trunk"):
        table.reading(NgramTrunk(32, seed=1))


def test_projection_keeps_sums_and_weighs_by_the_root_of_the_count(trunk):
    full, small = TagTable.build(COUNTS, trunk), TagTable.build(COUNTS, trunk, dim=3)
    assert small.dim == 3
    np.testing.assert_allclose(small.vectors, full.vectors @ small.projection, atol=2e-3)
    np.testing.assert_allclose(small.projection.T @ small.projection, np.eye(3), atol=1e-6)
    moments = np.zeros((32, 32))
    for tag, vector in zip(full.tags, full.vectors.astype(np.float64), strict=True):
        moments += np.sqrt(COUNTS.get(tag, 0)) * np.outer(vector, vector)
    captured = np.trace(small.projection.T @ moments @ small.projection)
    assert captured == pytest.approx(np.sort(np.linalg.eigvalsh(moments))[-3:].sum(), rel=1e-5)
    rows, sums = small.reading(trunk).sums([{"building": "igloo"}, {}])
    np.testing.assert_allclose(sums[rows[0]], NgramTrunk(32)(["building: igloo"])[0] @ small.projection, atol=2e-3)
    assert not sums[rows[1]].any()


@pytest.mark.parametrize("dim", [0, 33])
def test_impossible_width(trunk, dim):
    with pytest.raises(SettingError, match="from 1 to 32"):
        TagTable.build(COUNTS, trunk, dim=dim)


def test_no_tags_at_all(trunk):
    table = TagTable.build({}, trunk)
    rows, sums = table.sums([{"building": "yes"}, {}])
    assert rows.tolist() == [1, 0]
    assert sums.shape == (2, 32)
    assert not sums.any()


@pytest.mark.parametrize("dim", [None, 5])
def test_saved_and_loaded(tmp_path, trunk, dim):
    table = TagTable.build(COUNTS, trunk, dim=dim, least=1)
    table.save(tmp_path / "tags.safetensors")
    again = TagTable.load(tmp_path / "tags.safetensors")
    assert again.tags == table.tags
    assert again.identity() == table.identity()
    np.testing.assert_array_equal(again.vectors, table.vectors)
    tags = [{"building": "igloo", "addr:street": "Rue de l'Église\n2"}, {"x": "y"}]
    for a, b in zip(again.sums(tags), table.sums(tags), strict=True):
        np.testing.assert_array_equal(a, b)
    reading = TagTable.load(tmp_path / "tags.safetensors", trunk)
    np.testing.assert_array_equal(reading.sums(tags)[1], table.reading(trunk).sums(tags)[1])
    assert load_file(tmp_path / "tags.safetensors")["vectors"].dtype == np.float16


def test_works_without_the_text_trunk(tmp_path, table):
    """In a process that can import neither torch nor tokenizers."""
    table.save(tmp_path / "tags.safetensors")
    code = (
        "import sys; sys.modules['torch'] = sys.modules['tokenizers'] = None\n"
        "from graticule.encoders.tags import TagTable\n"
        f"rows, sums = TagTable.load({str(tmp_path / 'tags.safetensors')!r}).sums([{{'building': 'igloo'}}])\n"
        "print(abs(sums[rows]).sum() > 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_damaged_tables_are_named(tmp_path, table):
    path = tmp_path / "tags.safetensors"
    with pytest.raises(DataError, match="no such file"):
        TagTable.load(path)
    table.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CacheError, match="damaged"):
        TagTable.load(path)
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(CacheError, match="format"):
        TagTable.load(path)
    with pytest.raises(DataError, match="a vector for each of 2 tags"):
        TagTable(["a", "b"], np.zeros((3, 4)), {})


def test_cache_reads_each_text_once(tmp_path, trunk):
    cache = tmp_path / "new" / "texts.sqlite"
    first = TagTable.build(COUNTS, trunk, cache=cache)
    assert len(trunk.read) == len(set(trunk.read)) > 0
    trunk.read.clear()
    again = TagTable.build({**COUNTS, "shop=bakery": 3}, trunk, cache=cache)
    assert sorted(trunk.read) == ["shop", "shop: bakery"]
    assert TagTable.build(COUNTS, NgramTrunk(32)).identity() == first.identity()  # the cache changes nothing
    assert set(first.tags) < set(again.tags)
    other = Diary(16)
    assert TagTable.build(COUNTS, other, cache=cache).dim == 16  # another trunk in the same file
    assert other.read


class Lengths:
    """The lightest of text trunks: a vector is the length of the text. Dies when told to."""

    kind = "text"
    config: ClassVar = {}

    def __init__(self, calls=1000):
        self.calls = calls
        self.read = []

    def identity(self):
        return {"name": "lengths"}

    def __call__(self, contents):
        self.calls -= 1
        if self.calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.read += contents
        return np.array([[len(text), 1] for text in contents], dtype=np.float32)


def test_cache_survives_a_kill(tmp_path):
    """A process that dies in the middle of its reading, twice: what was written in whole chunks is there."""
    cache, texts = tmp_path / "texts.sqlite", [f"tag {i:03}" for i in range(CHUNK * 5)]
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import numpy as np, os, signal\n"
        "from typing import ClassVar\n"
        f"{inspect.getsource(Lengths)}\n"
        "from graticule.encoders.text_cache import text_vectors\n"
        f"text_vectors([f'tag {{i:03}}' for i in range({len(texts)})], Lengths(2), {str(cache)!r})\n"
    )
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    trunk = Lengths()
    np.testing.assert_array_equal(text_vectors(texts, trunk, cache), [[len(text), 1] for text in texts])
    assert trunk.read == sorted(texts)[4 * CHUNK :]


def test_a_file_that_is_no_cache_is_named(tmp_path, trunk):
    cache = tmp_path / "texts.sqlite"
    cache.write_text("not a database, and long enough to be read as one" * 10)
    with pytest.raises(CacheError, match="Delete it and run again"):
        text_vectors(["a"], trunk, cache)


def test_cached_vectors_of_a_strange_text(tmp_path, trunk):
    texts = ["ünï", "a\ud800b", "", "ünï"]
    for _ in range(2):
        vectors = text_vectors(texts, trunk, tmp_path / "texts.sqlite")
    assert vectors.shape == (4, 32)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    with sqlite3.connect(tmp_path / "texts.sqlite") as file:
        assert file.execute("SELECT COUNT(*) FROM vectors").fetchone() == (3,)
    file.close()


def test_identity_is_json(table):
    assert json.loads(json.dumps(table.identity())) == table.identity()
