"""From a table of places through `embed`, `index` and `nearest`, as a user goes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

import graticule
from graticule.errors import DataError
from graticule.geo.coords import uniform_places
from graticule.index import array_rows, build_index, open_index, table_rows
from graticule.index.build import MANIFEST


@pytest.fixture
def spots(tmp_path):
    places = uniform_places(200, seed=8).tolist()
    lines = [f"spot {i},{x!r},{y!r}" for i, (x, y) in enumerate(places)]
    path = tmp_path / "spots.csv"
    path.write_text("\n".join(["name,lon,lat", *lines]))
    return path


@pytest.fixture
def shared(run, spots, command, tmp_path):
    """An index of the vectors in the shared space, and the table that it is of."""
    vectors, out = tmp_path / "shared.parquet", tmp_path / "shared.index"
    assert command("embed", spots, "-o", vectors, "--model", run.folder, "--space", "shared", "-q")[0] == 0
    assert command("index", vectors, "-o", out, "-q") == (0, f"{out}: 200 rows\n", "")
    return out, vectors


@pytest.mark.parametrize("asked", [("--lon=11.5", "--lat=48.1"), ("--text", "dry desert")])
@pytest.mark.parametrize("apart", ["0", "2500"])
def test_an_index_answers_as_the_table_does(run, spots, shared, command, asked, apart):
    common = ("nearest", run.folder, *asked, "-k", "4", "--apart-km", apart)
    by_table, by_index = (command(*common, *more) for more in (("--places", spots), ("--index", shared[0])))
    assert by_table[0] == by_index[0] == 0, by_index[2]
    lines = [[line.split() for line in out.splitlines()] for out in (by_table[1], by_index[1])]
    assert [line[1:] for line in lines[1]] == [line[1:] for line in lines[0]]
    for ours, theirs in zip(*lines, strict=True):
        assert abs(float(ours[0]) - float(theirs[0])) < 0.0015  # the last digit that is shown
    assert by_index[1].count("spot") == 4


@pytest.mark.parametrize("int8", [(), ("--int8",)])
def test_own_vectors_answer_places_alone(run, spots, command, refused, tmp_path, int8):
    vectors, out = tmp_path / "own.parquet", tmp_path / "own.index"
    assert command("embed", spots, "-o", vectors, "--model", run.folder, "-q", *int8)[0] == 0
    assert command("index", vectors, "-o", out, "--connectivity", "8", "--expansion", "32", "-q")[0] == 0
    lon, lat = uniform_places(200, seed=8)[7]
    code, said, err = command("nearest", run.folder, "--index", out, f"--lon={lon}", f"--lat={lat}", "-k", "1")
    assert (code, err) == (0, "")
    assert said.endswith("spot 7\n")


def test_words_have_no_place_among_own_vectors(run):
    import dataclasses

    import torch

    from graticule.encoders.networks import TorchNetworks
    from graticule.errors import SettingError
    from graticule.nearest import question

    own = graticule.load(run.folder)
    shared = torch.nn.Linear(run.dim, 5)
    apart = dataclasses.replace(own, networks=TorchNetworks(own.location, own.towers, shared))
    with pytest.raises(SettingError, match="by `graticule embed --space shared`"):
        question(apart, text="harbour", space="own")
    assert question(apart, lon=1, lat=2, space="own").shape == (run.dim,)
    assert question(apart, lon=1, lat=2).shape == (5,)
    assert question(run, text="harbour", space="own").shape == (run.dim,)


def test_embed_says_in_which_space(run, spots, shared, refused, tmp_path):
    from graticule.data.vectors import VectorTable

    assert VectorTable(shared[1]).emb["space"] == "shared"
    points = uniform_places(200, seed=8)
    _, found = next(VectorTable(shared[1]).batches())
    np.testing.assert_allclose(found, run.share(run.embed_points(points)), atol=1e-6)
    said = refused("embed", spots, "-o", tmp_path / "x.parquet", "--model", run.folder, "--space", "shraed")
    assert "Unknown space 'shraed'. Did you mean 'shared'" in said


def test_another_model_is_refused(run, shared, refused):
    said = refused("nearest", "--index", shared[0], "--lon", "1", "--lat", "2")
    assert "holds vectors of the model 'small'" in said
    assert "they cannot be compared. Name the run that made them" in said


def test_vectors_of_no_model_are_refused(run, tmp_path):
    points = uniform_places(20, seed=1)
    index = open_index(build_index(array_rows(points, run.embed_points(points)), tmp_path / "x"))
    with pytest.raises(DataError, match="do not say which model made them"):
        index.fitting(run)
    of = {"model": run.about["name"], "model_hash": run.about["weights"]}
    index = open_index(build_index(array_rows(points, run.embed_points(points), **of), tmp_path / "y"))
    assert index.fitting(run) is run
    assert index.nearest(run.embed_points(points[4:5])[0], 1)[0].name == "row 4"


def test_other_answers_than_places_are_refused(run, shared, refused):
    said = refused("nearest", run.folder, "--index", shared[0], "--text", "a", "--answer", "image")
    assert "An index answers with places" in said


def test_the_table_may_move_but_not_change(run, shared, command, refused, tmp_path):
    out, vectors = shared
    asked = ("nearest", run.folder, "--index", out, "--text", "a", "-k", "2")
    expected = command(*asked)[1]
    away = tmp_path / "away" / "v.parquet"
    away.parent.mkdir()
    shutil.copyfile(vectors, away)
    whole = vectors.read_bytes()
    vectors.unlink()
    assert "is not there any more: say where it is by --places" in refused(*asked)
    assert command(*asked, "--places", away)[:2] == (0, expected)
    vectors.write_bytes(whole)
    assert command(*asked)[:2] == (0, expected)
    table = pq.read_table(vectors)
    pq.write_table(table.take(np.arange(200)[::-1].copy()), vectors)
    assert "is not what it was when" in refused(*asked)
    moved = tmp_path / "both"
    moved.mkdir()
    shutil.copytree(out, moved / out.name)
    (moved / vectors.name).write_bytes(whole)
    vectors.unlink()
    assert command("nearest", run.folder, "--index", moved / out.name, "--text", "a", "-k", "2")[:2] == (0, expected)


def test_tables_without_vectors_are_refused(spots, refused, tmp_path):
    assert "is no Parquet file of vectors: write one by `graticule embed`" in refused(
        "index", spots, "-o", tmp_path / "x.index"
    )
    assert "does not exist" in refused("index", tmp_path / "none.parquet", "-o", tmp_path / "x.index")


def test_a_folder_of_files(run, shared, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for name in ("0.parquet", "1.parquet"):
        shutil.copyfile(shared[1], folder / name)
    index = open_index(build_index(table_rows(folder), tmp_path / "two"))
    assert len(index) == 400
    asked = run.share(run.embed_points(uniform_places(200, seed=8)[3:4]))[0]
    assert index.search(asked, 2)[0].tolist() == [3, 203]
    assert [found.name for found in index.nearest(asked, 2)] == ["spot 3"] * 2


BUILD = """
import sys
from pathlib import Path
import graticule.index.build as build
build.build_index(build.table_rows(Path(sys.argv[1])), sys.argv[2], graph_rows=1000, threads=1)
"""


def test_kill_9_then_the_same_command_again(run, tmp_path):
    points = uniform_places(15_000, seed=1)
    vectors = tmp_path / "v.parquet"
    run.save(vectors, lon=points[:, 0], lat=points[:, 1])
    out = tmp_path / "torn"
    home = os.path.dirname(os.path.dirname(graticule.__file__))
    command = [sys.executable, "-c", BUILD, str(vectors), str(out)]
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": home})
    until = time.monotonic() + 60
    while not (out / MANIFEST).exists():
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    with pytest.raises(DataError, match="unfinished"):
        open_index(out)
    index = open_index(build_index(table_rows(vectors), out, graph_rows=1000))
    assert len(index) == sum(map(len, index.graphs)) == 15_000
    np.testing.assert_array_equal(index.lonlat, points)
    whole = open_index(build_index(table_rows(vectors), tmp_path / "whole"))
    np.testing.assert_array_equal(index.rows, whole.rows)
