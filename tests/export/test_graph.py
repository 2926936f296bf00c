"""Every basis and every body as a graph: ONNX and `.pt2` give what the model gives."""

import logging
import zipfile

import numpy as np
import onnx
import pytest
import torch

from graticule.encoders.bases import BASES
from graticule.encoders.bodies import BODIES
from graticule.errors import CacheError, MissingExtra
from graticule.export.graph import TOLERANCE, properties, trace, write_pt2
from graticule.export.onnx import session, write_onnx
from graticule.geo.coords import uniform_places
from tests.contract.test_location_encoders import SMALL_BASES
from tests.export.models import model

SMALL = SMALL_BASES | {"harmonics": {"max_degree": 3, "damping": 0.5}, "slepian": {"bandlimit": 3, "functions": 9}}
CASES = {name: dict(name=name, body="mlp", dim=12, width=16, depth=1, **SMALL.get(name, {})) for name in BASES}
CASES |= {
    name: dict(name="cartesian", body=name, dim=12, **({} if name == "linear" else {"width": 24, "depth": 2}))
    for name in BODIES
}
CASES |= {f"sphere2vec {kind}": CASES["sphere2vec"] | {"kind": kind} for kind in ("c", "dfs")}
CASES["double"] = CASES["harmonics"] | {"dtype": "float64"}
CASES["joined, with low frequencies"] = dict(
    name="harmonics+hash-grid",
    smooth=True,
    width=16,
    depth=1,
    low_frequency=1,
    dim=12,
    **SMALL["harmonics"],
    **SMALL["hash-grid"],
)
PLACES = np.array([(0, 90), (-180, -90), (180, 3), (-180, 3), (359, 40), (-1, 40), (13.4, 52.5)], dtype=np.float64)


@pytest.mark.parametrize("name", sorted(CASES))
def test_graphs_give_what_the_model_gives(name, tmp_path):
    one = model(**CASES[name])
    program = trace(one)
    assert write_pt2(one, program, tmp_path / "m.pt2") < TOLERANCE
    assert write_onnx(one, program, tmp_path / "m.onnx") < TOLERANCE
    want = one.embed(lon=PLACES[:, 0], lat=PLACES[:, 1])
    loaded = torch.export.load(tmp_path / "m.pt2").module()
    np.testing.assert_allclose(loaded(torch.from_numpy(PLACES))["embedding"].numpy(), want, atol=1e-5 * abs(want).max())
    run = session(tmp_path / "m.onnx")
    np.testing.assert_allclose(run(PLACES)["embedding"], want, atol=1e-5 * abs(want).max())
    for rows in (0, 1, 2000):
        got = run(uniform_places(rows))["embedding"]
        assert (got.shape, got.dtype) == ((rows, 12), np.float32)
        assert loaded(torch.from_numpy(uniform_places(rows)))["embedding"].shape == (rows, 12)


def test_a_shared_space_is_a_second_output(tmp_path):
    one = model(name="cartesian", body="linear", dim=8, shared=5)
    program = trace(one)
    write_pt2(one, program, tmp_path / "m.pt2")
    write_onnx(one, program, tmp_path / "m.onnx")
    want = one.share(one.embed(lon=PLACES[:, 0], lat=PLACES[:, 1]))
    for got in (
        session(tmp_path / "m.onnx", threads=1)(PLACES)["shared"],
        torch.export.load(tmp_path / "m.pt2").module()(torch.from_numpy(PLACES))["shared"].numpy(),
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_prefix_has_no_shared_space(tmp_path):
    one = model(name="cartesian", body="linear", dim=8, shared=5, length=3)
    write_onnx(one, trace(one), tmp_path / "m.onnx")
    got = session(tmp_path / "m.onnx")(PLACES)
    assert {name: out.shape for name, out in got.items()} == {"embedding": (7, 3)}


def test_files_say_what_they_are_and_not_where_they_were_made(tmp_path):
    one = model(name="harmonics", max_degree=2, body="linear", dim=4)
    one.about["data"] = {"text": {"licence": "CC BY-SA"}}
    program = trace(one)
    write_pt2(one, program, tmp_path / "m.pt2")
    write_onnx(one, program, tmp_path / "m.onnx")
    says = properties(one)
    assert says["input"] == "lonlat: lon, lat in degrees WGS84, float64"
    assert says["attribution"] == "text: CC BY-SA"
    graph = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert {entry.key: entry.value for entry in graph.metadata_props} == says
    (lonlat,), (embedding,) = graph.graph.input, graph.graph.output
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (lonlat, embedding)]
    assert (lonlat.name, embedding.name, shapes) == ("lonlat", "embedding", [["n", 2], ["n", 4]])
    extra = {"graticule.json": ""}
    torch.export.load(tmp_path / "m.pt2", extra_files=extra)
    assert '"model": "small"' in extra["graticule.json"]
    with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
        parts = [archive.read(name) for name in archive.namelist()]
    here = __file__.partition("/tests/")[0].encode()
    assert not [part for part in [*parts, (tmp_path / "m.onnx").read_bytes()] if here in part]


@pytest.mark.parametrize("write", [write_pt2, write_onnx])
def test_a_graph_that_is_not_the_model_is_not_written(write, tmp_path):
    one = model(name="cartesian", body="linear", dim=4)
    program = trace(one)
    other = model(name="cartesian", body="linear", dim=4, seed=1)
    with pytest.raises(
        CacheError, match=r"m\.x was not written: the graph is \d.*away from the model, expected at most"
    ):
        write(other, program, tmp_path / "m.x")
    assert list(tmp_path.iterdir()) == []


def test_rounding_beyond_the_promise_is_said(tmp_path, caplog, monkeypatch):
    one = model(name="cartesian", body="linear", dim=4)
    program = trace(one)
    monkeypatch.setattr(one.location.body, "bias", torch.nn.Parameter(one.location.body.bias + 1e-4))
    assert 1e-5 < write_pt2(one, program, tmp_path / "m.pt2") < 1e-3
    assert "m.pt2 is up to" in caplog.text


def test_ordinary_use_is_left_alone(tmp_path, caplog):
    one = model(name="harmonics", max_degree=2, body="linear", dim=4)
    before = one.embed(lon=PLACES[:, 0], lat=PLACES[:, 1])
    with caplog.at_level(logging.INFO):
        write_onnx(one, trace(one), tmp_path / "m.onnx")
    assert np.array_equal(one.embed(lon=PLACES[:, 0], lat=PLACES[:, 1]), before)
    assert caplog.records == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_onnx_needs_its_extra(package, tmp_path, monkeypatch):
    one = model(name="cartesian", body="linear", dim=4)
    program = trace(one)
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtra, match=rf"'{package}', which is not installed: pip install 'graticule\[export\]'"):
        write_onnx(one, program, tmp_path / "m.onnx")
