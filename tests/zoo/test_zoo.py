"""What every published encoder must do, and what is said of a file that does not fit."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from graticule import zoo
from graticule.embed import Model
from graticule.encoders.location import LocationEncoder
from graticule.errors import CoordinateError, DataError, SettingError
from graticule.finished import origin
from graticule.geo.coords import lonlat, uniform_places
from tests.zoo.layouts import LAYOUTS, csp, geoclip, satclip, sinr, tte, under

POLES = [(lon, lat) for lat in (-90.0, 90.0) for lon in (-180.0, -77.0, 0.0, 33.3, 180.0)]
SEAM = [(lon, lat) for lat in (-89.9, -40.0, 0.0, 66.6) for lon in (-180.0, 180.0, np.nextafter(180, 0))]
PLACES = np.concatenate([uniform_places(60), POLES, SEAM])
SEAMLESS = {"csp": False, "geoclip": False, "satclip": True, "sinr": False, "tte": True}


@pytest.fixture(params=sorted(LAYOUTS), scope="module")
def model(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "weights.ckpt"
    torch.save(LAYOUTS[request.param](), path)
    return zoo.load(request.param, path)


def write(path, content):
    torch.save(content, path)
    return path


def test_every_published_encoder_is_tested():
    assert set(LAYOUTS) == set(zoo.ENCODERS) == set(SEAMLESS)


def test_shape_dtype_and_finite(model):
    assert isinstance(model, Model)
    assert isinstance(model.location, LocationEncoder)
    vectors = model.embed(lon=PLACES[:, 0], lat=PLACES[:, 1])
    assert vectors.shape == (len(PLACES), model.dim)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert vectors.std(0).max() > 0
    assert np.array_equal(vectors, model.embed_points(lonlat(lon=PLACES[:, 0], lat=PLACES[:, 1])))


def test_module_takes_degrees_in_float64(model):
    out = model.location(torch.from_numpy(PLACES))
    assert out.dtype == next(model.location.body.parameters()).dtype
    assert out.shape == (len(PLACES), model.location.dim)
    assert not model.location.training
    assert not out.requires_grad


def test_no_rows_and_one_row(model):
    assert model.embed(lon=[], lat=[]).shape == (0, model.dim)
    assert model.embed(lon=11.6, lat=48.1).shape == (1, model.dim)


def test_seams_are_closed_or_declared(model):
    lats, lons = np.linspace(-90, 90, 19), np.linspace(-180, 180, 19)
    west, east = (np.stack([np.full_like(lats, lon), lats], 1) for lon in (-180 + 1e-9, 180 - 1e-9))
    north, south = (np.stack([lons, np.full_like(lons, lat)], 1) for lat in (90.0, -90.0))
    vectors = [model.embed_points(points) for points in (west, east, north, south)]
    gap = max(np.abs(a - b).max() for a, b in ((vectors[0], vectors[1]), *((v, v[:1]) for v in vectors[2:])))
    closed = gap < 1e-3 * model.embed_points(PLACES).std()
    assert model.location.seamless == closed == SEAMLESS[model.about["name"]]


def test_a_row_depends_on_nothing_but_its_place(model):
    whole = model.embed_points(PLACES)
    order = np.random.default_rng(0).permutation(len(PLACES))
    close = {"rtol": 1e-4, "atol": 1e-5 * np.abs(whole).max()}
    np.testing.assert_allclose(model.embed_points(PLACES[order]), whole[order], **close)
    alone = np.concatenate([model.embed_points(PLACES[i : i + 1]) for i in range(12)])
    np.testing.assert_allclose(alone, whole[:12], **close)
    np.testing.assert_allclose(model.embed_points(PLACES, batch_size=7), whole, **close)


def test_swapped_coordinates_are_refused(model):
    with pytest.raises(CoordinateError, match="swapped"):
        model.embed(lon=[48.1], lat=[113.4])


def test_about_says_where_it_comes_from(model, tmp_path):
    json.dumps(model.about)
    assert model.about["published"]["source"].startswith("https://github.com/")
    assert origin(model.about)["source"] == {model.about["name"]: zoo.ENCODERS[model.about["name"]].licence}
    assert model.modalities == []
    assert model.save(tmp_path / "places.parquet", lon=[1, 2], lat=[3, 4]) == 2


def test_safetensors_of_the_location_side(tmp_path):
    whole = tte()["state_dict"]
    save_file(
        {k.removeprefix("model."): v for k, v in whole.items() if "location" in k}, tmp_path / "model.safetensors"
    )
    one = zoo.load("tte", tmp_path / "model.safetensors").embed_points(PLACES)
    np.testing.assert_array_equal(one, zoo.load("tte", write(tmp_path / "x.ckpt", tte())).embed_points(PLACES))


def test_satclip_without_settings_is_analytic(tmp_path):
    content = satclip()
    bare = {k.removeprefix("model."): v for k, v in content["state_dict"].items() if k.startswith("model.nnet.")}
    a, b = (zoo.load("satclip", write(tmp_path / f"{i}.pt", x)) for i, x in enumerate((content, bare)))
    np.testing.assert_array_equal(a.embed_points(PLACES), b.embed_points(PLACES))


def without(content, key):
    kept = {k: v for k, v in content["state_dict"].items() if k != key}
    assert len(kept) < len(content["state_dict"])
    return content | {"state_dict": kept}


def having(content, **tensors):
    return content | {"state_dict": content["state_dict"] | tensors}


def setting(content, where, **values):
    return content | {where: content[where] | values}


GEO = geoclip()
BAD = {
    "missing": ("satclip", without(satclip(), "model.nnet.layers.1.bias"), r"lacks 'model\.nnet\.layers\.1\.bias'"),
    "no anchor": ("tte", {"a": torch.ones(1)}, r"expected a tensor 'location\._directions', got 'a'"),
    "of another": ("sinr", tte(), r"expected a tensor 'feats\.0\.weight', got 'model\.location\._directions', "),
    "unexpected": (
        "satclip",
        having(satclip(), **{"model.nnet.layers.0.extra": torch.ones(1)}),
        r"unexpected 'model\.nnet\.layers\.0\.extra'; expected 'layers\.0\.weight'",
    ),
    "shape": (
        "tte",
        having(tte(), **{"model.location._log_tau": torch.ones(7)}),
        r"expected 'model\.location\._log_tau' of shape \(6,\), got \(7,\)",
    ),
    "axes": (
        "sinr",
        having(sinr(), **{"feats.0.weight": torch.ones(7)}),
        r"expected 'feats\.0\.weight' with 2 axes, got shape \(7,\)",
    ),
    "geoclip": (
        "geoclip",
        {k: v for k, v in GEO.items() if k != "LocEnc2.capsule.0.b"},
        r"lacks 'LocEnc2\.capsule\.0\.b'",
    ),
    "geoclip size": ("geoclip", GEO | {"LocEnc1.head.0.bias": torch.ones(3)}, r"shape \(512,\), got \(3,\)"),
    "no square": (
        "satclip",
        having(satclip(), **{"model.nnet.layers.0.weight": torch.ones(5, 17)}),
        "expected a square number of harmonics as input, got 17",
    ),
    "satclip basis": (
        "satclip",
        setting(satclip(), "hyper_parameters", le_type="grid"),
        "le_type .* got le_type='grid'",
    ),
    "satclip discretized": ("satclip", satclip(calculation="discretized"), "harmonics_calculation .*'discretized'"),
    "csp encoder": ("csp", setting(csp(), "params", spa_enc_type="rbf"), "gridcell, got spa_enc_type='rbf'"),
    "csp bare": ("csp", {"state_dict": csp()["state_dict"]}, "got no 'spa_enc_type' beside its tensors"),
    "sinr environment": ("sinr", sinr(columns=24, input_enc="sin_cos_env"), "sin_cos, got input_enc='sin_cos_env'"),
    "sinr columns": ("sinr", sinr(columns=20), "expected 4 input columns.*got 20"),
    "no tensors": ("sinr", {"state_dict": {}}, "expected a dictionary of tensors"),
    "a list": ("sinr", [1, 2], "expected a dictionary of tensors"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_file_that_does_not_fit_is_named(tmp_path, case):
    name, content, message = BAD[case]
    with pytest.raises(DataError, match=r"weights\.pt: .*" + message):
        zoo.load(name, write(tmp_path / "weights.pt", content))


class Dangerous:
    """A pickled object that would create a file when loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_objects_in_a_file_are_never_run(tmp_path):
    path = write(tmp_path / "weights.pt", sinr() | {"more": Dangerous(tmp_path / "run")})
    with pytest.raises(DataError, match=r"weights\.pt is damaged or holds Python objects, which are never run"):
        zoo.load("sinr", path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_no_file_and_damaged_file(tmp_path, name):
    with pytest.raises(DataError, match=f"{name} is no file"):
        zoo.load("sinr", tmp_path / name)
    (tmp_path / name).write_bytes(b"PK no checkpoint at all")
    with pytest.raises(DataError, match=name):
        zoo.load("sinr", tmp_path / name)
    whole = write(tmp_path / "whole.pt", sinr()).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=name):
        zoo.load("sinr", tmp_path / name)


def test_unknown_name():
    with pytest.raises(SettingError, match="Did you mean 'satclip'"):
        zoo.load("satclap", "nowhere")


def test_a_deeper_module_is_found(tmp_path):
    content = sinr()
    inside = under("net.", content["state_dict"]) | {"my_feats.0.weight": torch.ones(1)}
    a, b = (zoo.load("sinr", write(tmp_path / f"{i}.pt", x)) for i, x in enumerate((content, inside)))
    np.testing.assert_array_equal(a.embed_points(PLACES), b.embed_points(PLACES))
