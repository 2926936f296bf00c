import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from graticule.data import store
from graticule.data.source import Row, Skip, Source
from graticule.data.store import head, open_dataset, prepare
from graticule.errors import CacheError, CoordinateError, DataError, SettingError
from graticule.files import digest_file

CONTENTS = {
    "text": lambda i: f"Grüße aus Zeile {i}\n\u2603",
    "image": lambda i: np.full((2, 3, 4), i, np.uint16) + np.arange(24, dtype=np.uint16).reshape(2, 3, 4),
    "photo": lambda i: bytes([0, i, 255]) * (i + 1),
    "point": lambda i: None,
}


def records(kind, n, skips=()):
    def stream(start):
        for i in range(start, n):
            if i in skips:
                yield Skip("odd" if i % 2 else "even", f"raw:{i}")
            else:
                yield Row(f"row {i}", -170.0 + i, i / 2 - 20, CONTENTS[kind](i))

    return stream


def source(kind="text", n=10, skips=(), **more):
    return Source(kind, records(kind, n, skips), {"n": n, "skips": list(skips)}, **more)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(store, "PART_ROWS", 4)


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.usefixtures("small_parts")
def test_rows_come_back_in_order(kind, tmp_path):
    table = prepare({"it": source(kind, 10, skips=(2, 3))}, to=tmp_path)["it"]
    kept = [i for i in range(10) if i not in (2, 3)]
    assert (len(table), table.kind) == (8, kind)
    assert [part["rows"] for part in table.parts()] == [4, 4]
    np.testing.assert_array_equal(table.lonlat, [[-170.0 + i, i / 2 - 20] for i in kept])
    assert table.ids.tolist() == [f"row {i}" for i in kept]
    if kind != "point":
        for found, i in zip(table.all_contents(), kept, strict=True):
            np.testing.assert_array_equal(found, CONTENTS[kind](i))
            assert kind != "image" or found.dtype == np.uint16
    reopened = open_dataset(tmp_path)
    assert reopened["it"].fingerprint == table.fingerprint
    assert f"8 rows of {kind}; skipped: 1 even, 1 odd" in str(reopened)


def test_manifest_tells_where_rows_come_from_and_why_others_went(tmp_path):
    raw = tmp_path / "raw.txt"
    raw.write_text("raw")
    skips = tuple(range(0, 18, 2))
    made = source("image", 20, skips=skips, files=(raw,), licence="CC0", bands=("red", "nir"))
    manifest = prepare({"sky": made}, to=tmp_path / "out")["sky"].manifest
    assert manifest["source"] == {"n": 20, "skips": list(skips)}
    assert (manifest["modality"], manifest["kind"], manifest["licence"]) == ("sky", "image", "CC0")
    assert manifest["bands"] == ["red", "nir"]
    assert manifest["files"] == [{"path": str(raw), "bytes": 3, "blake2b": digest_file(raw)}]
    assert (manifest["rows"], manifest["position"], manifest["complete"]) == (11, 20, True)
    assert manifest["skipped"] == {"even": 9}
    assert manifest["skipped_examples"] == {"even": ["raw:0", "raw:2", "raw:4"]}
    assert manifest["array"] == {"shape": [2, 3, 4], "dtype": "<u2"}
    part = tmp_path / "out" / "sky" / "part-00000.parquet"
    assert manifest["parts"] == [{"file": part.name, "rows": 11, "blake2b": digest_file(part)}]
    assert pq.read_table(part).column_names == ["id", "lon", "lat", "content"]


def test_parts_are_cut_by_bytes_too(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PART_BYTES", 100)  # an image here has 48 bytes
    table = prepare({"sky": source("image", 7)}, to=tmp_path)["sky"]
    assert [part["rows"] for part in table.parts()] == [3, 3, 1]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from graticule.data import store
import test_store
store.PART_ROWS = 4

def die():
    os.kill(os.getpid(), signal.SIGKILL)

when, made = sys.argv[1], test_store.source("text", 19, skips=(1, 9))
if when == "reading":
    stream = made.records
    def records(start):
        for i, record in enumerate(stream(start), start):
            if i == 12:
                die()
            yield record
    object.__setattr__(made, "records", records)
else:
    count = 0
    real = getattr(Path, "replace")
    def replace(self, target):
        global count
        count += target.name.startswith("part-")
        before, after = when == "writing a part", when == "writing the manifest"
        if count == 2 and before or count == 2 and after and target.name == "manifest.json":
            die()
        return real(self, target)
    Path.replace = replace
store.prepare({{"text": made}}, to=sys.argv[2])
"""


@pytest.mark.parametrize("when", ["reading", "writing a part", "writing the manifest"])
def test_killed_and_resumed_is_the_same_as_never_killed(when, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PART_ROWS", 4)
    made = source("text", 19, skips=(1, 9))
    prepare({"text": made}, to=tmp_path / "whole")
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(paths=[str(Path(__file__).parent), str(Path(store.__file__).parents[2])]))
    done = subprocess.run([sys.executable, script, when, tmp_path / "killed"], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = tmp_path / "killed" / "text"
    with pytest.raises(DataError, match=r"not prepared to the end. Run the same `prepare` again"):
        len(open_dataset(tmp_path / "killed")["text"])
    finished = {part["file"] for part in json.loads((folder / "manifest.json").read_text())["parts"]}
    assert finished == {"part-00000.parquet"} | ({"part-00001.parquet"} if when == "reading" else set())
    stamps = {name: (folder / name).stat().st_mtime_ns for name in finished}
    prepare({"text": made}, to=tmp_path / "killed")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert {name: (folder / name).stat().st_mtime_ns for name in finished} == stamps


@pytest.mark.usefixtures("small_parts")
def test_reader_that_fails_half_way_goes_on(tmp_path):
    made = source("text", 10)

    def broken(start):
        for record in made.records(start):
            if record.id == "row 6":
                raise DataError("the dump ends here")
            yield record

    with pytest.raises(DataError, match="the dump ends here"):
        prepare({"text": Source("text", broken, made.about)}, to=tmp_path / "a")
    asked = []

    def resumed(start):
        asked.append(start)
        return made.records(start)

    prepare({"text": Source("text", resumed, made.about)}, to=tmp_path / "a")
    prepare({"text": made}, to=tmp_path / "b")
    assert asked == [4]
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_same_call_again_reads_and_writes_nothing(tmp_path):
    made = source("text", 5)
    prepare({"text": made}, to=tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}

    def never(start):
        raise AssertionError("read again")

    again = prepare({"text": Source("text", never, made.about)}, to=tmp_path)
    assert len(again["text"]) == 5
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_another_source_in_the_same_folder_is_refused(tmp_path):
    raw = tmp_path / "raw.txt"
    raw.write_text("one")
    prepare({"text": source("text", 5, files=(raw,))}, to=tmp_path / "out")
    others = [source("text", 6, files=(raw,)), source("text", 5, files=(raw,), licence="CC0"), source("point", 5)]
    for other in others:
        with pytest.raises(DataError, match="'text' prepared from another source"):
            prepare({"text": other}, to=tmp_path / "out")
    raw.write_text("two")
    with pytest.raises(DataError, match="another source"):
        prepare({"text": source("text", 5, files=(raw,))}, to=tmp_path / "out")


def test_a_moved_but_equal_file_is_the_same_source(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("same")
    prepare({"text": source("text", 5, files=(tmp_path / "a.txt",))}, to=tmp_path / "out")
    assert len(prepare({"text": source("text", 5, files=(tmp_path / "b.txt",))}, to=tmp_path / "out")["text"]) == 5


def test_more_modalities_join_the_folder(tmp_path):
    prepare({"text": source("text", 5)}, to=tmp_path)
    both = prepare({"image": source("image", 6)}, to=tmp_path)
    assert {name: len(table) for name, table in both.tables.items()} == {"text": 5, "image": 6}


def test_no_rows_is_an_error_that_says_why(tmp_path):
    with pytest.raises(DataError, match=r"'text' has 0 rows \(2 even, 1 odd\)"):
        prepare({"text": source("text", 3, skips=(0, 1, 2))}, to=tmp_path / "a")
    with pytest.raises(DataError, match=r"'text' has 0 rows \(the source is empty\)"):
        prepare({"text": source("text", 0)}, to=tmp_path / "b")
    table = open_dataset(tmp_path / "a")["text"]
    assert table.lonlat.shape == (0, 2)
    with pytest.raises(DataError, match=r"'text' in .* has 0 rows"):
        table.parts()


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_part_is_named_and_never_read(damage, tmp_path):
    prepare({"text": source("text", 5)}, to=tmp_path)
    part = tmp_path / "text" / "part-00000.parquet"
    raw = bytearray(part.read_bytes())
    raw[len(raw) // 2] ^= 1
    if damage == "remove":
        part.unlink()
    else:
        part.write_bytes(raw if damage == "flip" else raw[:-7])
    table = open_dataset(tmp_path)["text"]
    for read in (lambda: table.lonlat, lambda: table.ids, lambda: list(table.all_contents())):
        with pytest.raises(CacheError, match=r"part-00000.parquet is missing or damaged. Delete"):
            read()


def test_damaged_manifest_is_named_wherever_it_is_damaged(tmp_path):
    made = source("text", 5, skips=(1,))
    prepare({"text": made}, to=tmp_path)
    path = tmp_path / "text" / "manifest.json"
    whole = path.read_bytes()
    value = json.loads(whole)
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            if json.loads(damaged) == value:  # a blank became another blank
                continue
        except ValueError:
            pass
        if b'\n "blake2b"' not in damaged:  # the name of the seal itself: the content is untouched
            continue
        for act in (lambda: len(open_dataset(tmp_path)["text"]), lambda: prepare({"text": made}, to=tmp_path)):
            with pytest.raises(CacheError, match=r"manifest.json is damaged"):
                act()


def test_images_must_be_alike(tmp_path):
    def mixed(content):
        rows = [Row("a", 0, 0, np.zeros((2, 3, 4), np.uint16)), Row("b", 1, 1, content)]
        return Source("image", lambda start: iter(rows[start:]), {})

    with pytest.raises(DataError, match=r"expected \[2, 3, 4\] <u2, row 1 of 'sky' is \[2, 3, 5\] <u2"):
        prepare({"sky": mixed(np.zeros((2, 3, 5), np.uint16))}, to=tmp_path / "a")
    with pytest.raises(DataError, match=r"row 1 of 'sky' is \[2, 3, 4\] \|u1"):
        prepare({"sky": mixed(np.zeros((2, 3, 4), np.uint8))}, to=tmp_path / "b")


@pytest.mark.usefixtures("small_parts")
def test_images_must_be_alike_across_parts_and_after_a_kill(tmp_path):
    def stream(start):
        for i in range(start, 6):
            yield Row(str(i), 0, 0, np.zeros((1, 2, 3 if i == 5 else 2)))

    for _ in range(2):
        with pytest.raises(DataError, match=r"row 5 of 'sky' is \[1, 2, 3\] <f8"):
            prepare({"sky": Source("image", stream, {})}, to=tmp_path)
    assert json.loads((tmp_path / "sky" / "manifest.json").read_text())["rows"] == 4


def test_images_in_other_memory_orders_keep_their_pixels(tmp_path):
    pixels = np.arange(24, dtype=">i2").reshape(4, 3, 2).transpose(2, 1, 0)
    made = Source("image", lambda start: iter([Row("a", 0, 0, pixels)][start:]), {})
    found = next(prepare({"sky": made}, to=tmp_path)["sky"].all_contents())
    np.testing.assert_array_equal(found, pixels)


def test_impossible_coordinates_from_a_reader_are_refused(tmp_path):
    made = Source("point", lambda start: iter([Row("a", 0, 0, None), Row("b", 0, 95, None)][start:]), {})
    with pytest.raises(CoordinateError, match="spots, part 0, row 1 has lat=95"):
        prepare({"spots": made}, to=tmp_path)


@pytest.mark.parametrize("name", ["two words", "../up", "", "a.b"])
def test_names_of_modalities_are_plain_words(name, tmp_path):
    with pytest.raises(SettingError, match="plain word"):
        prepare({name: source()}, to=tmp_path)


def test_a_folder_without_data_is_named(tmp_path):
    with pytest.raises(DataError, match=r"holds no prepared data .*graticule prepare"):
        open_dataset(tmp_path)


def test_head_is_a_look_without_preparing():
    assert [row.id for row in head(source("text", 10, skips=(0,)), 3)] == ["row 1", "row 2", "row 3"]
