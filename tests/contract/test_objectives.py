"""What is demanded of every contrastive objective."""

from itertools import pairwise

import pytest
import torch

from graticule.geo.coords import uniform_places
from graticule.objectives.contrastive import AllToAllInfoNCE, CspLoss, MultiPairNTXent, PairwiseInfoNCE
from graticule.objectives.geography import Nearness
from graticule.objectives.softmax import Pair

NAMES = ["text", "image", "photo"]
NEAR = Nearness({"text": 3e3, "image": 5e3, "photo": 0.0}, {"text": 900.0, "image": 0.0, "photo": 900.0}, coarse=0.5)
OBJECTIVES = {
    "pairwise": lambda **o: PairwiseInfoNCE(NAMES, **o),
    "pairwise one way": lambda **o: PairwiseInfoNCE(NAMES, symmetric=False, **o),
    "multi-pair": lambda **o: MultiPairNTXent(NAMES, **o),
    "multi-pair symmetric": lambda **o: MultiPairNTXent(NAMES, symmetric=True, **o),
    "pairwise soft": lambda **o: PairwiseInfoNCE(NAMES, near=NEAR, **o),
    "pairwise prefixes": lambda **o: PairwiseInfoNCE(NAMES, near=NEAR, prefixes=(2, 4), **o),
    "multi-pair soft": lambda **o: MultiPairNTXent(NAMES, near=NEAR, **o),
    "multi-pair symmetric prefixes": lambda **o: MultiPairNTXent(NAMES, symmetric=True, prefixes=(2, 4), **o),
    "csp": lambda **o: CspLoss(NAMES, **o),
    "all-to-all": lambda **o: AllToAllInfoNCE(NAMES, **o),
}
every = pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES)


def batch(dtype=torch.float64, n=6, dim=4, grad=False):
    torch.manual_seed(0)

    def drawn(rows):
        return torch.randn(rows, dim, dtype=torch.float64).to(dtype).requires_grad_(grad)

    def places(rows, seed):
        return torch.from_numpy(uniform_places(rows, seed=seed))

    return [
        Pair(name, drawn(n), drawn(n), drawn(n), drawn(5), places(n, i), places(5, 9)) for i, name in enumerate(NAMES)
    ]


def tensors(pairs, make):
    used = ["location", "modality"]
    used += ["second_view"] if make is OBJECTIVES["csp"] else []
    used += ["other_places"] if make is not OBJECTIVES["all-to-all"] else []
    return {(p.name, name): getattr(p, name) for p in pairs for name in used}


@every
def test_order_of_rows_does_not_count(make):
    pairs, order = batch(), torch.randperm(6, generator=torch.Generator().manual_seed(1))
    turned = [Pair(p.name, *(t[order] for t in p[1:4]), p.other_places, p.lonlat[order], p.other_lonlat) for p in pairs]
    expected, found = make()(pairs), make()(turned)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@every
def test_pairing_of_rows_does_count(make):
    pairs = batch()
    torn = [p._replace(modality=p.modality.roll(i + 1, dims=0)) for i, p in enumerate(pairs)]
    assert abs(make()(torn)["loss"].item() - make()(pairs)["loss"].item()) > 1e-3


@every
def test_order_of_modalities_does_not_count(make):
    torch.testing.assert_close(make()(batch()[::-1])["loss"], make()(batch())["loss"])


@every
def test_lengths_of_vectors_do_not_count(make):
    pairs = batch()
    longer = [
        Pair(p.name, 3 * p.location, p.modality / 2, 7 * p.second_view, 2 * p.other_places, *p[5:]) for p in pairs
    ]
    torch.testing.assert_close(make()(longer)["loss"], make()(pairs)["loss"])


@every
def test_float32_agrees_with_float64(make):
    exact, rough = make()(batch()), make()(batch(torch.float32))
    for name, value in exact.items():
        assert value.dtype == torch.float64
        assert rough[name].dtype == torch.float32
        assert rough[name].item() == pytest.approx(value.item(), rel=1e-4)


@every
def test_parts_are_named_scalars(make):
    losses = make()(batch())
    assert "loss" in losses
    assert len(losses) > 1
    assert all(value.shape == () and torch.isfinite(value) for value in losses.values())


@every
@pytest.mark.parametrize("cuts", [(2,), (0, 1, 4), (6,)])
def test_parts_sum_up_to_the_whole(make, cuts):
    """Of losses and of gradients, as several processes ask for them; a part may be empty."""
    ends = (0, *cuts, 6)
    pairs, objective = batch(grad=True), make()
    learned = [*tensors(pairs, make).values(), *objective.parameters()]
    whole = objective(pairs)
    expected = torch.autograd.grad(whole["loss"], learned)
    parts = [objective([p._replace(part=slice(*ends)) for p in pairs]) for ends in pairwise(ends)]
    for name, value in whole.items():
        torch.testing.assert_close(sum(part[name] for part in parts), value, rtol=1e-6, atol=1e-9)
    found = torch.autograd.grad(sum(part["loss"] for part in parts), learned)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@every
def test_everybody_has_a_gradient(make):
    pairs, objective = batch(grad=True), make()
    objective(pairs)["loss"].backward()
    for name, tensor in tensors(pairs, make).items():
        assert tensor.grad is not None, name
        assert torch.isfinite(tensor.grad).all(), name
        assert (tensor.grad.abs().sum(dim=1) > 1e-9).all(), name
    for name, parameter in objective.named_parameters():
        assert abs(parameter.grad.item()) > 1e-9, name


@every
def test_gradients_are_finite_at_the_extremes(make):
    """All rows alike, one row of zeros, and a temperature at which most shares underflow."""
    pairs = [p._replace(location=torch.ones(6, 4), modality=torch.ones(6, 4)) for p in batch(torch.float32)]
    pairs[0].modality[0] = 0
    for p in pairs:
        p.location.requires_grad_()
        p.modality.requires_grad_()
    objective = make(temperature=1e-3, learn_temperature=False)
    objective(pairs)["loss"].backward()
    assert all(torch.isfinite(t.grad).all() for p in pairs for t in (p.location, p.modality))


@every
def test_a_few_steps_lower_the_loss(make):
    pairs, objective = batch(grad=True), make(temperature=0.5)
    optimiser = torch.optim.SGD([*tensors(pairs, make).values(), *objective.parameters()], lr=0.1)
    values = []
    for _ in range(8):
        loss = objective(pairs)["loss"]
        values.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(later < earlier for earlier, later in pairwise(values))
    assert values[-1] < 0.98 * values[0]


@every
def test_temperature_is_learned_only_when_asked(make):
    assert {n for n, p in make().named_parameters() if p.requires_grad} == {f"scale.log_scale.{n}" for n in NAMES}
    assert not any(p.requires_grad for p in make(learn_temperature=False).parameters())
