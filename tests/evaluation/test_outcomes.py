"""Answers of a predictor: their scores by naive loops, their files, and the digests these are found by."""

from dataclasses import replace

import numpy as np
import pytest

from graticule.errors import CacheError, DataError
from graticule.evaluation.outcomes import (
    POOLED,
    Answers,
    Outcome,
    answers,
    fingerprint,
    fingerprint_of_folds,
    keep,
    kept,
)
from graticule.evaluation.predictors import Inputs
from graticule.evaluation.splits import random_split
from tests.evaluation.planted import planted_tasks, waves

FIELDS = ("row", "fold", "predicted", "n_train")


def said_at_random(task, folds=4, seed=0):
    """Folds of unequal size that hold every row once, some of them almost without spread."""
    rng = np.random.default_rng(seed)
    fold = np.sort(rng.choice(folds, size=len(task), p=[0.5, 0.3, 0.15, 0.05]))
    row = rng.permutation(len(task))
    truth = task.label[row]
    wrong = rng.random(len(task)) < 0.3
    guess = np.where(wrong, truth[::-1], truth) if task.classes else truth + 0.3 * rng.normal(size=len(task))
    return Answers(row, fold, guess, np.full(folds, 7))


def naive_score(truth, predicted, classes):
    if classes:
        return sum(t == p for t, p in zip(truth, predicted, strict=True)) / len(truth)
    mean = sum(truth) / len(truth)
    missed = sum((t - p) ** 2 for t, p in zip(truth, predicted, strict=True))
    return 1 - missed / sum((t - mean) ** 2 for t in truth)


@pytest.mark.parametrize("split", ["blocks", "countries"])
def test_scores_by_a_naive_loop(split):
    for task in planted_tasks(120):
        said = said_at_random(task)
        outcome = Outcome("e", "ridge", split, task, said)
        groups = {}
        for row, fold, predicted in zip(said.row, said.fold, said.predicted, strict=True):
            truth, guess = groups.setdefault(0 if split in POOLED else fold, ([], []))
            truth.append(task.label[row])
            guess.append(predicted)
        expected = [naive_score(*groups[k], len(task.classes)) for k in sorted(groups)]
        assert len(expected) == (1 if split == "countries" else 4)
        np.testing.assert_allclose(outcome.fold_scores, expected, rtol=1e-12)
        assert outcome.score == pytest.approx(np.mean(expected))
        if split in POOLED:
            assert 1 - outcome.loss.mean() == pytest.approx(outcome.score)


def test_a_score_is_clipped_after_the_mean():
    task = planted_tasks(100)[0]
    said = said_at_random(task)
    awful = Answers(said.row, said.fold, np.full(100, 1e3), said.n_train)
    assert Outcome("e", "ridge", "blocks", task, awful).fold_scores.max() < -1
    assert Outcome("e", "ridge", "blocks", task, awful).score == 0


@pytest.mark.parametrize("split", ["blocks", "countries"])
def test_a_clipped_score_enters_tests_as_a_score_of_nothing(split):
    task = planted_tasks(120)[0]
    said = said_at_random(task)
    awful = Outcome("e", "ridge", split, task, Answers(said.row, said.fold, np.full(120, 1e3), said.n_train))
    clipped = replace(awful, answers=replace(said, predicted=awful.clipped))
    np.testing.assert_allclose(clipped.fold_scores, 0, atol=1e-12)
    good = Outcome("e", "ridge", split, task, said)
    np.testing.assert_array_equal(good.clipped, said.predicted)


def test_a_predictor_is_asked_about_every_fold():
    task = planted_tasks(100)[0]
    folds = [*random_split(task), *random_split(task, seed=1)]
    inputs = Inputs(waves(task.points), task.points)

    def first_component(train, label, test, classes):
        return test.vectors[:, 0] + len(train)

    said = answers(first_component, inputs, task, folds)
    np.testing.assert_array_equal(said.row, np.concatenate([test for _, test in folds]))
    np.testing.assert_array_equal(said.fold, [0] * 40 + [1] * 40)
    np.testing.assert_array_equal(said.n_train, [60, 60])
    np.testing.assert_allclose(said.predicted, inputs.vectors[said.row, 0] + 60, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predictions_that_are_no_numbers_are_refused(value):
    task = planted_tasks(100)[0]
    inputs = Inputs(waves(task.points), task.points)
    with pytest.raises(DataError, match="40 of 40 predictions are NaN or infinite"):
        answers(lambda train, label, test, classes: np.full(len(test), value), inputs, task, random_split(task))


def same(one, other):
    return all(
        getattr(one, name).dtype == getattr(other, name).dtype
        and np.array_equal(getattr(one, name), getattr(other, name))
        for name in FIELDS
    )


def test_answers_come_back_from_their_file(tmp_path):
    path = tmp_path / "deep" / "answers.npz"
    assert kept(path) is None
    for task in planted_tasks(60):
        said = said_at_random(task)
        keep(path, said)
        assert same(kept(path), said)
    assert [p.name for p in path.parent.iterdir()] == ["answers.npz"]


def test_a_file_that_any_byte_of_was_changed_or_cut_is_refused_or_read_right(tmp_path):
    path = tmp_path / "answers.npz"
    said = said_at_random(planted_tasks(30)[0])
    keep(path, said)
    raw = path.read_bytes()
    damaged = [raw[:at] + bytes([raw[at] ^ 255 >> at % 8]) + raw[at + 1 :] for at in range(len(raw))]
    damaged += [raw[:at] for at in range(0, len(raw), 50)] + [b"no archive"]
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert same(kept(path), said)  # a time of writing, say
        except CacheError as error:
            assert f"{path} is damaged" in str(error)  # noqa: PT017
            assert "Delete it and run again" in str(error)  # noqa: PT017
            refused += 1
    assert refused > len(damaged) / 2


def test_different_arrays_have_different_fingerprints(monkeypatch):
    number = np.arange(6)
    different = [
        (number,), (number.astype(np.int32),), (number.astype(np.float64),), (number.reshape(2, 3),),
        (number.reshape(3, 2),), (number[::-1],), (number[:5],), (number, "ridge"), (number, "knn"), ("ridge", number),
        (number[:3], number[3:]), (number[:2], number[2:]), (number[:0],), (), ("",),
    ]  # fmt: skip
    found = [fingerprint(*parts) for parts in different]
    assert len(set(found)) == len(found)
    assert fingerprint(number) == fingerprint(np.arange(12)[::2] // 2)  # whatever the memory looks like
    assert fingerprint(number.reshape(2, 3)) == fingerprint(np.asfortranarray(number.reshape(2, 3)))
    monkeypatch.setattr("graticule.evaluation.outcomes.__version__", "another")
    assert fingerprint(number) not in found


def test_different_folds_have_different_fingerprints():
    rows = np.arange(10)
    pair, other = (rows[:6], rows[6:]), (rows[4:], rows[:4])
    different = [[pair], [other], [pair, other], [other, pair], [pair[::-1]], [(rows[:5], rows[5:])]]
    assert len({fingerprint_of_folds(folds) for folds in different}) == len(different)
    assert fingerprint_of_folds([pair]) == fingerprint_of_folds([(rows[:6].copy(), rows[6:].copy())])
