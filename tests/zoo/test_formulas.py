"""Each published encoder against its authors' forward pass, restated one place and one number at a time."""

import importlib
import math
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from graticule import zoo
from graticule.geo.coords import uniform_places
from graticule.zoo.satclip import AntipodalHarmonics
from tests.zoo import layouts

POLES_AND_SEAM = [(0.0, 90.0), (77.0, -90.0), (-180.0, 0.0), (180.0, 0.0), (0.0, 0.0), (-180.0, 45.0)]
PLACES = np.concatenate([uniform_places(25, seed=3), POLES_AND_SEAM])


def linear(tensors, name, x, bias=True):
    weight = tensors[f"{name}.weight"].double().tolist()
    shift = tensors[f"{name}.bias"].double().tolist() if bias else [0.0] * len(weight)
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, shift, strict=True)]


def relu(x):
    return [max(0.0, v) for v in x]


def residual(tensors, name, x):
    """x + relu(w2 relu(w1 x)): `ResLayer` of SINR and TTE without dropout."""
    y = relu(linear(tensors, f"{name}.w2", relu(linear(tensors, f"{name}.w1", x))))
    return [a + b for a, b in zip(x, y, strict=True)]


def normed(tensors, name, x):
    """nn.LayerNorm: variance over n, not n - 1."""
    mean = sum(x) / len(x)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-5)
    weight, bias = tensors[f"{name}.weight"].tolist(), tensors[f"{name}.bias"].tolist()
    return [w * (v - mean) / deviation + b for w, b, v in zip(weight, bias, x, strict=True)]


def softmax(x):
    grown = [math.exp(v - max(x)) for v in x]
    return [v / sum(grown) for v in grown]


def check(tmp_path, name, content, naive, tolerance=2e-6):
    torch.save(content, tmp_path / "weights.pt")
    vectors = zoo.load(name, tmp_path / "weights.pt").embed_points(PLACES)
    expected = np.array([naive(content, lon, lat) for lon, lat in PLACES.tolist()])
    assert vectors.dtype == np.float32
    assert vectors.shape == expected.shape
    np.testing.assert_allclose(vectors, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


# ---- SatCLIP


def legendre(degree, order, x):
    """P_l^m with the Condon-Shortley sign, by its closed sum."""

    def choose(top, k):
        return math.prod((top - i) / (i + 1) for i in range(k))

    total = sum(
        math.perm(k, order) * x ** (k - order) * math.comb(degree, k) * choose((degree + k - 1) / 2, degree)
        for k in range(order, degree + 1)
    )
    return (-1) ** order * 2**degree * (1 - x * x) ** (order / 2) * total


def analytic(degree, order, phi, theta):
    """`calc_ylm` of spherical_harmonics_generate_ylms.py, its `4 * pi` of order 0 as Python reads it."""
    m = abs(order)
    polynomial = legendre(degree, m, math.cos(theta))
    if order == 0:
        return math.sqrt((2 * degree + 1) / 4 * math.pi) * polynomial
    norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m))
    wave = math.sin(m * phi) if order < 0 else math.cos(m * phi)
    return (-1) ** order * math.sqrt(2) * norm * polynomial * wave


def closed_form(degree, order, phi, theta):
    """`SH` of spherical_harmonics_closed_form.py."""
    m = abs(order)
    norm = math.sqrt((2 * degree + 1) * math.factorial(degree - m) / (4 * math.pi * math.factorial(degree + m)))
    polynomial = norm * legendre(degree, m, math.cos(theta))
    if order == 0:
        return polynomial
    return math.sqrt(2) * polynomial * (math.sin(m * phi) if order < 0 else math.cos(m * phi))


def harmonics(formula, orders, lon, lat):
    phi, theta = math.radians(lon + 180), math.radians(lat + 90)
    return [formula(degree, m, phi, theta) for degree in range(orders) for m in range(-degree, degree + 1)]


FORMULAS = {"analytic": analytic, "closed-form": closed_form}


def naive_satclip(content, lon, lat):
    tensors, hyper = content["state_dict"], content["hyper_parameters"]
    x = harmonics(FORMULAS[hyper["harmonics_calculation"]], hyper["legendre_polys"], lon, lat)
    layer = 0
    while f"model.nnet.layers.{layer}.weight" in tensors:
        w0 = 30.0 if layer == 0 else 1.0
        x = [math.sin(w0 * v) for v in linear(tensors, f"model.nnet.layers.{layer}", x)]
        layer += 1
    return linear(tensors, "model.nnet.last_layer", x)


@pytest.mark.parametrize("calculation", sorted(FORMULAS))
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_satclip(tmp_path, calculation, depth):
    check(tmp_path, "satclip", layouts.satclip(depth=depth, calculation=calculation), naive_satclip)


@pytest.mark.parametrize("calculation", sorted(FORMULAS))
def test_satclip_harmonics_to_degree_9(calculation):
    ours = AntipodalHarmonics(orders=10, calculation=calculation)(PLACES)
    expected = [harmonics(FORMULAS[calculation], 10, lon, lat) for lon, lat in PLACES.tolist()]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-10)


def test_satclip_constants_are_those_of_the_generated_file():
    """Numbers printed by the authors' generator: Yl0_m0, Yl1_m0, Yl2_m0, Yl1_m1, Yl3_m_minus_1."""
    phi, theta = 0.7, 1.9
    place = np.array([[math.degrees(phi) - 180, math.degrees(theta) - 90]])
    (row,) = AntipodalHarmonics(orders=4)(place)
    cos, sin = math.cos(theta), math.sin(theta)
    printed = {
        0: 0.886226925452758,
        2: 1.53499006191973 * cos,
        6: 2.97249547320451 * cos**2 - 0.990831824401503,
        3: 0.48860251190292 * sin * math.cos(phi),
        11: 0.304697199642977 * sin * (7.5 * cos**2 - 1.5) * math.sin(phi),
    }
    for column, value in printed.items():
        assert row[column] == pytest.approx(value, abs=1e-12)


# ---- GeoCLIP


def naive_geoclip(tensors, places):
    """Equal Earth (Savric 2018) with the authors' scale, then the capsules; sums over columns by numpy in float64."""
    lon, lat = np.radians(places).T
    theta = np.arcsin(math.sqrt(3) / 2 * np.sin(lat))
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    below = 3 * (9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1)
    plane = np.stack(
        [2 * math.sqrt(3) * lon * np.cos(theta) / below, a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta]
    )
    total = 0
    for i in range(3):
        net = {k.removeprefix(f"LocEnc{i}."): v.double().numpy() for k, v in tensors.items() if f"LocEnc{i}." in k}
        angle = 2 * math.pi * (net["capsule.0.b"] @ (plane * 66.50336 / 180)).T
        x = np.concatenate([np.cos(angle), np.sin(angle)], -1)
        for layer in ("capsule.1", "capsule.3", "capsule.5"):
            x = np.maximum(0, x @ net[f"{layer}.weight"].T + net[f"{layer}.bias"])
        total = total + x @ net["head.0.weight"].T + net["head.0.bias"]
    return total


def test_geoclip(tmp_path):
    content = layouts.geoclip()
    torch.save(content, tmp_path / "weights.pth")
    vectors = zoo.load("geoclip", tmp_path / "weights.pth").embed_points(PLACES)
    expected = naive_geoclip(content, PLACES)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


def test_geoclip_in_a_whole_model(tmp_path):
    content = layouts.geoclip()
    torch.save(content, tmp_path / "alone.pth")
    inside = layouts.under("location_encoder.", content) | {
        "logit_scale": torch.ones(()),
        "image_encoder.w": torch.ones(1),
    }
    torch.save(inside, tmp_path / "whole.pth")
    alone, whole = (zoo.load("geoclip", tmp_path / f"{name}.pth").embed_points(PLACES) for name in ("alone", "whole"))
    np.testing.assert_array_equal(alone, whole)


@pytest.fixture
def package():
    """The authors' module and the path of their released weights, without the package's own `__init__`."""
    spec = find_spec("geoclip")
    if spec is None or spec.origin is None:
        pytest.skip("the package geoclip is not installed (pip install --no-deps geoclip)")
    root = Path(spec.origin).parent
    for name, folder in (("geoclip", root), ("geoclip.model", root / "model")):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script
        theirs = importlib.import_module("geoclip.model.location_encoder").LocationEncoder().eval()
    yield theirs, root / "model" / "weights" / "location_encoder_weights.pth"
    for name in [name for name in sys.modules if name.split(".")[0] == "geoclip"]:
        del sys.modules[name]


def test_geoclip_released_weights_give_what_the_package_gives(package):
    theirs, weights = package
    vectors = zoo.load("geoclip", weights).embed_points(PLACES)
    lat_lon = torch.from_numpy(PLACES[:, ::-1].copy())
    with torch.inference_mode():
        single = theirs(lat_lon.float()).numpy()
        double = theirs.double()(lat_lon).numpy()
    assert np.abs(double).max() > 0.05
    np.testing.assert_allclose(vectors, double, rtol=0, atol=1e-5)
    np.testing.assert_allclose(vectors, single, rtol=0, atol=5e-5)  # their float32 turns of sigma 256


# ---- CSP

ACTIVATIONS = {
    "leakyrelu": lambda v: v if v > 0 else 0.2 * v,
    "gelu": lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))),
    "relu": lambda v: max(0.0, v),
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "tanh": math.tanh,
}


def naive_csp(content, lon, lat):
    tensors, params = content["state_dict"], content["params"]
    count, low, high = params["frequency_num"], params["min_radius"], params["max_radius"]
    x = []
    for degrees in (lon, lat):
        for s in range(count):
            radius = low * math.exp(s * math.log(high / low) / (count - 1))
            x += [math.sin(degrees / radius), math.cos(degrees / radius)]
    names = [name for name in tensors if name.startswith("spa_enc.") and name.endswith(".linear.weight")]
    for i in range(len(names)):
        layer, last = f"spa_enc.ffn.layers.{i}", i == len(names) - 1
        y = [ACTIVATIONS[params["spa_f_act"]](v) for v in linear(tensors, f"{layer}.linear", x)]
        if params["skip_connection"] and not last and len(x) == len(y):
            y = [a + b for a, b in zip(x, y, strict=True)]
        x = normed(tensors, f"{layer}.layernorm", y) if params["use_layn"] and not last else y
    return x


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_csp(tmp_path, activation):
    check(tmp_path, "csp", layouts.csp(activation=activation), naive_csp, 1e-5)


@pytest.mark.parametrize("hidden", [0, 1, 3])
@pytest.mark.parametrize(("norm", "skip"), [(True, False), (False, True)])
def test_csp_of_other_depths(tmp_path, hidden, norm, skip):
    check(tmp_path, "csp", layouts.csp(hidden=hidden, norm=norm, skip=skip), naive_csp, 1e-5)


# ---- SINR


def naive_sinr(content, lon, lat):
    tensors, scaled = content["state_dict"], (lon / 180, lat / 90)
    x = [math.sin(math.pi * v) for v in scaled] + [math.cos(math.pi * v) for v in scaled]
    x = relu(linear(tensors, "feats.0", x))
    block = 2
    while f"feats.{block}.w1.weight" in tensors:
        x = residual(tensors, f"feats.{block}", x)
        block += 1
    return x


@pytest.mark.parametrize("depth", [0, 4])
def test_sinr(tmp_path, depth):
    check(tmp_path, "sinr", layouts.sinr(depth=depth), naive_sinr)


# ---- TTE


def naive_tte(content, lon, lat):
    tensors = {k.removeprefix("model.location."): v for k, v in content["state_dict"].items()}
    lon, lat = math.radians(lon), math.radians(lat)
    place = (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat))
    logits = []
    for direction, log_tau in zip(tensors["_directions"].tolist(), tensors["_log_tau"].tolist(), strict=True):
        length = math.sqrt(sum(v * v for v in direction))
        logits.append(math.exp(log_tau) * sum(a * b / length for a, b in zip(place, direction, strict=True)))
    value = weighted(softmax(logits), tensors["_embeddings"].tolist())
    temperature = min(10.0, max(0.01, math.exp(tensors["semantic_registers.log_temperature"].item())))
    attention = softmax([v / temperature for v in linear(tensors, "semantic_registers.loc_to_logits", value)])
    token = weighted(attention, tensors["semantic_registers.registers"].tolist())
    skip = "semantic_registers.site_to_out"
    own = linear(tensors, skip, value) if f"{skip}.weight" in tensors else value
    x = normed(tensors, "semantic_registers.norm", [0.5 * a + 0.5 * b for a, b in zip(own, token, strict=True)])
    x = relu(linear(tensors, "mlp.0", x))
    block = 2
    while f"mlp.{block}.w1.weight" in tensors:
        x = residual(tensors, f"mlp.{block}", x)
        block += 1
    x = linear(tensors, f"mlp.{block}", x, bias=False)
    length = math.sqrt(sum(v * v for v in x))
    return [v / length for v in x]


def weighted(weights, rows):
    return [sum(w * row[j] for w, row in zip(weights, rows, strict=True)) for j in range(len(rows[0]))]


@pytest.mark.parametrize("sizes", [{}, {"site_dim": 5}, {"depth": 0, "sites": 1}])
def test_tte(tmp_path, sizes):
    check(tmp_path, "tte", layouts.tte(**sizes), naive_tte, 1e-5)


def test_tte_blocks_of_rows_change_nothing(tmp_path, monkeypatch):
    torch.save(layouts.tte(), tmp_path / "weights.pt")
    model = zoo.load("tte", tmp_path / "weights.pt")
    whole = model.embed_points(PLACES)
    monkeypatch.setattr("graticule.zoo.tte.ROWS", 4)
    np.testing.assert_allclose(model.embed_points(PLACES), whole, rtol=1e-5, atol=1e-6)
