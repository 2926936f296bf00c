"""The whole examination and its report."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from graticule.errors import DataError, SettingError
from graticule.evaluation.baselines import BASELINES
from graticule.evaluation.examine import evaluate
from graticule.evaluation.probes import PROBES
from graticule.evaluation.report import Report
from graticule.evaluation.splits import random_split
from graticule.evaluation.tasks import MAIN, Task, load_tasks
from tests.evaluation.planted import outcome, planted_tasks, waves


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
        waves, planted_tasks(), split="random", probes=("ridge", "logistic", "knn+place"), baselines=False, max_rows=200
    )
    assert report.names == ["embedding (ridge)", "embedding (knn+place)", "embedding (logistic)"]
    assert np.isnan(report.group_mean("embedding (logistic)", "main regression", "random"))
    assert {row["n_test"] for row in report.rows} == {80}
    with pytest.raises(SettingError, match="different tasks: 2 and 1"):
        report.difference("embedding (ridge)", "embedding (logistic)", "random")
    own = evaluate(waves, planted_tasks(), split={"again": random_split}, baselines=False)
    assert own.splits == ["again"]


def test_a_curve_of_few_labels_rises_and_stays_out_of_the_summary():
    report = evaluate(waves, planted_tasks(2000), split=("random", "few-shot"), baselines=False)
    curve = [report.score("embedding", "soil_ph", split) for split in report.curves]
    assert len(curve) == 7
    assert curve[0] < 0.5 < curve[-1]
    assert "few-shot" not in str(report)


def test_what_cannot_be_examined_is_listed_and_the_rest_goes_on():
    constant = Task("flat", planted_tasks()[0].points, np.ones(400), "regression")
    report = evaluate(waves, [*planted_tasks(), constant], split=("random", "continents"), baselines=False)
    assert set(report.tasks) == {"soil_ph", "biome"}
    assert [(f.task, f.where) for f in report.failures] == [
        ("soil_ph", "continents"), ("biome", "continents"), ("flat", "random"), ("flat", "continents"),
    ]  # fmt: skip
    assert "Not examined:" in str(report)
    assert all("flat" in f.reason or "continent" in f.reason for f in report.failures)
    with pytest.raises(DataError, match=r"Nothing could be examined: .*flat"):
        evaluate(waves, [constant], baselines=False)


def test_answers_are_kept_and_asked_once(tmp_path, monkeypatch):
    asked = []

    def counting(train, label, test, classes):
        asked.append(len(test))
        return np.full(len(test), label[0])

    monkeypatch.setitem(PROBES, "counting", counting)
    settings = {"probes": "counting", "split": ("random", "blocks"), "baselines": False, "cache": tmp_path}
    first = evaluate({"a": waves}, planted_tasks(), **settings)
    assert len(asked) == 2 * (1 + 5)
    again = evaluate({"renamed": waves}, planted_tasks(), **settings)
    assert len(asked) == 2 * (1 + 5)
    assert [r["value"] for r in again.rows] == [r["value"] for r in first.rows]
    evaluate({"other": lambda points: waves(points, seed=1)}, planted_tasks(), **settings)
    assert len(asked) == 4 * (1 + 5)
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == 4 * 2
    files[0].write_bytes(files[0].read_bytes()[:50])
    damaged = [
        failure
        for seed in (0, 1)
        for failure in evaluate({"a": lambda p, seed=seed: waves(p, seed)}, planted_tasks(), **settings).failures
    ]
    assert len(damaged) == 1
    assert f"{files[0]} is damaged" in damaged[0].reason


def test_several_processes_give_the_same(tmp_path):
    one, two = (evaluate(waves, planted_tasks(), baselines=False, workers=workers) for workers in (1, 2))
    assert one.rows == two.rows


def test_paired_comparison_and_ranking():
    def weak(points):
        return waves(points)[:, :4]

    report = evaluate({"strong": waves, "weak": weak}, planted_tasks(), split="random", baselines=False)
    for found in report.compare("strong", "weak", "random"):
        assert 0 < found.low <= found.difference <= found.high
        assert found.p_value <= found.adjusted < 0.05
    ranking = report.ranking("random")
    assert list(ranking.names) == ["strong", "weak"]
    assert list(ranking.mean_ranks) == [1, 2]


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


def test_summary_by_hand(tmp_path):
    report = Report(
        [
            outcome("e", "soil_ph", "regression", "blocks", [0.5, -0.1, 0.2]),
            outcome("e", "sunshine", "regression", "blocks", [-9.0, 0.6]),
            outcome("e", "biome", "classification", "blocks", [0.4, 0.8]),
            outcome("e", "my own", "regression", "blocks", [0.9]),
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
    report.write(tmp_path)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["scores"]["e"]["blocks"]["tasks"]["sunshine"]["score"] == 0
    assert parquet.read_table(tmp_path / "scores.parquet").to_pylist() == report.rows
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
