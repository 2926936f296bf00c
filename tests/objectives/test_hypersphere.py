import math

import numpy as np
import pytest
import torch

from graticule.errors import DataError
from graticule.evaluation.information import spread
from graticule.objectives import hypersphere
from graticule.objectives.hypersphere import alignment, uniformity


def vectors(n, dim=5, seed=0):
    return torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(row):
    return [float(x) / math.sqrt(sum(float(y) ** 2 for y in row)) for x in row]


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(unit(a), unit(b), strict=True))


def test_uniformity_equals_the_naive_loop_and_its_numpy_twin():
    rows = vectors(9)
    pairs = [math.exp(-2 * squared(a, b)) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    assert uniformity(rows).item() == pytest.approx(math.log(sum(pairs) / len(pairs)), abs=1e-12)
    assert uniformity(rows).item() == pytest.approx(spread.uniformity(rows.numpy()), abs=1e-6)


@pytest.mark.parametrize("kept", [1, 20, 40])
def test_uniformity_part_by_part_is_that_of_all_rows(monkeypatch, kept):
    rows = vectors(9).requires_grad_()
    whole = uniformity(rows)
    (expected,) = torch.autograd.grad(whole, rows)
    monkeypatch.setattr(hypersphere, "KEPT", kept)
    parts = uniformity(rows)
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(parts, rows)[0], expected, rtol=1e-10, atol=1e-14)


def test_alignment_equals_the_naive_loop_and_its_numpy_twin():
    a, b = vectors(7), vectors(7, seed=1)
    assert alignment(a, b).item() == pytest.approx(np.mean([squared(x, y) for x, y in zip(a, b, strict=True)]))
    assert alignment(a, b).item() == pytest.approx(spread.alignment(a.numpy(), b.numpy()))


def test_closed_forms():
    ones = torch.ones(4, 3, requires_grad=True)
    assert uniformity(ones).item() == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.tensor([[1.0, 0], [-2, 0]])).item() == pytest.approx(-8)
    assert uniformity(ones[:1]).item() == uniformity(ones[:0]).item() == alignment(ones[:0], ones[:0]).item() == 0
    assert alignment(ones, 3 * ones).item() == pytest.approx(0, abs=1e-12)
    assert alignment(ones, -ones).item() == pytest.approx(4)
    uniformity(ones).backward()
    assert torch.isfinite(ones.grad).all()
    with pytest.raises(DataError, match=r"\(4, 3\) and \(2, 3\)"):
        alignment(ones, ones[:2])


def test_both_point_where_they_should():
    rows = vectors(6).requires_grad_()
    (slope,) = torch.autograd.grad(uniformity(rows), rows)
    assert uniformity(rows - 0.1 * slope) < uniformity(rows)
    assert uniformity(vectors(400, 64)).item() == pytest.approx(-4, abs=0.2)
