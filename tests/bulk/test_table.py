"""Tables as shards: every row once, in its order, whatever is killed or damaged on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from graticule.bulk import embed_table, job, shard, table
from graticule.bulk.layout import lay_out
from graticule.errors import CacheError, CoordinateError, DataError, SettingError
from graticule.geo.coords import lonlat, uniform_places
from graticule.geo.geoparquet import table_vectors
from graticule.geo.hilbert import hilbert_keys
from tests.small_run import DIM

ROWS = 1000


@pytest.fixture(scope="module")
def places():
    """Uniform, and with both poles, the seam from both sides, and duplicates."""
    corners = lonlat(lon=[0, 77, -180, 180, 179.999], lat=[90, -90, 10, 10, 10])
    some = uniform_places(ROWS - 105, seed=4)
    return np.concatenate([some[:500], corners, np.repeat(some[7:8], 100, axis=0), some[500:]])


@pytest.fixture
def source(places, tmp_path):
    """A Parquet table of row groups of 90 rows."""
    path = tmp_path / "in.parquet"
    columns = {"id": np.arange(ROWS), "lon": places[:, 0], "lat": places[:, 1], "name": [f"n{i}" for i in range(ROWS)]}
    pq.write_table(pa.table(columns), path, row_group_size=90)
    return path


def manifest(folder):
    return json.loads((folder / "_manifest.json").read_text())


def shards(folder):
    return [pq.read_table(folder / entry["file"]) for entry in manifest(folder)["shards"]]


def digests(folder):
    return [(entry["file"], entry["rows"], entry["vectors"]) for entry in manifest(folder)["shards"]]


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def as_form(source, form, tmp_path):
    rows, path = pq.read_table(source), tmp_path / f"same.{form}"
    if form == "csv":
        pc.write_csv(rows, path)
    elif form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()))
    else:
        pq.write_table(rows, path, row_group_size=ROWS if form == "parquet" else 90)
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "geoparquet"])
def test_shards_hold_every_row_in_order(form, loaded, source, places, tmp_path):
    out = tmp_path / "out"
    assert embed_table(loaded, as_form(source, form, tmp_path), out, shard_rows=300) == ROWS
    rows = [270, 270, 270, 190] if form == "geoparquet" else [300, 300, 300, 100]  # whole row groups
    assert [entry["rows"] for entry in manifest(out)["shards"]] == rows
    whole = pa.concat_tables(shards(out))
    assert whole["id"].to_pylist() == list(range(ROWS))
    assert whole["name"].to_pylist() == [f"n{i}" for i in range(ROWS)]
    np.testing.assert_allclose(table_vectors(whole), loaded.embed_points(places), rtol=1e-4, atol=1e-5)
    assert sorted(p.name for p in out.iterdir()) == ["_manifest.json", *(f"part-0000{i}.parquet" for i in range(4))]
    assert len(geopandas.read_parquet(out)) == ROWS
    assert duckdb.sql(f"select count(distinct id) from '{out}/*.parquet'").fetchall() == [(ROWS,)]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_one_file_is_its_shards(form, loaded, source, tmp_path):
    path, out = as_form(source, form, tmp_path), tmp_path / "out.parquet"
    embed_table(loaded, path, tmp_path / "whole.parquet")
    assert embed_table(loaded, path, out, shard_rows=300) == ROWS
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "whole.parquet"), check_metadata=True)
    assert not list(tmp_path.glob("*.parts"))


def test_row_groups_are_of_a_hundred_thousand_rows(loaded, tmp_path):
    pq.write_table(pa.table({"lon": np.zeros(270_000), "lat": np.zeros(270_000)}), tmp_path / "in.parquet")
    embed_table(loaded, tmp_path / "in.parquet", tmp_path / "out.parquet", shard_rows=130_000, numbers="int8")
    file = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert [file.row_group(i).num_rows for i in range(file.num_row_groups)] == [100_000, 100_000, 70_000]
    assert file.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_hilbert_order_is_a_sorted_permutation_with_row_numbers(form, loaded, source, places, tmp_path):
    out = tmp_path / "out"
    assert embed_table(loaded, as_form(source, form, tmp_path), out, order="hilbert", shard_rows=300) == ROWS
    whole = pa.concat_tables(shards(out))
    expected = np.lexsort((np.arange(ROWS), hilbert_keys(places)))
    np.testing.assert_array_equal(whole["row"].to_numpy(), expected)
    np.testing.assert_array_equal(whole["id"].to_numpy(), expected)
    assert whole.column_names == ["id", "lon", "lat", "name", "row", "geometry", "bbox", "embedding"]
    np.testing.assert_allclose(table_vectors(whole), loaded.embed_points(places[expected]), rtol=1e-4, atol=1e-5)
    sizes = [entry["rows"] for entry in manifest(out)["shards"]]
    assert len(sizes) in (4, 5)
    assert max(sizes) <= 300
    for entry, part in zip(manifest(out)["shards"], shards(out), strict=True):
        here = np.c_[part["lon"].to_numpy(), part["lat"].to_numpy()]
        assert entry["box"] == [*here.min(axis=0), *here.max(axis=0)]
    assert not (out / "_rows").exists()


def test_hilbert_order_of_one_place_many_times(loaded, tmp_path):
    pq.write_table(pa.table({"lon": [5.0] * 70 + [6.0], "lat": [5.0] * 70 + [-6.0]}), tmp_path / "in.parquet")
    assert embed_table(loaded, tmp_path / "in.parquet", tmp_path / "out", order="hilbert", shard_rows=20) == 71
    rows = [part["row"].to_pylist() for part in shards(tmp_path / "out")]
    assert sorted(row for part in rows for row in part) == list(range(71))
    assert max(map(len, rows)) <= 20
    assert [row for part in rows for row in part if row < 70] == list(range(70))


def test_no_rows_and_one_row(loaded, tmp_path):
    for order in ("input", "hilbert"):
        for n in (0, 1):
            schema = pa.schema([("lon", pa.float64()), ("lat", pa.float64())])
            path = tmp_path / f"{order}{n}.parquet"
            pq.write_table(pa.Table.from_pylist([{"lon": 180.0, "lat": 90.0}] * n, schema=schema), path)
            assert embed_table(loaded, path, tmp_path / f"{order}{n}", order=order, workers=2) == n
            (part,) = shards(tmp_path / f"{order}{n}")
            assert part.column_names == [
                "lon",
                "lat",
                *(["row"] * (order == "hilbert")),
                "geometry",
                "bbox",
                "embedding",
            ]
            assert part.schema.field("embedding").type == pa.list_(pa.float32(), DIM)
            assert part["bbox"].to_pylist() == [{"xmin": -180.0, "ymin": 90.0, "xmax": -180.0, "ymax": 90.0}] * n


@pytest.mark.parametrize("numbers", ["float32", "float16", "int8"])
def test_numbers(numbers, loaded, source, places, tmp_path):
    embed_table(loaded, source, tmp_path / "out.parquet", numbers=numbers)
    whole = pq.read_table(tmp_path / "out.parquet")
    assert str(whole.schema.field("embedding").type.value_type) == {"float32": "float", "float16": "halffloat"}.get(
        numbers, numbers
    )
    vectors, exact = table_vectors(whole), loaded.embed_points(places)
    assert vectors.dtype == np.float32
    cosine = (vectors * exact).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > {"float32": 1 - 1e-6, "float16": 1 - 1e-6, "int8": 0.999}[numbers]
    assert len(geopandas.read_parquet(tmp_path / "out.parquet")["embedding"][0]) == DIM


def test_workers_write_the_same_shards(loaded, source, tmp_path):
    for workers in (1, 2):
        embed_table(loaded, source, tmp_path / f"{workers}", shard_rows=300, workers=workers, numbers="int8")
    assert digests(tmp_path / "1") == digests(tmp_path / "2")


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from graticule.bulk import curve, embed_table, job, layout, shard, staged, workers
from graticule.embed import load

when, source, out = sys.argv[1], Path(sys.argv[3]), Path(sys.argv[4])


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def dying(module, name, number):
    calls, real = [], getattr(module, name)

    def stand_in(*given, **named):
        calls.append(given)
        if len(calls) == number:
            die()
        return real(*given, **named)

    setattr(module, name, stand_in)


if when == "a worker" and __name__ != "__main__":
    real = workers.write_shard

    def write_shard(model, job, shard):
        time.sleep(0.5 if shard.file == "part-00002.parquet" else 0)
        return die() if shard.file == "part-00002.parquet" else real(model, job, shard)

    workers.write_shard = write_shard
if when == "parent of workers" and __name__ != "__main__":
    Path(out.with_suffix(f".{{os.getpid()}}.worker")).touch()

if __name__ == "__main__":
    options = dict(shard_rows=300, numbers="int8", order="hilbert" if when.startswith("hilbert") else "input")
    if when in ("staging", "hilbert staging"):
        dying(staged, "append", 3)
    elif when in ("writing a shard", "hilbert shard"):
        real_replace = Path.replace
        def replace(self, target):
            return die() if Path(target).name == "part-00002.parquet" else real_replace(self, target)
        Path.replace = replace
    elif when == "writing the manifest":
        dying(job, "write_json", 3)
    elif when == "parent of workers":
        dying(job, "write_json", 3)
    elif when == "joining":
        import graticule.bulk.table as table
        dying(table, "write_tables", 1)
    embed_table(load(sys.argv[2]), source, out, workers=2 if "worker" in when else 1, **options)
"""


def killed(when, loaded, source, out, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(path=[str(Path(table.__file__).parents[2])]))
    return subprocess.run(
        [sys.executable, script, when, loaded.folder, source, out], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("when", "form", "kept"),
    [
        ("staging", "csv", 0),
        ("writing a shard", "csv", 2),
        ("writing a shard", "geoparquet", 2),
        ("writing the manifest", "csv", 1),
        ("hilbert staging", "parquet", 0),
        ("hilbert shard", "parquet", 2),
        ("parent of workers", "parquet", 1),
    ],
)
def test_killed_and_resumed_is_the_same_as_never_killed(when, form, kept, loaded, source, tmp_path):
    path, out, whole = as_form(source, form, tmp_path), tmp_path / "out", tmp_path / "whole"
    options = {"shard_rows": 300, "numbers": "int8", "order": "hilbert" if when.startswith("hilbert") else "input"}
    embed_table(loaded, path, whole, **options)
    done = killed(when, loaded, path, out, tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for file in tmp_path.glob("*.worker"):
        gone_within(int(file.suffixes[-2][1:]), 10)
    finished = (
        [e["file"] for e in manifest(out)["shards"] if "vectors" in e] if (out / "_manifest.json").exists() else []
    )
    assert len(finished) == kept
    before = stamps(out)
    assert embed_table(loaded, path, out, **options) == ROWS
    assert {name: stamps(out)[name] for name in finished} == {name: before[name] for name in finished}
    assert digests(out) == digests(whole)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    assert all(a.equals(b) for a, b in zip(shards(out), shards(whole), strict=True))


def gone_within(process, seconds):
    until = time.monotonic() + seconds
    while psutil.pid_exists(process) and psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, f"process {process} outlives its parent"
        time.sleep(0.05)


def test_a_killed_worker_ends_the_job_with_one_sentence(loaded, source, tmp_path):
    done = killed("a worker", loaded, source, tmp_path / "out", tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "GraticuleError: A worker process was killed" in last
    assert "run the same command again to go on" in last
    assert embed_table(loaded, source, tmp_path / "out", shard_rows=300, numbers="int8") == ROWS
    embed_table(loaded, source, tmp_path / "whole", shard_rows=300, numbers="int8")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_killed_while_joining(loaded, source, tmp_path):
    out = tmp_path / "out.parquet"
    assert killed("joining", loaded, source, out, tmp_path).returncode == -signal.SIGKILL
    assert not out.exists()
    before = stamps(tmp_path / "out.parquet.parts")
    assert len(before) == 4
    assert embed_table(loaded, source, out, shard_rows=300, numbers="int8") == ROWS
    assert pq.read_table(out)["id"].to_pylist() == list(range(ROWS))
    assert not (tmp_path / "out.parquet.parts").exists()


def test_nothing_is_embedded_twice(loaded, source, tmp_path, monkeypatch):
    embed_table(loaded, source, tmp_path / "out", shard_rows=300)
    before = stamps(tmp_path / "out")
    monkeypatch.setattr(table, "write_shard", None)
    assert embed_table(loaded, source, tmp_path / "out", shard_rows=300) == ROWS
    assert stamps(tmp_path / "out") == before


@pytest.mark.parametrize("form", ["geoparquet", "csv"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "gone"])
def test_a_damaged_shard_is_embedded_again(harm, form, loaded, source, tmp_path, caplog):
    path, out = as_form(source, form, tmp_path), tmp_path / "out"
    embed_table(loaded, path, out, shard_rows=300)
    before, made = stamps(out), digests(out)
    bad = out / "part-00001.parquet"
    whole = bad.read_bytes()
    if harm == "gone":
        bad.unlink()
    else:
        bad.write_bytes(whole[:-100] if harm == "cut" else whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    assert embed_table(loaded, path, out, shard_rows=300) == ROWS
    assert "part-00001.parquet is missing or damaged: its rows are embedded again" in caplog.text
    assert bad.read_bytes() == whole
    assert digests(out) == made
    assert {name for name, stamp in stamps(out).items() if stamp != before[name]} == {"part-00001.parquet"}
    assert not (out / "_rows").exists()


def test_another_input_model_or_setting_is_refused(loaded, source, places, tmp_path):
    out = tmp_path / "out"
    embed_table(loaded, source, out, shard_rows=300)
    for options, words in (
        ({"numbers": "int8"}, "another kind of numbers: float32 there, int8 now"),
        ({"order": "hilbert"}, "another order of rows: input there, hilbert now"),
        ({"shard_rows": 400}, "another size of shards: 300 there, 400 now"),
    ):
        with pytest.raises(DataError, match=f"{words}. Delete it or choose another place"):
            embed_table(loaded, source, out, **{"shard_rows": 300, **options})
    pq.write_table(pa.table({"id": np.arange(ROWS), "lon": places[:, 0], "lat": places[:, 1]}), source)
    with pytest.raises(DataError, match=r"another input: in.parquet \(.* bytes, .*\) there, in.parquet"):
        embed_table(loaded, source, out, shard_rows=300)
    other = shutil.copytree(loaded.folder, tmp_path / "other")
    other_run = replace(loaded, folder=other, about=loaded.about | {"weights": "0" * 32})
    with pytest.raises(DataError, match="another model of that name"):
        embed_table(other_run, source, out, shard_rows=300)


def test_an_input_that_changes_meanwhile_is_refused(loaded, source, tmp_path, monkeypatch):
    def changing(model, job, one):
        os.utime(source, ns=(0, 0))
        return shard.write_shard(model, job, one)

    monkeypatch.setattr(table, "write_shard", changing)
    with pytest.raises(DataError, match=r"in.parquet was changed while it was embedded. Delete .*out"):
        embed_table(loaded, source, tmp_path / "out", shard_rows=300)


def test_a_model_trained_again_meanwhile_is_refused(loaded, source, tmp_path):
    asked = {"dimensions": DIM, "model_hash": "0" * 32, "precision": "float32"}
    with pytest.raises(CacheError, match="not the model this job began with"):
        shard.job_model(job.Job(tmp_path, asked, {}, str(loaded.folder)))


def test_files_of_others_are_not_touched(loaded, source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.parquet").touch()
    with pytest.raises(DataError, match=r"holds mine.parquet, which is of no such job"):
        embed_table(loaded, source, tmp_path / "out")


@pytest.mark.parametrize("form", ["geoparquet", "csv", "parquet"])
@pytest.mark.parametrize("order", ["input", "hilbert"])
def test_a_bad_row_is_refused_before_anything_is_embedded(form, order, loaded, source, tmp_path, monkeypatch):
    rows = pq.read_table(source)
    lat = rows["lat"].to_numpy().copy()
    lat[ROWS - 2] = 91
    pq.write_table(rows.set_column(2, "lat", pa.array(lat)), source)
    path = as_form(source, form, tmp_path)
    monkeypatch.setattr(table, "write_shard", None)
    with pytest.raises(CoordinateError, match=rf"same.{form}:{ROWS - 2} has .*lat=91"):
        embed_table(loaded, path, tmp_path / "out", order=order, shard_rows=300)
    assert not (tmp_path / "out").exists()


def test_a_column_that_hilbert_order_needs_is_refused(loaded, tmp_path):
    (tmp_path / "in.csv").write_text("lon,lat,row\n1,2,3\n")
    with pytest.raises(DataError, match="already has a column 'row'"):
        embed_table(loaded, tmp_path / "in.csv", tmp_path / "out", order="hilbert")
    assert embed_table(loaded, tmp_path / "in.csv", tmp_path / "out") == 1


def test_wrong_options(loaded, source, tmp_path):
    for options, words in (
        ({"order": "hilbrt"}, "Did you mean 'hilbert'"),
        ({"numbers": "int4"}, "Unknown kind of numbers 'int4'. Did you mean 'int8'"),
        ({"workers": 0}, "at least 1, got 0"),
        ({"shard_rows": 0}, "at least 1, got 1 and 0"),
    ):
        with pytest.raises(SettingError, match=words):
            embed_table(loaded, source, tmp_path / "out", **options)
    with pytest.raises(DataError, match=r"none.csv does not exist"):
        embed_table(loaded, tmp_path / "none.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layout_is_the_same_for_the_same_table(source, tmp_path):
    options = {"lon": None, "lat": None, "shard_rows": 300}
    for order in ("input", "hilbert"):
        first, again = (lay_out(source, tmp_path / "rows", order=order, **options) for _ in range(2))
        assert first == again


def test_by_command(loaded, source, command, refused, tmp_path):
    out = tmp_path / "out"
    given = (source, "-o", out, "--model", loaded.folder, "--shard-rows", 300, "--workers", 1)
    assert command("embed", "-q", *given, "--float16", "--order", "hilbert") == (0, f"{out}: {ROWS:,} rows\n", "")
    assert shards(out)[0].schema.field("embedding").type == pa.list_(pa.float16(), DIM)
    assert "another order of rows" in refused("embed", *given, "--float16")
    code, _, said = command("embed", *given, "--float16", "--int8")
    assert code == 2
    assert "not allowed with" in said
