"""Several embeddings on several tasks: mean ranks, and which differences are more than luck (Demsar 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.errors import DataError, SettingError, need
from graticule.evaluation.uncertainty import holm

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Embeddings over `tasks` tasks, the best first.

    mean_ranks (k,) 1 = best; statistic and p_value of Friedman's test that all are alike; mean ranks that differ
    by critical_difference or more differ at alpha = .05 (Nemenyi); cliques: groups of positions in `names` that
    do not; pairwise (k, k) p of Wilcoxon's signed-rank tests after Holm.
    """

    names: tuple[str, ...]
    tasks: int
    mean_ranks: Floats
    statistic: float
    p_value: float
    critical_difference: float
    cliques: list[tuple[int, ...]]
    pairwise: Floats


def ranking(names: Sequence[str], scores: ArrayLike) -> Ranking:
    """Everything about (tasks, embeddings) scores, higher is better, with the names of the embeddings.

    Raises DataError for fewer than two embeddings, no task, or missing scores.
    """
    table = _demand(scores)
    if len(names) != table.shape[1]:
        raise DataError(f"{len(names)} names, but scores of {table.shape[1]} embeddings.")
    order = np.argsort(mean_ranks(table), kind="stable")
    table = table[:, order]
    ranks, difference = mean_ranks(table), critical_difference(table.shape[1], len(table))
    statistic, p_value = friedman(table)
    return Ranking(
        names=tuple(names[i] for i in order),
        tasks=len(table),
        mean_ranks=ranks,
        statistic=statistic,
        p_value=p_value,
        critical_difference=difference,
        cliques=cliques(ranks, difference),
        pairwise=pairwise_wilcoxon(table),
    )


def mean_ranks(scores: ArrayLike) -> Floats:
    """(tasks, embeddings) scores, higher is better -> (embeddings,) mean ranks; 1 = best, equal scores share ranks."""
    return np.asarray(_ranks(_demand(scores)).mean(0))


def friedman(scores: ArrayLike) -> tuple[float, float]:
    """Statistic and p of Friedman's test (1937) that (tasks, embeddings) scores come from equally good embeddings.

    With the correction for ties; chi-squared with one degree of freedom fewer than embeddings. (0, 1) where all
    scores are equal on every task. Unlike SciPy's it takes two embeddings.
    """
    ranks = _ranks(_demand(scores))
    tasks, embeddings = ranks.shape
    middle = (embeddings + 1) / 2
    spread = np.square(ranks - middle).sum() / (embeddings - 1)
    if spread == 0:
        return 0.0, 1.0
    statistic = float(tasks**2 * np.square(ranks.mean(0) - middle).sum() / spread)
    return statistic, float(need("scipy.special", "train").chdtrc(embeddings - 1, statistic))


def critical_difference(embeddings: int, tasks: int, alpha: float = 0.05) -> float:
    """Mean ranks of any two embeddings that differ by so much differ at `alpha` (Nemenyi 1963; Demsar 2006, eq. 5)."""
    if embeddings < 2 or tasks < 1 or not 0 < alpha < 1:
        raise SettingError(
            f"A critical difference needs two or more embeddings, a task and 0 < alpha < 1, got {embeddings}, "
            f"{tasks} and {alpha:g}."
        )
    studentized_range = need("scipy.stats", "train").studentized_range
    q = float(studentized_range.ppf(1 - alpha, embeddings, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(embeddings * (embeddings + 1) / (6 * tasks)))


def cliques(mean_ranks: Floats, critical_difference: float) -> list[tuple[int, ...]]:
    """Largest groups of two or more embeddings whose mean ranks all differ by less than the critical difference.

    Positions in `mean_ranks` (k,), the best first: the bars of a critical difference diagram.
    """
    order = np.argsort(mean_ranks, kind="stable")
    sorted_ranks = np.asarray(mean_ranks)[order]
    groups: list[tuple[int, ...]] = []
    end = 0
    for first, rank in enumerate(sorted_ranks):
        beyond = int(np.searchsorted(sorted_ranks - rank, critical_difference, side="left"))
        if beyond > max(end, first + 1):
            groups.append(tuple(int(i) for i in order[first:beyond]))
        end = max(end, beyond)
    return groups


def pairwise_wilcoxon(scores: ArrayLike) -> Floats:
    """(tasks, embeddings) scores -> (embeddings, embeddings) two-sided p of signed-rank tests after Holm.

    Unlike mean ranks, the comparison of two does not hang on which others take part (Benavoli et al. 2016). 1 on
    the diagonal. Tasks without a difference are split evenly between the signs (Demsar 2006, section 3.1.3).
    """
    table = _demand(scores)
    pairs = list(combinations(range(table.shape[1]), 2))
    adjusted = holm([_signed_rank(table[:, i] - table[:, j]) for i, j in pairs])
    matrix = np.ones((table.shape[1], table.shape[1]))
    for (i, j), p in zip(pairs, adjusted, strict=True):
        matrix[i, j] = matrix[j, i] = p
    return matrix


def _signed_rank(difference: Floats) -> float:
    """Exact two-sided p of the signed-rank statistic (Wilcoxon 1945), with ties: all signs, counted by their sum.

    Ranks are doubled, so that shared ones are whole numbers; `ways` is the part of sign patterns by their positive sum.
    """
    ranks = np.rint(2 * need("scipy.stats", "train").rankdata(np.abs(difference))).astype(np.int64)
    ranks, positive = ranks[difference != 0], difference[difference != 0] > 0
    ways = np.zeros(ranks.sum() + 1)
    ways[0] = 1
    for rank in ranks:
        ways[rank:] = (ways[rank:] + ways[:-rank]) / 2
        ways[:rank] /= 2
    from_middle = np.abs(2 * np.arange(len(ways)) - ranks.sum())
    return min(1.0, float(ways[from_middle >= abs(2 * ranks[positive].sum() - ranks.sum())].sum()))


def _ranks(table: Floats) -> Floats:
    return np.asarray(need("scipy.stats", "train").rankdata(-table, axis=1), dtype=np.float64)


def _demand(scores: ArrayLike) -> Floats:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not len(table) or table.shape[1] < 2:
        raise DataError(
            f"Ranks need (tasks, embeddings) scores with a task and two or more embeddings, got shape {table.shape}."
        )
    if len(bad := np.flatnonzero(~np.isfinite(table).all(1))):
        raise DataError(
            f"Ranks need a score of every embedding on every task; {len(bad)} of {len(table)} tasks lack one, first at "
            f"row {bad[0]}: leave them out."
        )
    return table
