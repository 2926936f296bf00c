"""Ranks, uniformity and alignment against the papers' formulas and closed forms."""

import numpy as np
import pytest

from graticule.errors import DataError
from graticule.evaluation.information import spread as room
from graticule.evaluation.information.spread import (
    alignment,
    effective_rank,
    participation_ratio,
    rankme,
    spectrum,
    uniformity,
)

MEASURES = [spectrum, effective_rank, rankme, participation_ratio, uniformity]


def vectors(n=80, d=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * rng.uniform(0.1, 4, d) + rng.normal(size=d)


@pytest.mark.parametrize(("n", "d"), [(80, 7), (5, 9), (1, 3)])
def test_effective_rank_is_that_of_training(n, d):
    torch = pytest.importorskip("torch")
    from graticule.objectives.regression import effective_rank as differentiable

    x = vectors(n, d)
    assert effective_rank(x) == pytest.approx(float(differentiable(torch.from_numpy(x))), rel=1e-9)


def test_effective_rank_and_rankme_are_the_papers_formulas():
    x = vectors()
    for centred, epsilon, found in ((True, 0.0, effective_rank(x)), (False, 1e-7, rankme(x))):
        values = np.linalg.eigvalsh((x - centred * x.mean(0)).T @ (x - centred * x.mean(0))) ** 0.5
        shares = [value / sum(values) + epsilon for value in values]
        assert found == pytest.approx(np.exp(-sum(p * np.log(p) for p in shares)), rel=1e-9)


def test_ranks_of_planted_spectra():
    axes = np.vstack([np.eye(6), -np.eye(6)])[:, :4]  # four directions of equal variance
    for rank in (effective_rank, participation_ratio):
        assert rank(axes) == pytest.approx(4)
        assert rank(axes @ np.eye(4, 50) * 1e-3 + 5) == pytest.approx(4)
    assert rankme(axes) == pytest.approx(4, rel=1e-5)
    assert participation_ratio(axes * [3, 1, 0, 0]) == pytest.approx((9 + 1) ** 2 / (81 + 1))
    assert effective_rank(vectors() + 1000) == pytest.approx(effective_rank(vectors()))
    assert rankme(vectors() + 1000) < 1.2 < rankme(vectors())


def test_the_spectrum_is_that_of_the_covariance():
    x = vectors()
    np.testing.assert_allclose(spectrum(x), np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1], rtol=1e-9)
    assert spectrum(x[:3]).shape == (3,)


def test_uniformity_and_alignment_are_naive_loops():
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors(), vectors(seed=1)))
    kernel = [np.exp(-2 * np.sum((a - b) ** 2)) for i, a in enumerate(x) for b in x[:i]]
    assert uniformity(x * 7) == pytest.approx(np.log(np.mean(kernel)), rel=1e-5)
    squares = [np.sum((a - b) ** 2) for a, b in zip(x, y, strict=True)]
    assert alignment(x * 3, y * 0.1) == pytest.approx(np.mean(squares))
    assert alignment(x, x) == 0
    assert alignment(x, -x) == pytest.approx(4)


def test_uniformity_of_uniform_vectors_and_in_blocks(monkeypatch):
    x = np.random.default_rng(0).normal(size=(3000, 200))
    whole = uniformity(x)
    assert whole == pytest.approx(-4, abs=0.06)
    assert uniformity(x, rows=300) == pytest.approx(whole, abs=0.01)
    monkeypatch.setattr(room, "BLOCK_VALUES", 50_000)
    assert uniformity(x) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e20])
def test_the_collapse(value):
    same = np.full((40, 5), value, dtype=np.float32)
    assert effective_rank(same) == pytest.approx(1)
    assert participation_ratio(same) == 1
    assert alignment(same, same) == 0
    assert np.abs(spectrum(same)).max() == 0
    if value:
        assert uniformity(same) == pytest.approx(0, abs=1e-5)
        assert rankme(same) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
def test_bad_input(measure):
    with pytest.raises(DataError, match="at least one row"):
        measure(np.ones((0, 4)))
    with pytest.raises(DataError, match=r"\(n, d\)"):
        measure(np.ones(4))
    with pytest.raises(DataError, match="finite"):
        measure(np.array([[1.0, np.inf], [0.0, 1.0]]))


def test_bad_pairs():
    with pytest.raises(DataError, match="same shape"):
        alignment(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(DataError, match="at least 2"):
        uniformity(np.ones((1, 2)))
