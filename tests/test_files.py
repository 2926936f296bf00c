import json
import logging
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule import progress
from graticule.errors import CacheError
from graticule.files import atomic_write, digest_file, digest_json, read_json, write_json
from graticule.progress import Progress

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    atomic_write(path, lambda temporary: temporary.write_text("old"))

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["a.txt"]


def test_digests_tell_contents_apart(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"x" * 100_000)
    b.write_bytes(b"x" * 99_999 + b"y")
    assert digest_file(a) != digest_file(b)
    assert len(digest_file(a)) == 32
    b.write_bytes(a.read_bytes())
    assert digest_file(a) == digest_file(b)
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})


@settings(deadline=None, max_examples=30)
@given(value=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), values, max_size=4))
def test_json_comes_back(tmp_path_factory, value):
    value.pop("blake2b", None)
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


@pytest.mark.parametrize("raw", [b"", b'{"a": 1', b"\x00" * 50, b'{"a": "\xff"}', b"{} {}"])
def test_damaged_json_is_named(raw, tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(raw)
    with pytest.raises(CacheError, match=r"run.json is damaged .*Delete it"):
        read_json(path)


def test_json_that_was_changed_is_refused_but_a_file_without_a_seal_is_read(tmp_path):
    path = tmp_path / "run.json"
    write_json(path, {"dim": 16, "name": "Ödland"})
    sealed = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(sealed | {"dim": 17}))
    with pytest.raises(CacheError, match=r"run.json is damaged \(its digest does not match\)"):
        read_json(path)
    path.write_text('{"dim": 17}')
    assert read_json(path) == {"dim": 17}


def test_progress_tells_how_far_and_how_long(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, "graticule.progress"), Progress("prepare text", 1000, start=200) as shown:
        shown.advance(100)
        assert caplog.messages == []
        now[0] = 10.0
        shown.advance(100, note="loss 1.5")
        assert caplog.messages == ["prepare text: 400 of 1,000 rows in 10 s, 30 s left, loss 1.5"]
    assert caplog.messages[1:] == ["prepare text: 400 of 1,000 rows in 10 s, 30 s left"]


def test_progress_without_a_total_or_time_is_quiet(caplog):
    with caplog.at_level(logging.INFO), Progress("embed", unit="places") as shown:
        shown.advance(3)
    assert caplog.messages == []
    assert shown.line() == "embed: 3 places in 0 s"
