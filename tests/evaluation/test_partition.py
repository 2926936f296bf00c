"""Partitions against the algebra of the papers, the probe, brute force, and planted truths."""

import json

import numpy as np
import pytest

from graticule.errors import DataError, SettingError
from graticule.evaluation.partition import NOTHING, Partition, partition
from graticule.evaluation.predictors import one_hot, score
from graticule.evaluation.probes import ALPHAS, fit_ridge

FOLDS = [(np.arange(0, 900), np.arange(900, 1500))]


def planted(n=1500, seed=0, noise=0.5):
    """Text knows a and s, image knows b and s, coordinates know p; the label is a sum of all, of known variances."""
    rng = np.random.default_rng(seed)
    a, b, s, p = rng.normal(size=(4, n))

    def wide(columns, width):
        return np.column_stack(columns) @ rng.normal(size=(len(columns), width)) + rng.normal(size=width)

    blocks = {"text": wide([a, s], 60), "image": wide([b, s], 40), "coordinates": p[:, None]}
    label = 2 * a + 1.5 * b + 1.0 * s + 0.8 * p + noise * rng.normal(size=n)
    return blocks, label, np.array([4.0, 2.25, 1.0, 0.64]) / (4 + 2.25 + 1 + 0.64 + noise**2)


def of_scores(**scores):
    """A partition with given scores: one row that is met or not cannot say them, so they are put in its cache."""
    blocks = tuple(name for name in scores if " " not in name and name != NOTHING)
    empty = np.zeros(0, dtype=np.int64)
    made = Partition(blocks, 0, empty, empty, empty, {})
    made.__dict__["scores"] = scores
    return made


def test_planted_parts_are_recovered():
    blocks, label, (a, b, s, p) = planted()
    found = partition(blocks, label, FOLDS)
    assert found.unique("text") == pytest.approx(a, abs=0.04)
    assert found.unique("image") == pytest.approx(b, abs=0.04)
    assert found.unique("coordinates") == pytest.approx(p, abs=0.04)
    assert found.shared("image", "text") == pytest.approx(s, abs=0.04)
    for none in (("text", "coordinates"), ("image", "coordinates"), ("text", "image", "coordinates")):
        assert found.shared(*none) == pytest.approx(0, abs=0.04)
    assert found.total == pytest.approx(a + b + s + p, abs=0.02)


def test_planted_parts_of_classes_are_recovered():
    rng = np.random.default_rng(1)
    a, b = rng.integers(2, size=(2, 1500))
    blocks = {"text": a[:, None] + 0.01 * rng.normal(size=(1500, 5)), "image": b[:, None] * np.ones(3)}
    found = partition(blocks, 2 * a + b, FOLDS, classes=4)
    assert found.scores["text + image"] > 0.99
    assert found.scores["text"] == pytest.approx(0.5, abs=0.06)
    assert found.scores[NOTHING] == pytest.approx(0.25, abs=0.06)
    assert found.unique("text") == pytest.approx(0.5, abs=0.06)
    assert found.shared("text", "image") == pytest.approx(-0.25, abs=0.12)  # two halves help each other


def test_noise_knows_nothing():
    blocks, label, _ = planted()
    rng = np.random.default_rng(2)
    found = partition(blocks | {"coordinates": rng.normal(size=(1500, 100))}, label, FOLDS)
    assert abs(found.unique("coordinates")) < 0.01
    shuffled = partition(blocks, rng.permutation(label), FOLDS)
    assert all(abs(part) < 0.03 for part in shuffled.parts.values())


def test_a_wide_block_does_not_drown_a_narrow_one():
    rng = np.random.default_rng(3)
    narrow, wide = rng.normal(size=(400, 1)), rng.normal(size=(400, 250))
    label = 3 * narrow[:, 0] + rng.normal(size=400)
    folds = [(np.arange(300), np.arange(300, 400))]
    found = partition({"narrow": narrow, "wide": wide}, label, folds)
    weight, intercept, _ = fit_ridge(np.hstack([narrow, wide])[:300], label[:300, None])
    one_penalty = score(label[300:], (np.hstack([narrow, wide])[300:] @ weight + intercept)[:, 0])
    assert found.scores["narrow + wide"] > 0.85 > one_penalty


def test_one_block_alone_is_the_ridge_probe():
    blocks, label, _ = planted()
    train, test = FOLDS[0]
    weight, intercept, _ = fit_ridge(blocks["text"][train], label[train, None])
    found = partition({"text": blocks["text"]}, label, FOLDS)
    np.testing.assert_allclose(found.predicted["text"], (blocks["text"][test] @ weight + intercept)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.predicted[NOTHING], label[train].mean())
    assert found.unique("text") == pytest.approx(found.scores["text"] - found.scores[NOTHING])


@pytest.mark.parametrize("classes", [0, 3])
def test_penalties_are_no_worse_than_their_neighbours_and_near_the_best_of_all_refits(classes):
    """Every pair of penalties, every row left out by refitting: the walk ends near the least error."""
    rng = np.random.default_rng(4)
    x, z = rng.normal(size=(30, 4)), rng.normal(size=(30, 6))
    y = x[:, 0] + 0.3 * z[:, 1] + rng.normal(size=30)
    label = np.digitize(y, [-0.5, 0.5]) if classes else y
    folds = [(np.arange(24), np.arange(24, 30))]
    both = np.hstack([x, z])
    both = (both - both[:24].mean(0)) / both[:24].std(0)
    targets = one_hot(label, classes).astype(float)[:24]
    grid = {}
    for i, first in enumerate(ALPHAS):
        for j, second in enumerate(ALPHAS):
            penalty = np.diag([first] * 4 + [second] * 6 + [0.0])
            design = np.hstack([both, np.ones((30, 1))])
            error = 0.0
            for row in range(24):
                rest = np.arange(24) != row
                seen = design[:24][rest]
                weight = np.linalg.solve(seen.T @ seen + penalty, seen.T @ targets[rest])
                error += np.square(design[row] @ weight - targets[row]).sum()
            weight = np.linalg.solve(design[:24].T @ design[:24] + penalty, design[:24].T @ targets)
            said = design[24:] @ weight
            grid[i, j] = error, said.argmax(1) if classes else said[:, 0]
    found = partition({"x": x, "z": z}, label, folds, classes).predicted["x + z"]
    chosen = [at for at, (_, said) in grid.items() if np.allclose(said, found, rtol=1e-6)]
    assert chosen
    assert min(grid[at][0] for at in chosen) <= 1.02 * min(error for error, _ in grid.values())


def test_parts_are_those_of_nimon_and_oswald():
    """Their table 1 for three predictors, spelled out."""
    f = {"a": 0.3, "b": 0.25, "c": 0.1, "a + b": 0.4, "a + c": 0.35, "b + c": 0.33, "a + b + c": 0.45, NOTHING: 0.05}
    found = of_scores(**f)
    abc = f["a + b + c"]
    assert found.unique("a") == pytest.approx(abc - f["b + c"])
    assert found.unique("b") == pytest.approx(abc - f["a + c"])
    assert found.unique("c") == pytest.approx(abc - f["a + b"])
    assert found.shared("b", "a") == pytest.approx(f["a + c"] + f["b + c"] - f["c"] - abc)
    assert found.shared("a", "c") == pytest.approx(f["a + b"] + f["b + c"] - f["b"] - abc)
    assert found.shared("b", "c") == pytest.approx(f["a + b"] + f["a + c"] - f["a"] - abc)
    all_three = f["a"] + f["b"] + f["c"] - f["a + b"] - f["a + c"] - f["b + c"] + abc - f[NOTHING]
    assert found.shared("a", "b", "c") == pytest.approx(all_three)
    assert sum(found.parts.values()) == pytest.approx(found.total)


def test_parts_add_up_on_several_folds_and_to_the_scores_of_a_block():
    blocks, label, _ = planted()
    rows = np.arange(1500)
    found = partition(blocks, label, [(rows[rows % 3 != k], rows[rows % 3 == k]) for k in range(3)])
    assert sum(found.parts.values()) == pytest.approx(found.total)
    text = sum(value for name, value in found.parts.items() if "text" in name)
    assert text == pytest.approx(found.scores["text"] - found.scores[NOTHING])
    means = [score(found.truth[found.fold == k], found.predicted["text"][found.fold == k]) for k in range(3)]
    assert found.scores["text"] == pytest.approx(np.mean(means))
    assert json.loads(json.dumps(found.summary()))["parts"] == found.parts


@pytest.mark.parametrize("classes", [0, 3])
def test_intervals_are_those_of_drawn_rows(classes):
    blocks, label, _ = planted(300)
    label = np.digitize(label, [-1, 1]) if classes else label
    area = np.arange(300) // 10
    folds = [(np.arange(150), np.arange(150, 300)), (np.arange(150, 300), np.arange(150))]
    found = partition(blocks, label, folds, classes)
    draws = {name: [] for name in (*found.parts, "total")}
    rng = np.random.default_rng(5)
    for _ in range(400):
        picked = np.concatenate([np.flatnonzero(area[found.row] == b) for b in rng.integers(30, size=30)])
        predicted = {name: said[picked] for name, said in found.predicted.items()}
        drawn = Partition(found.blocks, classes, found.row[picked], found.fold[picked], found.truth[picked], predicted)
        for name in draws:
            draws[name].append(drawn.total if name == "total" else drawn.parts[name])
    intervals = found.intervals(area, draws=4000)
    for name, values in draws.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert intervals[name] == pytest.approx((low, high), abs=0.25 * (high - low) + 1e-9)


def test_intervals_hold_the_truth_and_repeat():
    blocks, label, (a, *_) = planted()
    found = partition(blocks, label, FOLDS)
    low, high = found.intervals(np.arange(1500) // 5)["text"]
    assert low < a < high
    assert found.intervals(np.arange(1500) // 5)["text"] == (low, high)
    lonely = found.intervals(np.zeros(1500))
    assert lonely["text"] == pytest.approx((found.unique("text"),) * 2)


def test_constant_truth_constant_columns_and_one_training_row():
    rng = np.random.default_rng(6)
    blocks = {"a": np.hstack([rng.normal(size=(40, 3)), np.full((40, 1), 7.0)]), "b": np.ones((40, 2), np.float32)}
    folds = [(np.arange(30), np.arange(30, 40))]
    found = partition(blocks, np.full(40, 3.0), folds)
    assert set(found.scores.values()) == {1.0}
    assert found.intervals(np.arange(40))["a"] == (0, 0)
    found = partition(blocks, rng.normal(size=40), folds)
    assert found.unique("b") == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(
        partition(blocks, np.arange(40.0), [(np.array([4]), np.arange(9))]).predicted["a + b"], 4
    )


def test_more_columns_than_rows_and_twin_blocks():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(60, 90))
    found = partition({"x": x, "twin": x}, x @ rng.normal(size=90), [(np.arange(40), np.arange(40, 60))])
    assert np.isfinite(list(found.scores.values())).all()
    assert found.unique("x") == pytest.approx(0, abs=0.05)
    assert found.shared("x", "twin") == pytest.approx(found.total, abs=0.1)


def test_bad_input_is_named():
    label, folds = np.zeros(5), [(np.arange(3), np.arange(3, 5))]
    good = np.ones((5, 2))
    with pytest.raises(SettingError, match="at least one block and one fold, got 0 and 1"):
        partition({}, label, folds)
    with pytest.raises(SettingError, match="got 1 and 0"):
        partition({"a": good}, label, [])
    for name in ("a + b", "nothing", "total", ""):
        with pytest.raises(SettingError, match="cannot be called"):
            partition({name: good}, label, folds)
    for wrong in (np.ones((4, 2)), np.ones(5), np.ones((5, 0))):
        with pytest.raises(DataError, match=r"Block 'a' must be \(5, d\)"):
            partition({"a": wrong}, label, folds)
    with pytest.raises(DataError, match="row 2 is not, 1 of 5"):
        partition({"a": np.where(np.arange(5)[:, None] == 2, np.nan, good)}, label, folds)
    found = partition({"a": good}, label, folds)
    with pytest.raises(SettingError, match="Unknown block 'b'"):
        found.unique("b")
    with pytest.raises(DataError, match="for every row of the label, got 3"):
        found.intervals(np.zeros(3))
