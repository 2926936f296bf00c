import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.encoders import towers
from graticule.encoders.towers import TRUNKS, Tower, tower, trunk
from graticule.errors import DataError, SettingError


def correlated(rows=400, width=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, width)) @ rng.normal(size=(width, width)) * 10.0 ** np.arange(width) + 5


def test_statistics_equal_the_naive_loop():
    features = correlated(50, 3)
    built = tower(3).fit_statistics(features)
    for column in range(3):
        values = [float(row[column]) for row in features]
        mean = math.fsum(values) / 50
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / 50)
        assert built.mean[column].item() == pytest.approx(mean, rel=1e-6)
        assert built.deviation[column].item() == pytest.approx(deviation, rel=1e-6)


def test_targets_are_standardised():
    features = torch.from_numpy(correlated())
    targets = tower(6).fit_statistics(features).targets(features).double()
    torch.testing.assert_close(targets.mean(0), torch.zeros(6).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(targets.std(0, correction=0), torch.ones(6).double(), atol=1e-4, rtol=0)


def test_whitened_targets_have_the_softened_spectrum():
    """Columns divided by the root of their deviation: covariance diag(sqrt(eigenvalue)) of the correlation matrix."""
    features = correlated()
    targets = tower(6, whiten=4).fit_statistics(features).targets(torch.from_numpy(features)).double().numpy()
    eigenvalues = np.sort(np.linalg.eigvalsh(np.corrcoef(features.T)))[::-1][:4]
    np.testing.assert_allclose(np.cov(targets.T, bias=True), np.diag(np.sqrt(eigenvalues)), atol=2e-3)


def test_statistics_do_not_depend_on_chunks_order_of_rows_or_kind_of_array(monkeypatch):
    features = correlated(100).astype(np.float32)
    expected = tower(6, whiten=3).fit_statistics(features).state_dict()
    monkeypatch.setattr(towers, "CHUNK", 7)
    found = tower(6, whiten=3).fit_statistics(torch.from_numpy(features[::-1].copy())).state_dict()
    for name in ("mean", "deviation", "components"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)


def test_constant_and_repeated_columns_stay_finite():
    features = np.random.default_rng(0).normal(size=(64, 3))
    features = np.concatenate([features, features, np.full((64, 2), 7.0)], axis=1)
    built = tower(8, whiten=8).fit_statistics(features)
    targets = built.targets(torch.from_numpy(features))
    assert torch.isfinite(targets).all()
    assert (targets.std(0) > 1e-3).sum() == 3
    changed = torch.from_numpy(features).clone()
    changed[:, 6:] += 1
    assert tower(8).fit_statistics(features).targets(changed)[:, 6:].max() == 1


def test_whiten_is_cut_to_the_width():
    assert tower(5, whiten=96).config["whiten"] == 5
    assert tower(5, whiten=96).targets_dim == 5
    assert tower(100, whiten=96).targets_dim == 96
    assert tower(100).targets_dim == 100


@pytest.mark.parametrize("features", [np.zeros((0, 4)), np.zeros((3, 5)), np.zeros(4)])
def test_ill_shaped_training_features(features):
    with pytest.raises(DataError, match=r"\(n, 4\)"):
        tower(4).fit_statistics(features)


def test_nan_in_training_features_is_named():
    features = np.ones((5, 4))
    features[3, 2] = np.nan
    with pytest.raises(DataError, match="column 2"):
        tower(4).fit_statistics(features)


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("whiten", [0, 3])
def test_head_in_closed_form_and_rebuilding(head, whiten):
    features = torch.from_numpy(correlated(30)).float()
    built = tower(6, dim=5, head=head, hidden=7, whiten=whiten).fit_statistics(features).eval()
    x = (features - built.mean) / built.deviation
    x = x @ built.components if whiten else x
    layers = [layer for layer in built.head if isinstance(layer, torch.nn.Linear)]
    expected = x @ layers[0].weight.T + layers[0].bias
    if head == "mlp":
        expected = torch.nn.functional.gelu(expected) @ layers[1].weight.T + layers[1].bias
    torch.testing.assert_close(built(features), expected, atol=1e-5, rtol=1e-5)
    again = tower(**built.config)
    again.load_state_dict(built.state_dict())
    assert torch.equal(again.eval()(features), built(features))


def test_without_a_head_the_standardised_features_are_the_vectors():
    features = torch.from_numpy(correlated(30)).float()
    built = tower(6, dim=6, head="none").fit_statistics(features)
    assert torch.equal(built(features), built.targets(features))
    assert not list(built.parameters())


def test_dropout_only_while_training():
    built, features = tower(6, head="linear", dropout=0.5), torch.ones(40, 6)
    assert built(features).std(0).max() > 0
    assert built.eval()(features).std(0).max() < 1e-6


def test_statistics_are_no_parameters():
    built = tower(6, whiten=3)
    assert {name.split(".")[0] for name, _ in built.named_parameters()} == {"head"}
    assert {"mean", "deviation", "components"} <= set(built.state_dict())


@given(
    st.integers(0, 5),
    st.sampled_from(["linear", "mlp"]),
    st.sampled_from([torch.float16, torch.float32, torch.float64]),
)
@settings(deadline=None, max_examples=20)
def test_any_number_of_rows_of_any_float(rows, head, dtype):
    vectors = tower(4, dim=3, head=head, hidden=8)(torch.ones(rows, 4, dtype=dtype))
    assert vectors.shape == (rows, 3)
    assert vectors.dtype == torch.float32


def test_trainable_trunk_reads_raw_pixels_and_learns():
    torch.manual_seed(0)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 6000, (8, 12, 16, 16)).astype(np.uint16))
    built = tower(dim=4, trunk="multispectral", bands=12)
    goal = torch.randn(8, 4)
    optimiser = torch.optim.AdamW(built.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = (built(pixels) - goal).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(parameter.grad is not None for parameter in built.parameters())
    again = tower(**built.config)
    again.load_state_dict(built.state_dict())
    assert torch.equal(again.eval()(pixels), built.eval()(pixels))
    assert built(pixels[:0]).shape == (0, 4)
    assert built.targets_dim == 0
    assert built.fit_statistics(pixels) is built


def test_trainable_trunk_under_bfloat16():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 6000, (4, 13, 16, 16)).astype(np.uint16))
    built = tower(13, dim=4, trunk="multispectral")
    assert built.config["bands"] == 13
    with torch.autocast("cpu", torch.bfloat16):
        near = built(pixels)
    torch.testing.assert_close(near.float(), built(pixels), atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_dim": 4, "head": "mpl"}, "'mlp'"),
        ({"in_dim": 4, "dim": 6, "head": "none"}, "shared=4"),
        ({}, "needs in_dim"),
        ({"trunk": "sentence"}, "trainable trunk 'sentence'"),
        ({"in_dim": 4, "whiten": -1}, "whiten"),
        ({"trunk": "multispectral", "whiten": 8}, "whiten"),
        ({"trunk": "multispectral", "bands": 4}, "bands=4"),
    ],
)
def test_impossible_towers(options, message):
    with pytest.raises(SettingError, match=message):
        tower(**options)


def test_wrong_width_is_named():
    with pytest.raises(DataError, match=r"\(n, 4\), got \(2, 3\)"):
        Tower(4)(torch.ones(2, 3))


def test_unknown_trunks_and_options():
    with pytest.raises(SettingError, match="Did you mean 'ngram'"):
        trunk("ngrams")
    with pytest.raises(SettingError, match="'dim'"):
        trunk("ngram", dims=3)
    assert sorted(TRUNKS) == ["multispectral", "ngram", "photo", "regions", "sentence", "statistics"]


def test_trunks_are_imported_when_called(monkeypatch):
    monkeypatch.delitem(sys.modules, "graticule.encoders.text", raising=False)
    assert "graticule.encoders.text" not in sys.modules
    trunk("ngram", dim=8)
    assert "graticule.encoders.text" in sys.modules
