"""Where two embeddings differ, and which words stand there."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from graticule.errors import DataError, SettingError, need
from graticule.evaluation.predictors import Array
from graticule.evaluation.splits import Rows
from graticule.geo.cells import equal_area_cells
from graticule.geo.coords import Points, great_circle_km, unit_sphere

WORD = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")  # letters of any script, joined by apostrophes and hyphens
PRIOR = 0.1  # weight of the Dirichlet prior in observed words: a tenth of the corpus compared
LENGTHS = 10  # strata of texts of similar length
CHUNK = 4096  # rows whose similarities are held at a time


@dataclass(frozen=True)
class Place:
    """A row, its lon/lat degrees and how much differs there."""

    row: int
    lon: float
    lat: float
    value: float


@dataclass(frozen=True)
class Word:
    """A word, z-score of its log-odds ratio (positive: stands with high scores), and how widely it is spread.

    texts counts texts of both groups that hold it; cells the effective number of equal-area cells (inverse Simpson
    index) of the texts of the group it stands for.
    """

    word: str
    z: float
    texts: int
    cells: float


def largest_differences(
    points: Points, loss_a: Array, loss_b: Array, k: int, apart_km: float, neighbours: int = 10
) -> tuple[list[Place], list[Place]]:
    """The up to k places where A is better than B by most, and those where B is; `value` is the loss avoided.

    points (n, 2) lon/lat degrees, losses (n,) of the same rows, for instance `Outcome.loss`. The loss of a row is
    replaced by the mean over its `neighbours` nearest rows (itself one of them): one row says little, and
    losses of classes are only 0 or 1. 1 takes rows as they are. Places keep `apart_km` from each other.
    """
    if np.shape(loss_a) != np.shape(loss_b):
        raise DataError(f"Losses must have the same shape, got {np.shape(loss_a)} and {np.shape(loss_b)}.")
    difference = _demand_numbers("loss_b - loss_a", np.asarray(loss_b, dtype=np.float64) - loss_a, len(points))
    if neighbours > 1 and len(points) > 1:
        xyz = unit_sphere(points)
        nearest = need("scipy.spatial", "train").cKDTree(xyz).query(xyz, k=min(neighbours, len(points)))[1]
        difference = difference[nearest].mean(1)
    return top_places(points, difference, k, apart_km), top_places(points, -difference, k, apart_km)


def top_places(points: Points, value: Array, k: int, apart_km: float) -> list[Place]:
    """Up to k rows of the largest positive values, the largest first, each at least `apart_km` from those before.

    points (n, 2) lon/lat degrees, value (n,). Equal values: the earlier row first.
    """
    value = _demand_numbers("value", value, len(points))
    free = value > 0
    found: list[Place] = []
    for row in np.argsort(-value, kind="stable"):
        if len(found) == k or value[row] <= 0:
            break
        if free[row]:
            found.append(Place(int(row), float(points[row, 0]), float(points[row, 1]), float(value[row])))
            free &= great_circle_km(points, points[row]) >= apart_km
    return found


def disagreement(vectors_a: Array, vectors_b: Array, anchors: Rows) -> Array:
    """How differently two embeddings see each place: (n,) numbers from 0 (alike) to 2 (opposite).

    vectors_a (n, d) and vectors_b (n, e) of the same places; anchors (m,) rows of both, evenly spread over the Earth.
    Both are centred on the anchors; a place has a profile of cosines with all anchors but itself under A and
    under B; the number is 1 minus the correlation of these profiles (representational similarity analysis, Kriegeskorte
    et al. 2008, place by place). It does not change when an embedding is moved, turned or scaled. A profile
    without spread (a vector at the anchors' mean) correlates with nothing: 1.
    """
    if len(vectors_a) != len(vectors_b):
        raise DataError(f"Expected vectors of the same places, got {len(vectors_a)} and {len(vectors_b)} rows.")
    if len(np.unique(anchors)) != len(anchors) or len(anchors) < 4:
        raise SettingError(f"Expected four or more different rows as anchors, got {len(anchors)}.")
    a, b = _directions(vectors_a, anchors), _directions(vectors_b, anchors)
    parts = [
        _one_minus_correlation(a[rows] @ a[anchors].T, b[rows] @ b[anchors].T, rows[:, None] != anchors)
        for rows in np.split(np.arange(len(a)), np.arange(CHUNK, len(a), CHUNK))
    ]
    return np.concatenate(parts)


def _directions(vectors: Array, anchors: Rows) -> Array:
    centred = vectors - vectors[anchors].mean(0, dtype=np.float64)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-30))


def _one_minus_correlation(x: Array, y: Array, counted: NDArray[np.bool_]) -> Array:
    """Row by row, over the columns that are counted."""
    number = counted.sum(1, keepdims=True)
    x, y = (np.where(counted, v - (v * counted).sum(1, keepdims=True) / number, 0) for v in (x, y))
    spread = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray(1 - np.einsum("nm,nm->n", x, y) / np.maximum(spread, 1e-12))


def distinctive_words(
    texts: Sequence[str],
    score: Array,
    points: Points,
    k: int = 20,
    min_texts: int = 20,
    min_cells: float = 10,
    *,
    quantile: float = 0.25,
    cell_km: float = 1000,
) -> list[Word]:
    """The k words that stand most with high scores and the k with low ones, z descending.

    texts of n places, score (n,), points (n, 2) lon/lat degrees. Compared are the texts at or below the `quantile` of
    the scores and those at or above 1 - `quantile`, by the log-odds ratio with an informative Dirichlet prior
    (Monroe et al. 2008, eqs. 16, 19-22; the prior is the share of each word in all n texts). We count the texts that
    hold a word, not its tokens, so that one text cannot make a word distinctive by repeating it; and take
    the quantiles within tenths of texts of similar length, else "the" and "of" stand for short texts.

    Words in fewer than `min_texts` of the compared texts are left out. So are names of single countries and
    towns: the texts that hold the word, in the group it stands for, must spread over `min_cells` equal-area cells of
    `cell_km`; cells are counted by the inverse Simpson index 1 / sum(share^2), so that a name with a few stray
    mentions elsewhere counts as one or two. No stop words are needed: words common to both groups have z near 0.
    z supposes independent texts. Scores that vary smoothly over the Earth make neighbours alike and z larger than by
    chance: then it ranks words and tests nothing.
    """
    if len(texts) != len(points):
        raise DataError(f"Expected a text for every place, got {len(texts)} texts and {len(points)} places.")
    score = _demand_numbers("score", score, len(points))
    text, word, names = _occurrences(texts)
    size = len(names)
    low, high = _groups(score, np.bincount(text, minlength=len(texts)), quantile)
    everywhere = np.bincount(word, minlength=size)
    counts = [np.bincount(word[rows[text]], minlength=size) for rows in (high, low)]
    z = _log_odds_z(counts[0], counts[1], PRIOR * everywhere / max(len(word), 1) * sum(map(np.sum, counts)))
    cell = np.unique(equal_area_cells(points, cell_km), return_inverse=True)[1]
    spread = [_effective_cells(word[rows[text]], cell[text[rows[text]]], size) for rows in (high, low)]
    cells, seen = np.where(z > 0, *spread), counts[0] + counts[1]
    kept = np.flatnonzero((seen >= min_texts) & (cells >= min_cells))
    order = kept[np.argsort(-z[kept], kind="stable")]
    top = [i for i in order[:k] if z[i] > 0] + [i for i in order[-k:] if z[i] < 0] if k > 0 else []
    return [Word(names[i], float(z[i]), int(seen[i]), float(cells[i])) for i in top]


def words(text: str) -> list[str]:
    """Lower-case words of a text in order: runs of letters, with apostrophes and hyphens between them."""
    return WORD.findall(normalize("NFC", text).lower())


def _groups(score: Array, length: Rows, quantile: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which texts have low and high scores among those of similar length."""
    if not 0 < quantile < 0.5:
        raise SettingError(f"quantile must lie in (0, 0.5), got {quantile:g}.")
    if not len(score):
        raise DataError("Expected texts with scores, got none.")
    low, high = np.zeros((2, len(score)), dtype=bool)
    for rows in np.array_split(np.argsort(length, kind="stable"), max(1, min(LENGTHS, len(score) // 20))):
        lower, upper = np.quantile(score[rows], [quantile, 1 - quantile])
        if lower < upper:
            low[rows], high[rows] = score[rows] <= lower, score[rows] >= upper
    if not low.any():
        raise DataError(f"The scores at the quantiles {quantile:g} and {1 - quantile:g} are equal: nothing to compare.")
    return low, high


def _occurrences(texts: Sequence[str]) -> tuple[Rows, Rows, list[str]]:
    """Row of the text and number of the word for every different word of every text; and the words."""
    number: dict[str, int] = {}
    word, length = array("q"), array("q")
    for text in texts:
        found = dict.fromkeys(words(text))
        word.extend(number.setdefault(name, len(number)) for name in found)
        length.append(len(found))
    rows = np.repeat(np.arange(len(texts)), np.array(length, dtype=np.int64))
    return rows, np.array(word, dtype=np.int64), list(number)


def _log_odds_z(high: Array, low: Array, prior: Array) -> Array:
    """Monroe et al. 2008: eq. 16 over the square root of eq. 20, with word counts and prior pseudo-counts (words,)."""
    first, second = (np.maximum(count + prior, 1e-12) for count in (high, low))  # no word stands in either group: 0

    def log_odds(held: Array) -> Array:
        return np.asarray(np.log(held / np.maximum(held.sum() - held, 1e-12)))

    return np.asarray((log_odds(first) - log_odds(second)) / np.sqrt(1 / first + 1 / second))


def _effective_cells(word: Rows, cell: Rows, size: int) -> Array:
    """(size,) inverse Simpson index of the cells in which each word stands, 0 for a word that stands nowhere."""
    width = int(cell.max(initial=0)) + 1
    pair, texts = np.unique(word * width + cell, return_counts=True)
    total = np.bincount(pair // width, texts, size)
    return np.asarray(total**2 / np.maximum(np.bincount(pair // width, texts**2, size), 1))


def _demand_numbers(what: str, values: Array, n: int) -> Array:
    if np.shape(values) != (n,):
        raise DataError(f"Expected one number of {what} for each of {n} places, got shape {np.shape(values)}.")
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        raise DataError(f"{what} must be finite; row {bad[0]} is {values[bad[0]]}, {len(bad)} of {n} rows are not.")
    return np.asarray(values, dtype=np.float64)
