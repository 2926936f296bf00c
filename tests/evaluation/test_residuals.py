"""Where an embedding errs: planted regional and scattered errors."""

import json
from dataclasses import replace

import numpy as np
import pytest

from graticule.evaluation.outcomes import Answers, Outcome
from graticule.evaluation.residuals import LEAST_CELLS, plain, residuals
from graticule.evaluation.splits import block_split, random_split
from graticule.evaluation.tasks import Task
from graticule.geo.coords import great_circle_km, lonlat, offset_km, uniform_places

CENTRE = lonlat(lon=[25.0], lat=[10.0])
ROWS = 400


def asked(wrong, kind="regression", split=random_split, **folds):
    """An outcome that errs at (n,) places where `wrong(points)` says so, and the folds."""
    points, rng = uniform_places(ROWS, seed=1), np.random.default_rng(2)
    classes = ("a", "b", "c") if kind == "classification" else ()
    label = rng.integers(0, 3, ROWS) if classes else rng.normal(size=ROWS)
    task = Task("planted", points, label, kind, classes, folds=folds)
    pairs = split(task)
    row = np.concatenate([test for _, test in pairs])
    fold = np.repeat(np.arange(len(pairs)), [len(test) for _, test in pairs])
    there = wrong(points[row])
    said = np.where(there, (label[row] + 1) % 3, label[row]) if classes else label[row] + 2.0 * there
    answers = Answers(row, fold, said, np.array([len(train) for train, _ in pairs]))
    return Outcome("e", "ridge", "random", task, answers), pairs


def near(points):
    return great_circle_km(points, CENTRE[0]) < 3500


def scattered(points):
    return np.random.default_rng(5).random(len(points)) < near(points).mean()


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("split", [random_split, block_split])
def test_a_regional_error_is_told_from_a_scattered_one(kind, split):
    regional = residuals(*asked(near, kind, split))
    assert regional.moran.i > 0.5
    assert regional.moran.z > 10
    assert regional.moran.p_value < 1e-6
    elsewhere = residuals(*asked(scattered, kind, split))
    assert abs(elsewhere.moran.i) < 0.12
    assert abs(elsewhere.moran.z) < 3.5


def test_the_grid_of_errors_shows_the_region():
    outcome, folds = asked(near, split=block_split)
    found = residuals(outcome, folds)
    away = great_circle_km(found.cells, CENTRE[0])
    assert found.cells.shape == (len(found.loss), 2)
    assert (away < 3000).sum() > 5
    np.testing.assert_allclose(found.loss[away < 3000], 4 / np.var(outcome.task.label))
    np.testing.assert_array_equal(found.loss[away > 4000], 0)


def test_cells_are_smaller_where_a_task_is_local():
    points = offset_km(CENTRE, *np.random.default_rng(0).uniform(-400, 400, (2, ROWS)))[0]
    task = Task("local", points, np.arange(ROWS) % 7.0, "regression")
    folds = random_split(task)
    test = folds[0][1]
    said = Answers(test, np.zeros(len(test), int), np.zeros(len(test)), np.array([240]))
    found = residuals(Outcome("e", "ridge", "random", task, said), folds)
    assert LEAST_CELLS <= len(found.cells) <= len(test)
    assert great_circle_km(found.cells, CENTRE[0]).max() < 700


def test_skill_by_continent_and_distance_in_numbers():
    outcome, folds = asked(near)
    east = np.where(outcome.task.points[:, 0] > 0, 0, 1)
    outcome = replace(outcome, task=replace(outcome.task, folds={"continent": east}))
    found = residuals(outcome, folds, {"photo": CENTRE, "text": uniform_places(50, seed=3)})
    region = found.bias.region
    row = outcome.answers.row
    for name, rows, skill in zip(region.names, region.rows, region.skill, strict=True):
        own = east[row] == int(name)
        assert rows == own.sum()
        assert skill == pytest.approx(1 - outcome.loss[own].mean())
    assert region.gap == pytest.approx(abs(region.skill[0] - region.skill[1]))
    assert set(found.by_pretraining) == {"photo", "text"}
    skill = found.by_pretraining["photo"].skill  # bins of distance from the middle of the region
    assert (skill[0], skill[-1]) == (pytest.approx(skill.min()), 1)
    assert found.by_label.rows.sum() == found.by_pretraining["photo"].rows.sum() == len(row)
    assert found.bias.density.rows.sum() == len(row)


def test_json_holds_none_where_a_number_is_not_defined():
    found = residuals(*asked(lambda points: np.zeros(len(points), bool)))  # no error, no continent
    assert np.isnan(found.moran.i)
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["moran"]["i"] is None
    assert written["bias"]["region"] == {
        "names": [], "rows": [], "skill": [], "gap": None, "deviation": None, "outside": 160,
    }  # fmt: skip
    assert written["by_label"]["skill"] == [1.0] * 8
    assert np.shape(written["cells"]) == (len(written["loss"]), 2)
    assert written["by_pretraining"] == {}


def test_plain_takes_every_type_that_numbers_come_in():
    value = {
        "array": np.array([[1.0, np.nan], [np.inf, -2.5]]),
        "whole": np.int64(3),
        "flag": np.bool_(True),
        "single": np.float32("nan"),
        "tuple": (1, np.float64(2.5), None, "word"),
        5: {"empty": np.empty((0, 2)), "truth": np.array([True, False])},
    }
    assert plain(value) == {
        "array": [[1.0, None], [None, -2.5]], "whole": 3, "flag": True, "single": None,
        "tuple": [1, 2.5, None, "word"], "5": {"empty": [], "truth": [True, False]},
    }  # fmt: skip
    json.dumps(plain(value), allow_nan=False)
