"""Similarity of two embeddings against naive loops, invariances and independence."""

import numpy as np
import pytest

from graticule.errors import DataError
from graticule.evaluation.information.similarity import cka, debiased_cka, neighbour_overlap, procrustes_angle

MEASURES = [cka, debiased_cka, procrustes_angle, neighbour_overlap]


def pair(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)) * rng.uniform(0.3, 3, 6)
    return x + 2, x @ rng.normal(size=(6, 4)) + rng.normal(size=(n, 4)) - 1


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def kernels(x, y):
    return [[[float(a @ b) for b in rows] for a in rows] for rows in (x, y)]


def test_cka_is_centred_hsic():
    """Kornblith et al. 2019: HSIC(K, L) = tr(K H L H) with the n x n kernels."""
    x, y = pair()
    k, ell = (np.array(kernel) for kernel in kernels(x, y))
    h = np.eye(len(x)) - 1 / len(x)

    def hsic(a, b):
        return np.trace(a @ h @ b @ h)

    assert cka(x, y) == pytest.approx(hsic(k, ell) / np.sqrt(hsic(k, k) * hsic(ell, ell)))


def test_debiased_cka_is_the_estimator_of_song():
    """Song et al. 2012: an average over all quadruples of different rows, here as U-statistic loops."""
    x, y = pair(n=9)
    k, ell = kernels(x, y)

    def hsic(a, b):
        n = range(len(a))
        pairs = [a[i][j] * b[i][j] for i in n for j in n if i != j]
        triples = [a[i][j] * b[i][q] for i in n for j in n for q in n if len({i, j, q}) == 3]
        quads = [a[i][j] * b[q][r] for i in n for j in n for q in n for r in n if len({i, j, q, r}) == 4]
        return np.mean(pairs) + np.mean(quads) - 2 * np.mean(triples)

    assert debiased_cka(x, y) == pytest.approx(hsic(k, ell) / np.sqrt(hsic(k, k) * hsic(ell, ell)))


def test_procrustes_is_the_angle_after_the_best_rotation():
    """In the plane all orthogonal maps can be tried."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 2))
    a, b = (v - v.mean(0) for v in (x, y))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    best = 0
    for angle in np.linspace(0, 2 * np.pi, 4001):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        best = max(best, np.sum(a * (b @ turn)), np.sum(a * (b @ turn @ np.diag([1, -1]))))
    assert procrustes_angle(x, y) == pytest.approx(np.arccos(best), abs=1e-5)


def test_overlap_is_a_naive_loop():
    x, y = pair()
    shares = []
    for i in range(len(x)):
        sets = []
        for rows in (x, y):
            cosine = [r @ rows[i] / np.linalg.norm(r) / np.linalg.norm(rows[i]) for r in rows]
            sets.append(set([j for j in np.argsort(cosine)[::-1] if j != i][:5]))
        shares.append(len(sets[0] & sets[1]) / 5)
    assert neighbour_overlap(x, y, neighbours=5) == pytest.approx(np.mean(shares))


@pytest.mark.parametrize("measure", MEASURES)
def test_rotation_and_scale_do_not_matter(measure):
    x, y = pair()
    expected = measure(x, y)
    assert measure(x @ rotation(6) * 1e-3, y @ rotation(4) * 1e6) == pytest.approx(expected, abs=1e-9)
    assert measure(y, x) == pytest.approx(expected)
    same = 0 if measure is procrustes_angle else 1
    assert measure(x, x @ rotation(6) * 9) == pytest.approx(same, abs=1e-6)
    if measure is not neighbour_overlap:
        assert measure(x + 50, y - 7) == pytest.approx(expected)


def test_independent_embeddings():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 200)), rng.normal(size=(400, 150))
    assert cka(x, y) > 0.2  # n ~ d: the bias that the unbiased estimator takes away
    assert abs(debiased_cka(x, y)) < 0.03
    assert neighbour_overlap(x, y) == pytest.approx(10 / 399, abs=0.01)
    tall = rng.normal(size=(20_000, 8))
    assert procrustes_angle(tall[:, :4], tall[:, 4:]) > 1.5
    assert cka(tall[:, :4], tall[:, 4:]) < 0.01


def test_collapse_has_no_similarity():
    x = pair()[0]
    same = np.full((60, 3), 0.1, dtype=np.float32)
    for measure in (cka, debiased_cka, procrustes_angle):
        assert np.isnan(measure(x, same))
    assert 0 <= neighbour_overlap(x, same) <= 1


@pytest.mark.parametrize("measure", MEASURES)
def test_bad_input(measure):
    x, y = pair()
    with pytest.raises(DataError, match="same places"):
        measure(x, y[:-1])
    with pytest.raises(DataError, match="same places"):
        measure(x[:0], y[:0])
    with pytest.raises(DataError, match="finite"):
        measure(x, np.where(y > 1, np.nan, y))
    if measure in (debiased_cka, neighbour_overlap):
        with pytest.raises(DataError, match="at least"):
            measure(x[:3], y[:3])
