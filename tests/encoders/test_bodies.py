"""Networks: initial distributions from the papers, formulas written out, counts of parameters."""

import math

import pytest
import torch

from graticule.encoders.bodies import BODIES, Capsules, Sine, Siren, body, body_options
from graticule.errors import SettingError


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", sorted(BODIES))
def test_shape_and_no_rows(name):
    network = body(name, 12, 7)
    assert network(torch.randn(5, 12)).shape == (5, 7)
    assert network(torch.randn(0, 12)).shape == (0, 7)


@pytest.mark.parametrize("name", sorted(BODIES.keys() - {"linear"}))
def test_width_and_depth_change_the_size(name):
    def size(**options):
        return sum(p.numel() for p in body(name, 12, 7, **options).parameters())

    assert size(width=8, depth=2) < size(width=16, depth=2) < size(width=16, depth=4)
    assert size() == size(**{key: body_options(name)[key] for key in ("width", "depth")})


@pytest.mark.parametrize("variance", [1 / 3, 1 / (4 * math.pi), 0.5])
def test_first_sine_layer_starts_with_the_spread_of_the_paper(variance):
    """Sitzmann 2020, section 3.2: w0 W x with W from U(-1/n, 1/n) and x from U(-1, 1) has variance w0^2 / 9n."""
    layer = Sine(400, 4000, 30.0, first=True, variance=variance)
    x = torch.randn(500, 400) * math.sqrt(variance)
    spread = 30 * (x @ layer.linear.weight.T).std()
    assert spread.item() == pytest.approx(30 / math.sqrt(9 * 400), rel=0.02)


@pytest.mark.parametrize("w0", [1.0, 30.0])
def test_sine_layers_keep_their_distribution_with_depth(w0):
    """Theorem 1.8 of the paper's supplement: pre-activations stay normal with variance near 1 at every depth."""
    x = torch.rand(2000, 3) * 2 - 1
    network = Siren(3, 4, width=512, depth=6, w0=w0)
    *layers, _ = network
    for layer in layers:
        before, x = x, layer(x)
    spread = (w0 * layers[-1].linear(before)).std().item()
    assert 0.8 < spread < 1.3
    assert x.square().mean().item() == pytest.approx(0.5, abs=0.1)


def test_siren_is_the_formula():
    network = Siren(3, 2, width=5, depth=2, w0_first=7.0, w0=2.0)
    (w1, b1), (w2, b2), (w3, b3) = [(m.weight, m.bias) for m in network.modules() if isinstance(m, torch.nn.Linear)]
    x = torch.randn(6, 3)
    hidden = torch.sin(2.0 * (torch.sin(7.0 * (x @ w1.T + b1)) @ w2.T + b2))
    torch.testing.assert_close(network(x), hidden @ w3.T + b3)


def test_dropout_before_the_sine_acts_in_training_only():
    network = Siren(3, 2, dropout=0.5)
    x = torch.randn(4, 3)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_residual_siren_stays_within_one():
    network = body("residual-siren", 10, 3, depth=5)
    hidden = 100 * torch.randn(50, 10)
    for layer in list(network)[:-1]:
        hidden = layer(hidden)
    assert hidden.abs().max() <= 1


def deep_residual_siren(places, width, depth):
    """Untrained, with 4 outputs, and what each of its blocks hands on."""
    network, handed = body("residual-siren", 3, 4, width=width, depth=depth), []
    for block in list(network)[1:-1]:
        block.register_forward_hook(lambda _module, _inputs, out: handed.append(out))
    return network, network(places), handed


@pytest.mark.parametrize("depth", [16, 40])
def test_a_deep_residual_siren_starts_steady(depth):
    """What differs between places settles in five blocks and stays, in every unit; gradients are alike."""
    places = torch.nn.functional.normalize(torch.randn(1000, 3), dim=1)
    network, out, handed = deep_residual_siren(places, 256, depth)
    variances = torch.stack([values.var(0).mean() for values in handed[4:]])
    assert 0.04 < variances.min() < variances.max() < 0.09
    assert handed[-1].std(0).min() > 0.1
    out.square().sum().backward()
    gradients = torch.stack([block.branch[0].linear.weight.grad.norm() for block in list(network)[1:-1]])
    assert torch.isfinite(gradients).all()
    assert gradients.max() < 10 * gradients.min()


def test_a_deep_residual_siren_learns():
    places = torch.nn.functional.normalize(torch.randn(512, 3), dim=1)
    network, _, _ = deep_residual_siren(places, 64, 16)
    target = torch.stack([torch.sin(4 * places[:, 0]), places[:, 1] * places[:, 2]], 1).repeat(1, 2)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(80):
        loss = (network(places) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    assert max(losses[20:]) < losses[0]


def test_residual_mlp_without_branches_is_linear():
    network = body("residual-mlp", 6, 4, width=8, depth=2, norm=False)
    for block in list(network)[1:3]:
        torch.nn.init.zeros_(block.branch[3].weight)
        torch.nn.init.zeros_(block.branch[3].bias)
    x = torch.randn(5, 6)
    torch.testing.assert_close(network(x), network[-1](network[0](x)))


def test_capsules_are_summed_parts_of_the_size_of_geoclip():
    network = Capsules(3 * 512, 512)
    assert sum(p.numel() for p in network.parameters()) == 9_447_936  # the published 9.45M
    x = torch.randn(2, 3 * 512)
    expected = sum(part(x[:, 512 * i : 512 * (i + 1)]) for i, part in enumerate(network.parts))
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: body("sirn", 3, 2), "Did you mean 'siren'"),
        (lambda: body("mlp", 3, 2, w0=3.0), "Unknown option of body 'mlp' 'w0'"),
        (lambda: body("linear", 3, 2, width=3), "'width'"),
        (lambda: body("mlp", 3, 2, activation="gelo"), "Did you mean 'gelu'"),
        (lambda: body("mlp", 3, 2, width=0), "width"),
        (lambda: body("siren", 3, 2, depth=0), "depth"),
        (lambda: body("capsules", 10, 2), "3 equal parts, got 10"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(SettingError, match=message):
        build()
