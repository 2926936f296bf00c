"""The public `evaluate`: which tasks are meant, and by what name a run stands in the report."""

from pathlib import Path

import numpy as np
import pytest

from graticule.errors import SettingError
from graticule.evaluation.runs import evaluate
from graticule.evaluation.tasks import Task
from graticule.geo.coords import uniform_places
from tests.evaluation.folder import write_task


def own_task() -> Task:
    points = uniform_places(80, seed=1)
    return Task("warmth", points, np.cos(np.radians(points[:, 1])), "regression")


def test_a_task_of_ones_own(run):
    report = evaluate(run, [own_task()], split="random")
    assert {row["task"] for row in report.rows} == {"warmth"}
    assert run.about["name"] in report.names


def test_one_text_names_folder_and_tasks(run, tmp_path: Path):
    for name in ("warmth", "other"):
        write_task(tmp_path, name)
    assert {row["task"] for row in evaluate(run, str(tmp_path), split="random").rows} == {"warmth", "other"}
    assert {row["task"] for row in evaluate(run, f"{tmp_path}:warmth", split="random").rows} == {"warmth"}


@pytest.mark.parametrize("names", [["nope"], ["city_cuntry"]])
def test_an_unknown_task_is_refused_not_replaced(run, names):
    with pytest.raises(SettingError, match="Unknown task"):
        evaluate(run, names)
