"""Tables with several labels and a split of their own."""

import logging

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from graticule.errors import CoordinateError, DataError
from graticule.evaluation.coordbench import coordbench_columns, load_coordbench
from graticule.evaluation.splits import given_split


def table(n=12, **change):
    i = np.arange(n)
    columns = {
        "lon": i * 10.0 - 60,
        "lat": i * 1.0,
        "timestamp": pa.array(i * 86_400_000, pa.timestamp("ms")),
        "split": ["train"] * (n - 5) + ["val", "test", "test", None, "test"],
        "id": [f"p{k}" for k in i],
        "height": [*(i[:-2] * 1.5), None, -999.0],
        "biome": [None, *["wood", "steppe"] * (n // 2)][:n],
        "code": pa.array([None, *(i[1:] % 3)], pa.int64()),
    }
    return {name: column for name, column in (columns | change).items() if column is not None}


def write(path, **change):
    path.parent.mkdir(exist_ok=True)
    (parquet.write_table if path.suffix == ".parquet" else csv.write_csv)(pa.table(table(**change)), path)
    return path


@pytest.mark.parametrize("file", ["here/data.parquet", "here.csv"])
def test_every_label_column_is_a_task(tmp_path, file, caplog):
    path = write(tmp_path / file, **({"timestamp": None} if file.endswith("csv") else {}))
    assert coordbench_columns(path) == ["height", "biome", "code"]
    with caplog.at_level(logging.INFO):
        height = load_coordbench(path, "height", missing=-999)
    assert (height.name, height.kind, len(height)) == ("here-height", "regression", 10)
    np.testing.assert_array_equal(height.label, np.arange(10) * 1.5)
    np.testing.assert_array_equal(height.points[:, 0], np.arange(10) * 10.0 - 60)
    assert "2 of 12 rows have no height" in caplog.text
    assert ("timestamps are not used" in caplog.text) == file.endswith("parquet")
    ((train, test),) = given_split(height)
    assert (list(train), list(test)) == (list(range(8)), [8, 9])
    assert len(load_coordbench(path, "height")) == 11
    biome = load_coordbench(path, "biome")
    assert (biome.kind, biome.classes, len(biome)) == ("classification", ("steppe", "wood"), 11)
    np.testing.assert_array_equal(biome.folds["given"][-4:], [1, 1, -1, 1])
    code = load_coordbench(path, "code", kind="classification", missing=0)
    assert code.classes == ("1", "2")


def test_another_split_or_none(tmp_path):
    own = write(tmp_path / "a.parquet", extra_split=["Train", "Train", "TEST"] * 4)
    ((train, test),) = given_split(load_coordbench(own, "biome", split="extra_split"))
    assert len(train) == 7
    assert len(test) == 4
    for nothing in (None, pa.array([None] * 12, pa.string())):
        task = load_coordbench(write(tmp_path / "b.parquet", split=nothing), "biome")
        assert "given" not in task.folds
        with pytest.raises(DataError, match="b-biome brought no split"):
            given_split(task)
    with pytest.raises(DataError, match="expected a column extra_split of train, val and test"):
        load_coordbench(tmp_path / "b.parquet", "biome", split="extra_split")


@pytest.mark.parametrize(
    ("change", "label", "words"),
    [
        ({"lat": None}, "height", r"bad\.parquet: expected columns lon, lat, height; missing lat"),
        ({}, "depth", "missing depth"),
        ({"id": ["a", "b", "a", *"cdefghijk"]}, "height", r"bad\.parquet:row 2: id 'a' is also that of row 0; 1 of 12"),
        ({"split": ["train", "fold 3", *["test"] * 10]}, "height", r"row 1: column split must hold train, val or test"),
        ({"height": [2.0] * 11 + [None]}, "height", "column height is 2 in all 11 rows"),
        ({"height": pa.array([None] * 12, pa.float64())}, "height", "column height is empty in all 12 rows"),
        ({"biome": ["wood"] * 12}, "biome", "column biome is class 'wood' in all 12 rows"),
    ],
)
def test_bad_tables_name_the_file_and_the_row(tmp_path, change, label, words):
    path = write(tmp_path / "bad.parquet", **change)
    with pytest.raises(DataError, match=words):
        load_coordbench(path, label)


def test_text_as_numbers_and_impossible_places(tmp_path):
    with pytest.raises(
        DataError, match=r"t\.parquet:row 1: column biome of a regression must hold numbers, got 'wood'"
    ):
        load_coordbench(write(tmp_path / "t.parquet"), "biome", kind="regression")
    with pytest.raises(CoordinateError, match=r"c\.parquet:row 0"):
        load_coordbench(write(tmp_path / "c.parquet", lat=[113.0] * 12), "biome")
