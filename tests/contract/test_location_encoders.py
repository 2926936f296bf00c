"""The list of demands on every location encoder: each basis, each body, each preset."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from graticule.encoders import numpy_bodies
from graticule.encoders.bases import BASES, build_basis
from graticule.encoders.bodies import BODIES, body_options
from graticule.encoders.location import PRESETS, LocationEncoder, location_encoder
from graticule.encoders.numpy_location import BASIS_ROWS, BODY_ROWS, NumpyLocation
from graticule.errors import CacheError, SettingError
from graticule.geo.coords import uniform_places
from graticule.weights import Weights

SMALL_BASES = {
    "harmonics": {"max_degree": 8},
    "hash-grid": {"levels": 4, "finest": 60, "log2_entries": 9, "init_scale": 1.0},
    "spherical-fourier": {"frequencies_per_scale": 16},
    "equal-earth": {"frequencies_per_sigma": 16},
    "space2vec": {"radii": 6},
    "sphere2vec": {"radii": 6},
    "slepian": {"bandlimit": 8, "functions": 30},
    "voronoi": {"sites": 80, "nearest": 6, "site_features": 12},
}
SMALL_BODIES = {name: {"width": 24, "depth": 2} for name in BODIES.keys() - {"linear"}}

CASES = {f"{name} mlp": dict(name=name, body="mlp", dim=12, **SMALL_BASES.get(name, {})) for name in BASES}
CASES |= {
    f"harmonics {name}": dict(name="harmonics", body=name, dim=12, **SMALL_BASES["harmonics"])
    for name in BODIES
    if name != "capsules"
}
CASES |= {name: {"name": name, "width": 24} for name in PRESETS}
CASES["joined"] = dict(name="harmonics+hash-grid", **SMALL_BASES["harmonics"], **SMALL_BASES["hash-grid"])
CASES["joined cells"] = dict(
    name="harmonics+voronoi+slepian", **SMALL_BASES["harmonics"], **SMALL_BASES["voronoi"], **SMALL_BASES["slepian"]
)
CASES |= {
    f"{kind}, {activation}, {without}": dict(
        name="cartesian", body=kind, dim=12, activation=activation, **({"norm": False} if without else {})
    )
    for kind, activation, without in [
        ("mlp", "relu", ""),
        ("mlp", "silu", ""),
        ("residual-mlp", "silu", "without norm"),
        ("residual-mlp", "relu", ""),
    ]
}
CASES["capsules alone"] = dict(name="spherical-fourier", body="capsules", dim=12, **SMALL_BASES["spherical-fourier"])
CASES["float64 basis"] = dict(name="harmonics", body="mlp", dim=12, dtype="float64", **SMALL_BASES["harmonics"])
CASES["low frequency"] = CASES["spherical-fourier mlp"] | {"low_frequency": 4}
CASES = {
    k: v | ({} if v.get("body") == "linear" or "width" in v else {"width": 24, "depth": 2}) for k, v in CASES.items()
}

POLES = [(lon, lat) for lat in (-90.0, 90.0) for lon in (-180.0, -77.0, 0.0, 33.3, 180.0)]
SEAM = [(lon, lat) for lat in (-89.9, -40.0, 0.0, 66.6) for lon in (-180.0, 180.0, np.nextafter(180, 0))]
PLACES = torch.from_numpy(np.concatenate([uniform_places(60), POLES, SEAM]))


@pytest.fixture(params=sorted(CASES))
def encoder(request):
    return location_encoder(**CASES[request.param]).eval()


def test_shape_dtype_and_finite(encoder):
    assert isinstance(encoder, LocationEncoder)
    out = encoder(PLACES)
    assert out.shape == (len(PLACES), encoder.dim)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    assert out.std(0).min() > 0


def test_no_rows(encoder):
    assert encoder(PLACES[:0]).shape == (0, encoder.dim)


def test_seams_are_closed_or_declared(encoder):
    lats = torch.linspace(-90, 90, 19, dtype=torch.float64)
    west, east = (torch.stack([torch.full_like(lats, lon), lats], 1) for lon in (-180 + 1e-9, 180 - 1e-9))
    lons = torch.linspace(-180, 180, 19, dtype=torch.float64)
    north, south = (torch.stack([lons, torch.full_like(lons, lat)], 1) for lat in (90.0, -90.0))
    with torch.no_grad():
        gaps = [encoder(west) - encoder(east), *(encoder(pole) - encoder(pole[:1]) for pole in (north, south))]
        size = encoder(PLACES).std()
    assert encoder.seamless == (max(gap.abs().max() for gap in gaps) < 1e-3 * size)


def test_a_row_depends_on_nothing_but_its_place(encoder):
    whole = encoder(PLACES)
    order = torch.randperm(len(PLACES), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encoder(PLACES[order]), whole[order], rtol=1e-4, atol=1e-5)
    alone = torch.cat([encoder(PLACES[i : i + 1]) for i in range(12)])
    torch.testing.assert_close(alone, whole[:12], rtol=1e-4, atol=1e-5)
    twice = encoder(PLACES[:1].repeat(9, 1))
    torch.testing.assert_close(twice, twice[:1].expand(9, -1), rtol=1e-5, atol=1e-6)


def test_config_and_weights_are_the_whole_encoder(encoder, tmp_path):
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)
    torch.save(encoder.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps(encoder.config))
    again = location_encoder(**json.loads((tmp_path / "config.json").read_text())).eval()
    assert not torch.equal(again(PLACES), encoder(PLACES))
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(again(PLACES), encoder(PLACES))
    assert again.config == encoder.config


def test_gradients_reach_every_parameter(encoder):
    encoder.train()
    encoder(PLACES).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_features_are_what_the_body_sees(encoder):
    features = encoder.features(PLACES)
    assert features.shape == (len(PLACES), encoder.basis.basis.dim)
    assert torch.equal(encoder(PLACES, features), encoder(PLACES))


def test_columns_that_training_leaves_alone_may_be_handed_in(encoder):
    """They do not change with the weights, and with them the features are what they are without."""
    known = encoder.basis.constant(PLACES)
    assert known.shape == (len(PLACES), encoder.basis.constant_dim)
    assert torch.equal(encoder.features(PLACES, known), encoder.features(PLACES))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)
    assert torch.equal(encoder.basis.constant(PLACES), known)


def test_same_seed_same_weights_and_no_trace_in_the_global_state(encoder):
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    same = location_encoder(**encoder.config).eval()
    other = location_encoder(**encoder.config | {"seed": 1}).eval()
    assert torch.equal(torch.random.get_rng_state(), state)
    fresh = location_encoder(**encoder.config).eval()
    assert torch.equal(same(PLACES), fresh(PLACES))
    assert not torch.equal(same(PLACES), other(PLACES))


def test_a_few_steps_lower_a_loss(encoder):
    """A head on the embedding of half the places learns to tell north from south."""
    target = torch.sin(torch.deg2rad(PLACES[:, 1:])).float()
    torch.manual_seed(0)
    head = torch.nn.Linear(encoder.dim, 1)
    optimiser = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 3e-3)
    losses = []
    for _ in range(40):
        loss = (head(encoder(PLACES)) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def weights_of(encoder, dtype=np.float32, **changed):
    state = {f"location.{name}": tensor.numpy().astype(dtype) for name, tensor in encoder.state_dict().items()}
    return Weights(Path("run"), state | changed, "location.")


@pytest.fixture
def moved(encoder):
    """The encoder with weights unlike those it starts from, as after training."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * parameter.std(correction=0).clamp(0.05) * torch.randn_like(parameter))
    return encoder.requires_grad_(False)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_numpy_gives_the_vectors_of_torch(moved, dtype):
    twin = NumpyLocation(moved.config, weights_of(moved, dtype))
    moved.to(getattr(torch, dtype.__name__)).float()
    many = np.concatenate([PLACES.numpy(), uniform_places(2 * BODY_ROWS, seed=2)])
    expected, found = moved(torch.from_numpy(many)).numpy(), twin(many)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    size = np.linalg.norm(expected, axis=1).mean()
    assert np.linalg.norm(found - expected, axis=1).max() < 1e-5 * size
    alone = np.concatenate([twin(many[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(alone, found[:5], rtol=0, atol=1e-5 * size)
    assert twin(many[:0]).shape == (0, moved.dim)


def test_what_is_left_of_a_block_is_embedded_too():
    encoder = location_encoder("cartesian", body="mlp", width=8, dim=4).eval().requires_grad_(False)
    twin = NumpyLocation(encoder.config, weights_of(encoder))
    for count in (BODY_ROWS, BODY_ROWS + 1, 2 * BASIS_ROWS + 3):
        places = uniform_places(count, seed=count)
        np.testing.assert_allclose(twin(places), encoder(torch.from_numpy(places)).numpy(), rtol=0, atol=1e-5)


def test_weights_of_another_encoder_are_refused(encoder):
    config, whole = encoder.config, weights_of(encoder).arrays
    for name, array in whole.items():
        for wrong in (array[:-1], np.stack([array, array])):
            with pytest.raises(CacheError, match=rf"does not fit run/run.json: expected '{name}' of shape .* got"):
                NumpyLocation(config, Weights(Path("run"), whole | {name: wrong}, "location."))
    with pytest.raises(CacheError, match=r"expected .* got none"):
        NumpyLocation(config, Weights(Path("run"), {}, "location."))
    with pytest.raises(CacheError, match=r"unexpected 'location.body.more'"):
        NumpyLocation(config, Weights(Path("run"), whole | {"location.body.more": np.zeros(2)}, "location."))


def test_bodies_have_the_same_options_in_numpy():
    assert numpy_bodies.BODIES.keys() == BODIES.keys()
    for name, build in numpy_bodies.BODIES.items():
        parameters = inspect.signature(build).parameters.values()
        assert {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} == body_options(name)


@pytest.mark.parametrize("name", [*sorted(BASES), "harmonics+voronoi+slepian"])
def test_a_basis_knows_the_shapes_of_its_arrays(name):
    options = {k: v for part in name.split("+") for k, v in SMALL_BASES.get(part, {}).items()}
    basis = build_basis(name, **options)
    assert basis.shapes == {name: array.shape for name, array in basis.arrays().items()}


@pytest.mark.parametrize("name", sorted(BASES))
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-6), ("float64", 1e-10)])
def test_a_basis_is_the_same_in_numpy_and_torch(name, dtype, bound):
    basis = build_basis(name, **SMALL_BASES.get(name, {}), dtype=dtype)
    in_numpy, in_torch = basis(PLACES.numpy()), basis(PLACES)
    assert in_numpy.dtype == dtype
    assert in_torch.dtype == getattr(torch, dtype)
    assert in_numpy.shape == in_torch.shape == (len(PLACES), basis.dim)
    assert basis(PLACES.numpy()[:0]).shape == (0, basis.dim)
    np.testing.assert_allclose(in_torch.numpy(), in_numpy, rtol=0, atol=bound * max(1, abs(in_numpy).max()))


def test_presets_have_the_sizes_of_their_papers():
    satclip = location_encoder("satclip")
    assert (satclip.basis.basis.dim, satclip.dim, satclip.config["dropout"]) == (100, 256, 0.5)
    assert location_encoder("satclip", max_degree=39).basis.basis.dim == 1600
    geoclip = location_encoder("geoclip")
    assert geoclip.dim == 512
    assert 9.4e6 < sum(p.numel() for p in geoclip.parameters()) < 9.5e6
    assert location_encoder("csp").config["activation"] == "relu"


def test_another_body_takes_what_it_knows_of_a_preset():
    config = location_encoder("satclip", body="mlp", width=16).config
    assert (config["body"], config["max_degree"], config["dropout"]) == ("mlp", 9, 0.5)
    assert "w0_first" not in config


def test_without_a_body_worth_the_name_the_low_frequencies_still_arrive():
    encoder = location_encoder("cartesian", body="linear", dim=4, low_frequency=3)
    with torch.no_grad():
        for parameter in encoder.body.parameters():
            parameter.zero_()
    lows = build_basis("harmonics", max_degree=3)(PLACES)
    torch.testing.assert_close(encoder(PLACES), lows @ encoder.skip.weight.T)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "satclipp"}, "Did you mean 'satclip'"),
        ({"name": "harmonics", "body": "mpl"}, "Did you mean 'mlp'"),
        ({"name": "harmonics", "max_degre": 3}, "Did you mean 'max_degree'"),
        ({"name": "harmonics", "w0_first": 3}, "'w0_first'"),
        ({"name": "harmonics", "dim": 0}, "got 0"),
        ({"name": "harmonics", "low_frequency": -1}, "got -1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        location_encoder(**settings)
