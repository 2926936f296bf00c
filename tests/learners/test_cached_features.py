import logging
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from graticule.data import store
from graticule.data.store import prepare
from graticule.errors import CacheError, DataError, SettingError
from graticule.geo.coords import offset_km, uniform_places, unit_sphere
from graticule.geo.placed import Placed
from graticule.learners import features as module
from graticule.learners.features import cached_features, raw_features, resemblance_km, standardised
from tests.learners.slow_trunk import SlowTrunk, hash_of
from tests.prepared import image_source, text_source

ROWS, PART = 64, 8


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Texts in parts of 8 rows."""
    monkeypatch.setattr(store, "PART_ROWS", PART)
    return prepare({"text": text_source(ROWS)}, to=tmp_path / "data")["text"]


def diary(trunk):
    return trunk.diary.read_text().splitlines() if trunk.diary.exists() else []


def files(table):
    return sorted((table.folder / "features").rglob("*.npy"))


def test_features_are_those_of_the_trunk_with_the_places_of_the_rows(table, tmp_path):
    placed = cached_features(table, SlowTrunk(tmp_path / "diary"))
    expected = [[len(text), hash_of(text), 1] for text in table.all_contents()]
    assert placed.features.dtype == np.float16
    np.testing.assert_array_equal(placed.features, np.array(expected, np.float16))
    np.testing.assert_array_equal(placed.lonlat, table.lonlat)
    assert placed.ids.tolist() == table.ids.tolist()


def test_the_pass_runs_once_for_each_trunk(table, tmp_path):
    first, second = SlowTrunk(tmp_path / "1"), SlowTrunk(tmp_path / "2")
    expected = cached_features(table, first)
    assert len(diary(first)) == ROWS // PART
    assert np.array_equal(cached_features(table, second).features, expected.features)
    assert diary(second) == []
    other = SlowTrunk(tmp_path / "3", version=2)
    assert not np.array_equal(cached_features(table, other).features, expected.features)
    assert len(diary(other)) == ROWS // PART


def test_features_left_behind_by_other_rows_are_not_used(table, tmp_path):
    """The folder is prepared anew from other texts, as many in each part, while the old features still lie there."""
    cached_features(table, SlowTrunk(tmp_path / "1"))
    for path in table.folder.glob("*.*"):
        path.unlink()
    other = prepare({"text": text_source(ROWS, seed=9)}, to=table.folder.parent)["text"]
    found = cached_features(other, SlowTrunk(tmp_path / "2"))
    expected = [[len(text), hash_of(text), 1] for text in other.all_contents()]
    np.testing.assert_array_equal(found.features, np.array(expected, np.float16))


def test_rows_are_given_in_chunks(table, tmp_path, monkeypatch):
    expected = cached_features(table, SlowTrunk(tmp_path / "1"))
    monkeypatch.setattr(module, "CHUNK", 3)
    trunk = SlowTrunk(tmp_path / "2")
    (table.folder / "features").rename(tmp_path / "old")
    assert np.array_equal(cached_features(table, trunk).features, expected.features)
    assert len(diary(trunk)) == 3 * ROWS // PART


def test_kill_9_in_the_pass_then_again(table, tmp_path):
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [sys.executable, "-m", "tests.learners.slow_trunk", str(table.folder.parent), str(tmp_path / "killed")]
    child = subprocess.Popen(command, cwd=home)
    until = time.monotonic() + 60
    while len(files(table)) < 3:
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    finished = len(files(table))
    assert 3 <= finished < ROWS // PART
    trunk = SlowTrunk(tmp_path / "again")
    found = cached_features(table, trunk)
    assert ROWS // PART - finished <= len(diary(trunk)) <= ROWS // PART - finished + 1
    starts = [next(iter(table.contents(part))) for part in table.parts()]
    assert diary(trunk) == starts[-len(diary(trunk)) :]
    (table.folder / "features").rename(tmp_path / "old")
    assert np.array_equal(found.features, cached_features(table, SlowTrunk(tmp_path / "whole")).features)


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "other rows"])
def test_a_damaged_part_is_computed_again(table, tmp_path, damage, caplog):
    expected = cached_features(table, SlowTrunk(tmp_path / "1"))
    path = files(table)[2]
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        flipped = bytearray(whole)
        flipped[-1] ^= 1
        other = files(table)[3].read_bytes()
        path.write_bytes({"flip": flipped, "truncate": whole[:-2], "other rows": other}[damage])
    trunk = SlowTrunk(tmp_path / "2")
    with caplog.at_level(logging.WARNING):
        found = cached_features(table, trunk)
    assert np.array_equal(found.features, expected.features)
    assert diary(trunk) == [table.contents(table.parts()[2])[0]]
    assert [path.name in record.message for record in caplog.records] == ([] if damage == "missing" else [True])
    assert path.read_bytes() == whole


def test_a_damaged_index_is_named(table, tmp_path):
    cached_features(table, SlowTrunk(tmp_path / "1"))
    (index,) = (table.folder / "features").rglob("features.json")
    index.write_text(index.read_text()[:-20])
    with pytest.raises(CacheError, match=re.escape(str(index))):
        cached_features(table, SlowTrunk(tmp_path / "2"))


def test_a_trunk_of_another_kind_is_refused(table, tmp_path):
    trunk = SlowTrunk(tmp_path / "1")
    trunk.kind = "photo"
    with pytest.raises(DataError, match="'text' holds text rows, but its trunk reads photo"):
        cached_features(table, trunk)


@pytest.mark.parametrize("value", [np.nan, np.inf, 70_000.0])
def test_values_that_float16_cannot_hold_are_refused(table, tmp_path, value):
    class Wild(SlowTrunk):
        def __call__(self, contents):
            out = super().__call__(contents)
            out[-1, 1] = value
            return out

    with pytest.raises(DataError, match=r"part-00000\.parquet, rows 0"):
        cached_features(table, Wild(tmp_path / "1"))
    assert files(table) == []


def test_raw_features_are_the_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PART_ROWS", PART)
    data = prepare({"image": image_source(20), "text": text_source(4)}, to=tmp_path)
    placed = raw_features(data["image"])
    assert placed.features.shape == (20, 3, 4, 4)
    assert placed.features.dtype == np.uint16
    np.testing.assert_array_equal(placed.features, np.stack([row.content for row in image_source(20).rows()]))
    with pytest.raises(DataError, match="'text' holds text"):
        raw_features(data["text"])


def test_standardised_features():
    features = np.random.default_rng(0).normal(3, 7, (50, 4)).astype(np.float16)
    features[:, 2] = 5
    found = standardised("a", Placed(np.zeros((50, 2)), features))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0), [1, 1, 0, 1], atol=1e-6)
    with pytest.raises(SettingError, match="frozen trunk are needed, one row a place; 'a' has none"):
        standardised("a", Placed(np.zeros((2, 2)), np.zeros((2, 3, 4, 4))))
    with pytest.raises(DataError, match="'a' has 0 rows"):
        standardised("a", Placed(np.zeros((0, 2)), np.zeros((0, 3))))


def test_rows_resemble_each_other_over_the_scale_of_their_features():
    """Waves of so many km: the finer they are, the shorter the range; loud columns count no more than quiet ones."""
    rng = np.random.default_rng(0)
    places = offset_km(np.repeat(uniform_places(150, seed=2), 20, axis=0), *rng.normal(0, 150, (2, 3000, 1)))[:, 0]

    def rows(km):
        waves = np.cos(unit_sphere(places) @ rng.normal(size=(3, 30)) * 6371 / km + rng.uniform(0, 7, 30))
        return Placed(places, (waves * np.geomspace(1, 50, 30)).astype(np.float16))

    fine, coarse = (resemblance_km("a", rows(km)) for km in (60, 400))
    assert 10 < fine < 150 < coarse < 1500


def test_nothing_to_resemble_is_an_error():
    for features in (np.zeros((40, 3)), np.zeros((1, 3))):
        with pytest.raises(DataError, match=r"No range can be fitted to 'a'.*kilometres instead"):
            resemblance_km("a", Placed(uniform_places(len(features), seed=0), features))
