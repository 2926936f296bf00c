"""The house has one direction: a file imports only from layers below its own; siblings do not know each other."""

import ast
from pathlib import Path

import pytest

import graticule

ORDER = [
    {"errors"},
    {"blas", "files", "progress"},
    {"finished", "weights"},
    {"tensors"},
    {"geo"},
    {"data", "encoders", "objectives"},
    {"learners"},
    {"training"},
    {"embed", "embed_map"},
    {"bulk"},
    {"zoo", "nearest", "export", "index"},
    {"evaluation"},
    {"settings"},
    {"parts"},
    {"recipes"},
    {"read"},
    {"runs"},
    {"web"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
HOME = Path(graticule.__file__).parent
FILES = [path for path in sorted(HOME.rglob("*.py")) if path != HOME / "__init__.py"]  # the lazy front door


def room(path):
    return path.relative_to(HOME).with_suffix("").parts[0]


def imported(tree):
    """Rooms of the package that a file imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "graticule":
                yield from (alias.name for alias in node.names if alias.name in LEVEL)
            elif (node.module or "").startswith("graticule."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("graticule."))


def wrong(path, source):
    rooms = set(imported(ast.parse(source))) - {room(path)}
    return sorted(name for name in rooms if LEVEL[name] >= LEVEL[room(path)])


def test_every_room_has_a_layer():
    assert {room(path) for path in FILES} <= set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_imports_point_down(path):
    assert wrong(path, path.read_text()) == []


def test_the_rule_sees_wrong_imports():
    data = HOME / "data" / "x.py"
    assert wrong(data, "from graticule.geo.coords import lonlat") == []
    assert wrong(data, "from graticule.data.store import Table") == []
    assert wrong(data, "def f():\n    from graticule.encoders.text import NgramTrunk") == ["encoders"]
    assert wrong(data, "import graticule.runs") == ["runs"]
    assert wrong(data, "from graticule import read") == ["read"]


def test_no_front_door_inside():
    """Apart from the version, the rooms do not reach through the lazy package."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "graticule":
                assert node.attr == "__version__", path
