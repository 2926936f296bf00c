"""The whole examination and its report."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from graticule.errors import DataError, SettingError
from graticule.evaluation.baselines import BASELINES
from graticule.evaluation.examine import evaluate, evaluate_vectors
from graticule.evaluation.report import Report
from graticule.evaluation.splits import SPLITS, few_shot_split
from graticule.evaluation.tasks import MAIN, Task, load_tasks
from graticule.geo.coords import uniform_places, unit_sphere


def waves(points, seed=0):
    rng = np.random.default_rng(seed)
    return np.cos(unit_sphere(points) @ rng.normal(size=(3, 40)) * 2 + rng.uniform(0, 6, 40)).astype(np.float32)


def planted_tasks(n=400):
    """A regression and a classification that are linear functions of `waves`, under names of the main list."""
    points, rng = uniform_places(n, seed=3), np.random.default_rng(1)
    field = waves(points) @ rng.normal(size=(40, 4))
    kind = field[:, :3].argmax(1)
    return [
        Task("soil_ph", points, field[:, 3], "regression"),
        Task("biome", points, kind, "classification", ("a", "b", "c")),
    ]


def test_a_planted_truth_is_found_and_shuffled_places_are_not():
    def shuffled(points):
        return waves(np.random.default_rng(0).permutation(points))

    report = evaluate({"true": waves, "shuffled": shuffled}, planted_tasks())
    assert report.names == [*BASELINES, "true", "shuffled"]
    for split in ("random", "blocks"):
        assert report.score("true", "soil_ph", split) > 0.99
        assert report.score("true", "biome", split) > 0.8
        assert report.score("shuffled", "soil_ph", split) < 0.1
        assert report.score("shuffled", "biome", split) < report.score("mean or majority", "biome", split) + 0.1
        gap, low, high = report.difference("true", "shuffled", split)
        assert 0.3 < low <= gap <= high
    assert report.score("kNN-5", "soil_ph", "random") > report.score("kNN-5", "soil_ph", "blocks")


def test_rows_hold_what_they_promise_and_come_out_the_same_again():
    first, again = (evaluate(waves, planted_tasks(), baselines=False) for _ in range(2))
    assert first.rows == again.rows
    assert str(first) == str(again)
    assert len(first.rows) == 2 * (1 + 5)
    names = ["task", "kind", "embedding", "split", "fold", "probe", "metric", "value", "n_train", "n_test"]
    assert list(first.rows[0]) == names
    assert {row["metric"] for row in first.rows} == {"r2", "accuracy"}
    assert all(row["n_train"] + row["n_test"] == 400 for row in first.rows)


def test_probes_splits_and_row_limit():
    report = evaluate(
        waves, planted_tasks(), split="few", probes=("ridge", "logistic", "knn"), baselines=False, max_rows=200
    )
    assert report.names == ["embedding (ridge)", "embedding (knn)", "embedding (logistic)"]
    assert np.isnan(report.group_mean("embedding (logistic)", "main regression", "few"))
    assert {row["n_test"] for row in report.rows} == {80}
    with pytest.raises(SettingError, match="different tasks: 2 and 1"):
        report.difference("embedding (ridge)", "embedding (logistic)", "few")
    own = evaluate(waves, planted_tasks(), split={"ten": lambda task: few_shot_split(task, rows=10)}, baselines=False)
    assert own.splits == ["ten"]
    assert {row["n_train"] for row in own.rows} == {10}


def test_vectors_made_beforehand_give_the_same_rows():
    tasks = planted_tasks()
    rows = evaluate_vectors({task.name: waves(task.points) for task in tasks}, tasks, {"random": SPLITS["random"]})
    assert rows == evaluate(waves, tasks, split="random", baselines=False).rows
    with pytest.raises(DataError, match="missing for the tasks biome"):
        evaluate_vectors({"soil_ph": waves(tasks[0].points)}, tasks, {"random": SPLITS["random"]})


@pytest.mark.parametrize(
    ("embed", "words"),
    [
        (lambda p: waves(p)[:-1], r"\(400, d\) vectors for task soil_ph, got shape \(399, 40\)"),
        (lambda p: np.zeros(len(p)), r"got shape \(400,\)"),
        (lambda p: np.where(p == p[7], np.nan, p), "NaN or infinite vectors for 1 rows of soil_ph, first at row 7"),
        (lambda p: p.astype(str), "real numbers"),
    ],
)
def test_bad_vectors_are_refused(embed, words):
    with pytest.raises(DataError, match=words):
        evaluate({"mine": embed}, planted_tasks(), baselines=False)


def test_bad_settings_are_refused():
    tasks = planted_tasks(50)
    for wrong, words in (
        ({"split": "block"}, "Did you mean 'blocks'"),
        ({"probes": ("rigde",)}, "ridge"),
        ({"probes": ()}, "At least"),
    ):
        with pytest.raises(SettingError, match=words):
            evaluate(waves, tasks, **wrong)
    with pytest.raises(SettingError, match="At least one task"):
        evaluate(waves, [])
    with pytest.raises(SettingError, match="different names"):
        evaluate(waves, [tasks[0], tasks[0]])


def row(embedding, task, kind, split, fold, value):
    return {
        "task": task, "kind": kind, "embedding": embedding, "split": split, "fold": fold, "probe": "ridge",
        "metric": "r2", "value": value, "n_train": 1, "n_test": 1,
    }  # fmt: skip


def test_summary_by_hand(tmp_path):
    report = Report(
        [
            *(row("e", "soil_ph", "regression", "blocks", k, v) for k, v in enumerate([0.5, -0.1, 0.2])),
            *(row("e", "sunshine", "regression", "blocks", k, v) for k, v in enumerate([-9.0, 0.6])),
            *(row("e", "biome", "classification", "blocks", k, v) for k, v in enumerate([0.4, 0.8])),
            row("e", "my own", "regression", "blocks", 0, 0.9),
        ]
    )
    assert report.groups == ["main regression", "main classification", "other regression"]
    assert report.score("e", "soil_ph", "blocks") == pytest.approx(0.2)
    assert report.score("e", "sunshine", "blocks") == 0
    assert report.group_mean("e", "main regression", "blocks") == pytest.approx(0.1)
    assert report.mean("e", "blocks") == pytest.approx((0.1 + 0.6 + 0.9) / 3)
    low, high = report.interval("e", "blocks")
    assert low < report.mean("e", "blocks") < high
    header, body = str(report).splitlines()[0], report.to_markdown().splitlines()[-1]
    assert header.startswith("embedding")
    assert body.startswith("| e | .100 | .600 | .900 | .533 [")
    report.to_json(tmp_path / "r.json")
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["rows"] == report.rows
    assert written["summary"]["e"]["blocks"]["tasks"]["sunshine"] == 0
    report.to_parquet(tmp_path / "r.parquet")
    assert parquet.read_table(tmp_path / "r.parquet").to_pylist() == report.rows
    with pytest.raises(SettingError, match="Unknown embedding 'f'"):
        report.score("f", "soil_ph", "blocks")
    with pytest.raises(SettingError, match="Unknown split 'random'"):
        report.mean("e", "random")
    with pytest.raises(SettingError, match="no result for task 'ndvi'"):
        report.score("e", "ndvi", "blocks")


def test_lines_of_the_text_table_are_aligned():
    lines = str(evaluate(waves, planted_tasks(100), split="random")).splitlines()
    assert len({len(line) for line in lines[3:]}) == 1
    assert any(line.startswith("kNN-5 ") for line in lines)


def test_interpolation_meets_the_published_figures():
    root = os.environ.get("GRATICULE_DATA")
    if not root or not (Path(root) / "tasks").is_dir():
        pytest.skip("GRATICULE_DATA names no folder with tasks")
    report = evaluate({}, load_tasks(Path(root) / "tasks", MAIN))
    published = {
        "kNN-5": (0.727, 0.495, 0.788, 0.631),
        "harmonics L=10": (0.610, 0.457, 0.678, 0.594),
    }
    for name, expected in published.items():
        groups = ("main regression", "main classification")
        found = [report.group_mean(name, group, split) for group in groups for split in ("random", "blocks")]
        np.testing.assert_allclose(found, expected, atol=0.012)
