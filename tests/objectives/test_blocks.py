"""The softmax in blocks against naive loops, its gradient by differences, and the edges of what it has to bear."""

import math

import pytest
import torch

from graticule.objectives import blocks
from graticule.objectives.blocks import Target, find_own, own


class Given:
    """Targets that are there as a whole."""

    def __init__(self, n, m, seed=0, left_out=0.4):
        draw = torch.Generator().manual_seed(seed)
        self.left_out = (torch.rand(n, m, generator=draw) < left_out).fill_diagonal_(False)
        weights = torch.rand(n, m, generator=draw, dtype=torch.float64).fill_diagonal_(1)
        self.weights = weights.masked_fill(self.left_out, 0)

    def block(self, rows, columns):
        return Target(self.weights[rows, columns].clone(), self.left_out[rows, columns])


def vectors(n, m, dim=3, seed=0, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randn(k, dim, dtype=torch.float64, generator=draw) for k in (n, m))
    return scale * rows, columns


def small(monkeypatch, height, width, kept=0):
    monkeypatch.setattr(blocks, "CACHED", (height, width))
    monkeypatch.setattr(blocks, "KEPT", kept)


def naive(rows, columns, back, targets=None):
    """The losses of all rows, one candidate after the other."""
    n, m = len(rows), len(columns)
    weights, left_out = (targets.weights, targets.left_out) if targets else (torch.eye(n, m), torch.zeros(n, m))

    def loss(candidates):
        """Cross-entropy over pairs (row, column) of candidates."""
        kept = [(float(weights[i, j]), rows[i] @ columns[j]) for i, j in candidates if not left_out[i, j]]
        highest = max(z.detach() for _, z in kept)
        total = highest + torch.stack([torch.exp(z - highest) for _, z in kept]).sum().log()
        return sum(w * (total - z) for w, z in kept) / sum(w for w, _ in kept)

    there = [loss([(i, j) for j in range(m)]) for i in range(n)]
    if not back:
        return torch.stack(there)
    return torch.stack([(there[j] + loss([(i, j) for i in range(n)])) / 2 for j in range(n)])


def gradients(losses, tensors):
    """Of a sum of the losses in which every row has a weight of its own."""
    return torch.autograd.grad((losses * torch.linspace(-1, 2, len(losses), dtype=losses.dtype)).sum(), tensors)


SHAPES = [(1, 1), (1, 4), (5, 5), (7, 12)]
every_shape = pytest.mark.parametrize(("n", "m"), SHAPES)
both_ways = pytest.mark.parametrize("back", [False, True])
with_targets = pytest.mark.parametrize("soft", [False, True], ids=["own", "soft"])
sizes = pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 2), (100, 100)])
scales = pytest.mark.parametrize("scale", [1.0, 500.0], ids=["shallow", "steep"])


@every_shape
@both_ways
@with_targets
@sizes
@scales
@pytest.mark.parametrize("kept", [0, 1000], ids=["again", "kept"])
def test_losses_and_gradients_equal_the_naive_loop(monkeypatch, n, m, back, soft, height, width, scale, kept):
    small(monkeypatch, height, width, kept)
    rows, columns = (v.requires_grad_() for v in vectors(n, m, scale=scale))
    targets = Given(n, m) if soft else None
    expected = naive(rows, columns, back, targets)
    found = find_own(rows, columns, back=back, targets=targets)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(gradients(found, (rows, columns)), gradients(expected, (rows, columns)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@both_ways
@with_targets
@scales
def test_gradient_by_differences(monkeypatch, back, soft, scale):
    small(monkeypatch, 2, 3)
    rows, columns = (v.requires_grad_() for v in vectors(5, 7, scale=scale))
    targets = Given(5, 7) if soft else None
    assert torch.autograd.gradcheck(lambda a, b: find_own(a, b, back=back, targets=targets), (rows, columns))
    asked = 3
    assert torch.autograd.gradcheck(
        lambda a, b: find_own(a, b, back=back, asked=asked, targets=targets), (rows, columns)
    )


@both_ways
@with_targets
@scales
@pytest.mark.parametrize("asked", [0, 1, 4, 6])
def test_the_first_losses_alone_are_those_of_all(monkeypatch, back, soft, scale, asked):
    small(monkeypatch, 2, 3)
    rows, columns = (v.requires_grad_() for v in vectors(6, 8, scale=scale))
    targets = Given(6, 8) if soft else None
    whole = find_own(rows, columns, back=back, targets=targets)[:asked]
    alone = find_own(rows, columns, back=back, asked=asked, targets=targets)
    torch.testing.assert_close(alone, whole, rtol=1e-12, atol=1e-12)
    for a, b in zip(gradients(alone, (rows, columns)), gradients(whole, (rows, columns)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@both_ways
def test_everything_left_out_but_the_own_place_costs_nothing(monkeypatch, back):
    small(monkeypatch, 2, 3)
    rows, columns = (v.requires_grad_() for v in vectors(5, 7))
    losses = find_own(rows, columns, back=back, targets=Given(5, 7, left_out=2.0))
    assert (losses.abs() < 1e-12).all()
    assert all((gradient.abs() < 1e-12).all() for gradient in gradients(losses, (rows, columns)))
    steep = find_own(1e4 * rows, columns, back=back, targets=Given(5, 7, left_out=2.0))
    assert (steep.abs() < 1e-9).all()


@both_ways
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-6, 43.0, 45.0, 100.0, 1e5])
def test_no_temperature_overflows(monkeypatch, back, dtype, scale):
    """Own places alike, opposite and in between; all rows alike."""
    small(monkeypatch, 2, 3)
    columns = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=dtype)
    for rows in (scale * columns.roll(2, dims=0), scale * columns, scale * torch.ones_like(columns) / 2**0.5):
        rows, places = rows.requires_grad_(), columns.clone().requires_grad_()
        losses = find_own(rows, places, back=back)
        expected = naive(rows.double(), places.double(), back).to(dtype)
        torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5 + scale * torch.finfo(dtype).eps)
        assert all(torch.isfinite(gradient).all() for gradient in gradients(losses, (rows, places)))


def test_ties_cost_the_logarithm_of_their_number():
    rows = torch.ones(9, 2, dtype=torch.float64)
    losses = find_own(rows, torch.ones(12, 2, dtype=torch.float64), back=True)
    torch.testing.assert_close(losses, torch.full_like(losses, (math.log(12) + math.log(9)) / 2))


def test_only_what_learns_gets_a_gradient():
    rows, columns = vectors(4, 6)
    find_own(rows.requires_grad_(), columns, back=True).sum().backward()
    assert rows.grad is not None
    assert columns.grad is None


@with_targets
@scales
@pytest.mark.parametrize("kept", [0, 1000], ids=["again", "kept"])
def test_a_gradient_can_be_asked_for_again(monkeypatch, soft, scale, kept):
    small(monkeypatch, 2, 3, kept)
    rows, columns = (v.requires_grad_() for v in vectors(5, 7, scale=scale))
    total = find_own(rows, columns, back=True, targets=Given(5, 7) if soft else None).sum()
    first, second = (torch.autograd.grad(total, (rows, columns), retain_graph=True) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_half_precision_around_it_does_not_reach_in():
    rows, columns = (v.float().requires_grad_() for v in vectors(6, 8, dim=64))
    plain = find_own(rows, columns, back=True)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = find_own(rows, columns, back=True)
        within = gradients(mixed, (rows, columns))
    assert torch.equal(mixed, plain)
    for a, b in zip(within, gradients(plain, (rows, columns)), strict=True):
        assert torch.equal(a, b)


def test_own_elements_of_a_block():
    matrix = torch.arange(35).reshape(5, 7)
    for rows in (slice(0, 2), slice(1, 5), slice(3, 4)):
        for columns in (slice(0, 3), slice(2, 4), slice(4, 7), slice(5, 7)):
            which, values = own(rows, columns, matrix[rows, columns])
            expected = [i for i in range(5) if rows.start <= i < rows.stop and columns.start <= i < columns.stop]
            assert list(range(5))[which] == expected
            assert values.tolist() == [matrix[i, i] for i in expected]
