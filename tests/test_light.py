"""Importing the package and asking for help load nothing heavy."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import graticule

HEAVY = (
    "torch",
    "numpy",
    "pyarrow",
    "rasterio",
    "sklearn",
    "scipy",
    "pandas",
    "safetensors",
    "shapely",
    "pyproj",
    "PIL",
)
HOME = Path(graticule.__file__).parent


def loaded_by(code):
    """Heavy packages in sys.modules after `code` in a fresh interpreter, and its standard output."""
    tail = f"\nimport json, sys\nsys.stderr.write(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    path = os.pathsep.join([str(HOME.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code + tail],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stderr), done.stdout


def test_import_is_light():
    assert loaded_by("import graticule; dir(graticule)")[0] == []


HELP = """
import runpy, sys
sys.argv = ["graticule", {arguments}]
try:
    runpy.run_module("graticule", run_name="__main__")
except SystemExit as done:
    assert not done.code
"""


@pytest.mark.parametrize("arguments", ['"--help"', '"--version"', '"train", "--help"'])
def test_help_is_light(arguments):
    heavy, out = loaded_by(HELP.format(arguments=arguments))
    assert heavy == []
    assert "graticule" in out


def test_the_measure_sees_heavy_modules():
    assert loaded_by("import graticule; graticule.lonlat")[0] == ["numpy"]


def test_public_names_are_sorted_and_resolve():
    assert graticule.__all__ == sorted(set(graticule.__all__))
    assert dir(graticule) == sorted(dir(graticule))
    assert set(graticule.__all__) <= set(dir(graticule))
    for name in graticule.__all__:
        value = getattr(graticule, name)
        assert value is getattr(graticule, name)
        assert getattr(value, "__name__", name).split(".")[-1] == name


def test_type_checkers_see_the_same_names():
    tree = ast.parse((HOME / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == graticule._HOME | {"read": "graticule"}


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'embedd'"):
        graticule.embedd  # noqa: B018
