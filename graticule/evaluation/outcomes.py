"""What a predictor said about the test rows of one task under one split: the unit of work that is kept on disk."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from graticule import __version__
from graticule.errors import CacheError, DataError
from graticule.evaluation.predictors import Array, Inputs, Predictor, score
from graticule.evaluation.splits import Folds, Rows
from graticule.evaluation.tasks import Task
from graticule.evaluation.uncertainty import row_loss
from graticule.files import atomic_write

FORMAT = 1
POOLED = frozenset({"countries"})  # splits whose folds are too small, or too even, for an R2 of their own


@dataclass(frozen=True)
class Answers:
    """Test rows of all folds of a split, one after the other, and what was predicted for them.

    row (m,) rows of the task; fold (m,) fold numbers 0, 1, ...; predicted (m,) numbers or class numbers;
    n_train (folds,) training rows.
    """

    row: Rows
    fold: Rows
    predicted: Array
    n_train: Rows


@dataclass(frozen=True)
class Outcome:
    """The answers of one probe on one embedding (or of one baseline) for one task under one split."""

    embedding: str
    probe: str
    split: str
    task: Task
    answers: Answers

    @property
    def truth(self) -> Array:
        """(m,) labels of the test rows."""
        return self.task.label[self.answers.row]

    @cached_property
    def fold_scores(self) -> Array:
        """R2 (not clipped) or accuracy of every fold; of all rows at once for the splits of POOLED."""
        truth, predicted, classes, fold = self.truth, self.answers.predicted, len(self.task.classes), self._scored
        return np.array([score(truth[fold == k], predicted[fold == k], classes) for k in np.unique(fold)])

    @property
    def score(self) -> float:
        """Mean over the folds; R2 clipped at 0 after that mean."""
        return max(0.0, float(self.fold_scores.mean()))

    @property
    def clipped(self) -> Array:
        """(m,) the answers; where the score is clipped at 0, the mean truth of each fold (of all rows where pooled)."""
        fold = self._scored
        if self.task.classes or float(self.fold_scores.mean()) > 0:
            return self.answers.predicted
        mean = np.bincount(fold, self.truth) / np.maximum(np.bincount(fold), 1)
        return np.asarray(mean[fold])

    @property
    def _scored(self) -> Rows:
        """(m,) what is scored on its own: the folds, or all rows as one."""
        return np.zeros_like(self.answers.fold) if self.split in POOLED else self.answers.fold

    @property
    def loss(self) -> Array:
        """(m,) losses of the test rows, as in `row_loss`."""
        return row_loss(self.truth, self.answers.predicted, len(self.task.classes))


def answers(predict: Predictor, inputs: Inputs, task: Task, folds: Folds) -> Answers:
    """Ask a predictor about every fold; DataError when it says NaN."""
    said = [
        predict(inputs.take(train), task.label[train], inputs.take(test), len(task.classes)) for train, test in folds
    ]
    predicted = np.concatenate(said)
    if wrong := int((~np.isfinite(predicted)).sum()):
        raise DataError(f"{wrong} of {len(predicted)} predictions are NaN or infinite.")
    return Answers(
        row=np.concatenate([test for _, test in folds]),
        fold=np.repeat(np.arange(len(folds)), [len(test) for _, test in folds]),
        predicted=predicted.astype(np.int32 if task.classes else np.float64),
        n_train=np.array([len(train) for train, _ in folds]),
    )


def fingerprint(*parts: Any) -> str:
    """BLAKE2b-128 of arrays and texts, of this format and version."""
    digest = hashlib.blake2b(f"{FORMAT} {__version__}".encode(), digest_size=16)
    for part in parts:
        array = np.ascontiguousarray(part)
        digest.update(f"|{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def fingerprint_of_folds(folds: Folds) -> str:
    """The same for rows that train and test."""
    return fingerprint(*(rows for pair in folds for rows in pair))


def keep(path: Path, said: Answers) -> None:
    """Write answers, whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, row=said.row, fold=said.fold, predicted=said.predicted, n_train=said.n_train)

    atomic_write(path, write)


def kept(path: Path) -> Answers | None:
    """The answers in a file, None where there is none; CacheError when it is damaged."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return Answers(**{name: file[name] for name in ("row", "fold", "predicted", "n_train")})
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise CacheError(f"{path} is damaged ({error}). Delete it and run again.") from error
