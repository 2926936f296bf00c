"""Does the examiner tell truth from noise: planted labels, random vectors, shuffled places, leaks, codes of cells."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from graticule.evaluation.examine import evaluate
from graticule.evaluation.tasks import Task, load_tasks
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import offset_km, uniform_places, unit_sphere
from tests.evaluation.planted import planted_tasks, waves

CELL_KM = 50


def cell_code(points, numbers=512):
    """A random code for each cell of 50 km: knows every place and nothing about it."""
    cells, row = np.unique(equal_area_cells(points, CELL_KM), return_inverse=True)
    return np.stack([np.random.default_rng(cell).normal(size=numbers) for cell in cells])[row]


def noise(points):
    return np.random.default_rng(0).normal(size=(len(points), 64))


def shuffled(points):
    return waves(np.random.default_rng(1).permutation(points))


def clustered(clusters=500, each=10, seed=0):
    """Towns with some places each, within a few km."""
    rng = np.random.default_rng(seed)
    east, north = rng.normal(0, 2, (2, each))
    return offset_km(uniform_places(clusters, seed=seed), east, north).reshape(-1, 2)


def test_planted_labels_are_found_and_noise_is_not():
    report = evaluate(
        {"true": waves, "noise": noise, "shuffled": shuffled}, planted_tasks(1000), probes=("ridge", "knn")
    )
    for split in ("random", "blocks"):
        for probe in ("ridge", "knn"):
            assert report.score(f"true ({probe})", "soil_ph", split) > 0.85
            for nothing in ("noise", "shuffled"):
                assert report.score(f"{nothing} ({probe})", "soil_ph", split) < 0.05
                majority = report.score("mean or majority", "biome", split)
                assert report.score(f"{nothing} ({probe})", "biome", split) < majority + 0.08
        (soil, biome) = report.compare("true (ridge)", "noise (ridge)", split)
        assert soil.low > 0.5
        assert soil.adjusted < 0.01
        assert biome.adjusted < 0.01


def test_a_code_of_cells_wins_at_random_and_loses_under_blocks():
    """What random folds reward: labels are a broad gradient and a value of each town's own."""
    points = clustered()
    towns = np.random.default_rng(3).normal(size=500).repeat(10)
    broad = unit_sphere(points) @ [1.0, -0.5, 2.0]
    label = broad / broad.std() + towns + 0.2 * np.random.default_rng(4).normal(size=len(points))
    report = evaluate({"code": cell_code}, [Task("planted", points, label, "regression")])
    gain = {s: report.score("code", "planted", s) - report.score("harmonics L=10", "planted", s) for s in report.splits}
    assert gain["random"] > 0.05
    assert gain["blocks"] < -0.05


def test_a_leaking_split_is_exposed():
    """Every place is there twice, under labels that nothing can predict: copying is all that random folds reward."""
    places = uniform_places(600, seed=7)
    points = np.concatenate([places, places])
    label = np.tile(np.random.default_rng(8).normal(size=600), 2)
    report = evaluate(waves, [Task("doubled", points, label, "regression")], probes="knn")
    assert report.score("kNN-5", "doubled", "random") > 0.3
    assert report.score("kNN-5", "doubled", "blocks") < 0.05
    assert report.leaks["doubled", "random"].score > 0.4
    assert report.leaks["doubled", "random"].same_place > 200
    assert re.search(r"Leaking splits:\ndoubled \(random\): .* leak score 0\.[4-9]", str(report))
    assert "doubled (blocks)" not in str(report)
    assert report.leaks["doubled", "blocks"].score == 0
    assert report.leaks["doubled", "blocks"].same_place == 0


def test_a_code_of_cells_on_real_houses():
    root = os.environ.get("GRATICULE_DATA")
    if not root or not (Path(root) / "tasks").is_dir():
        pytest.skip("GRATICULE_DATA names no folder with tasks")
    houses = load_tasks(Path(root) / "tasks", ["california_housing"])
    report = evaluate({"code": cell_code}, houses, split=("random", "cells"))
    code, harmonics = (
        [report.score(n, "california_housing", s) for s in report.splits] for n in ("code", "harmonics L=10")
    )
    assert code[0] > harmonics[0] + 0.05
    assert code[1] < 0.02
