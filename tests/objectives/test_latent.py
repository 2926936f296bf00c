import cmath
import math

import numpy as np
import pytest
import torch

from graticule.errors import DataError
from graticule.objectives.latent import (
    across_modalities,
    epps_pulley,
    prediction_losses,
    rank_about_zero,
    sketched_normality,
    variance_and_covariance,
)


def normals(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def naive_prediction(predicted, target):
    total = 0.0
    for guess, row in zip(predicted, target, strict=True):
        mean = sum(row) / len(row)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in row) / len(row) + 1e-5)
        for a, b in zip(guess, row, strict=True):
            apart = abs(a - (b - mean) / deviation)
            total += apart**2 / 2 if apart < 1 else apart - 0.5
    return total / len(predicted) / len(predicted[0])


def test_prediction_equals_the_naive_loop_and_modalities_count_the_same():
    predicted = {"entities": 2 * normals(3, 4), "patches": normals(50, 4, seed=1)}
    targets = {"entities": 5 * normals(3, 4, seed=2) + 3, "patches": normals(50, 4, seed=3)}
    losses = prediction_losses(predicted, targets)
    parts = [naive_prediction(predicted[name].tolist(), targets[name].tolist()) for name in predicted]
    assert losses["prediction/entities"].item() == pytest.approx(parts[0], abs=1e-9)
    assert losses["prediction/patches"].item() == pytest.approx(parts[1], abs=1e-9)
    assert losses["prediction"].item() == pytest.approx(sum(parts) / 2, abs=1e-9)


def test_a_modality_without_targets_is_left_out_of_the_mean():
    predicted = {"entities": normals(3, 4), "patches": normals(0, 4)}
    losses = prediction_losses(predicted, {"entities": normals(3, 4, seed=1), "patches": normals(0, 4)})
    assert losses["prediction/patches"].item() == 0
    assert losses["prediction"] == losses["prediction/entities"]
    assert prediction_losses({"entities": normals(0, 4)}, {"entities": normals(0, 4)})["prediction"].item() == 0


@pytest.mark.parametrize("stop", [True, False])
def test_targets_have_a_gradient_only_when_asked(stop):
    predicted, target = normals(3, 4).requires_grad_(), normals(3, 4, seed=1).requires_grad_()
    prediction_losses({"a": predicted}, {"a": target}, stop_gradient=stop)["prediction"].backward()
    assert predicted.grad.abs().sum() > 0
    assert target.grad is None if stop else target.grad.abs().sum() > 0


def test_predictions_of_other_shapes_are_refused():
    with pytest.raises(DataError, match=r"'a'.*\(3, 4\) and \(2, 4\)"):
        prediction_losses({"a": normals(3, 4)}, {"a": normals(2, 4)})


def test_variance_and_covariance_equal_the_naive_loops():
    """Bardes 2022, eq. 1-4, with gamma 1 and epsilon 1e-4."""
    vectors = normals(7, 3) @ normals(3, 3, seed=1) * 0.7
    n, d, rows = 7, 3, vectors.tolist()
    mean = [sum(row[j] for row in rows) / n for j in range(d)]
    c = [[sum((r[i] - mean[i]) * (r[j] - mean[j]) for r in rows) / (n - 1) for j in range(d)] for i in range(d)]
    hinge = sum(max(0.0, 1 - math.sqrt(c[j][j] + 1e-4)) for j in range(d)) / d
    off = sum(c[i][j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    variance, covariance = variance_and_covariance(vectors)
    assert variance.item() == pytest.approx(hinge, abs=1e-9)
    assert covariance.item() == pytest.approx(off, abs=1e-9)


def test_collapsed_vectors_have_full_variance_loss_and_a_finite_slope():
    vectors = torch.ones(5, 3, requires_grad=True)
    variance, covariance = variance_and_covariance(vectors)
    assert variance.item() == pytest.approx(0.99)
    assert covariance.item() == 0
    (variance + covariance).backward()
    assert torch.isfinite(vectors.grad).all()


def test_epps_pulley_equals_the_naive_quadrature():
    values = normals(9, 2)
    for column in range(2):
        x = values[:, column].tolist()
        knots = [-5 + 10 * i / 16 for i in range(17)]
        heights = []
        for t in knots:
            phi = sum(cmath.exp(1j * t * value) for value in x) / len(x)
            heights.append(abs(phi - math.exp(-t * t / 2)) ** 2 * math.exp(-t * t / 2))
        area = sum((heights[i] + heights[i + 1]) / 2 * 10 / 16 for i in range(16))
        assert epps_pulley(values)[column].item() == pytest.approx(len(x) * area, abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_epps_pulley_is_near_its_closed_form(shift):
    """The integral over all t, by the Fourier transforms of Gaussians."""
    x = normals(40, 1) + shift
    pairs = torch.exp(-((x - x.T) ** 2) / 2).mean() * math.sqrt(2 * math.pi)
    cross = 2 * math.sqrt(math.pi) * torch.exp(-(x**2) / 4).mean()
    expected = len(x) * (pairs - cross + math.sqrt(2 * math.pi / 3))
    assert epps_pulley(x).item() == pytest.approx(expected.item(), rel=1e-3)


def test_sketched_normality_is_least_for_what_is_normal_and_follows_the_seed():
    values = normals(500, 8)
    stretched, few, collapsed = values.clone(), values.clone(), torch.zeros(500, 8, dtype=torch.float64)
    stretched[:, 0] *= 4
    few[:, 4:] = few[:, :4]

    def measured(vectors, seed=0):
        torch.manual_seed(seed)
        return sketched_normality(vectors).item()

    assert measured(values) == measured(values) != measured(values, 1)
    assert measured(values) < 2 < min(measured(stretched), measured(few), measured(values + 1))
    assert measured(collapsed) > max(measured(stretched), measured(few))


def test_a_few_steps_make_vectors_normal():
    torch.manual_seed(0)
    vectors = (0.3 * torch.randn(200, 4) + 0.7).requires_grad_()
    optimiser = torch.optim.Adam([vectors], lr=0.1)
    for _ in range(150):
        loss = sketched_normality(vectors, 16)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert vectors.mean(dim=0).abs().max() < 0.25
    assert (vectors.std(dim=0) - 1).abs().max() < 0.25


def test_across_modalities_equals_the_naive_loop():
    first, second = normals(4, 3), normals(4, 3, seed=1)

    def cosine(a, b):
        dot = sum(p * q for p, q in zip(a, b, strict=True))
        return dot / math.sqrt(sum(p * p for p in a)) / math.sqrt(sum(q * q for q in b))

    s = [[math.exp(cosine(a, b) / 0.1) for b in second.tolist()] for a in first.tolist()]
    there = sum(-math.log(s[i][i] / sum(s[i])) for i in range(4)) / 4
    back = sum(-math.log(s[i][i] / sum(s[j][i] for j in range(4))) for i in range(4)) / 4
    assert across_modalities(first, second).item() == pytest.approx((there + back) / 2, abs=1e-9)


def test_fewer_than_two_rows_cost_nothing_and_have_a_slope():
    for n in (0, 1):
        vectors = torch.ones(n, 3, requires_grad=True)
        (sum(variance_and_covariance(vectors)) + across_modalities(vectors, vectors)).backward()
        assert torch.isfinite(vectors.grad).all()
    assert sketched_normality(torch.ones(0, 3)).item() == 0


def test_rank_about_zero_equals_the_naive_formula_and_sees_a_collapse_to_a_point():
    vectors = normals(30, 5)
    singular = np.linalg.svd(vectors.numpy(), compute_uv=False)
    shares = singular / singular.sum()
    assert rank_about_zero(vectors).item() == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), abs=1e-9)
    assert rank_about_zero(1 + 1e-4 * vectors).item() < 1.01
