"""What `pip install .` alone gives: size, seconds, import, first vector, points a second, and how near torch it is.

    python -m benchmarks.core_install [--places 100000] [--repeats 5]

Makes a fresh virtual environment in a temporary folder, installs the package without extras from this folder, and
measures there, in processes of their own. In turn with them torch and onnxruntime, as the environment of this
interpreter has them (the extra train; onnx, onnxscript and onnxruntime), on the same places. Pip must reach a registry.
Five to ten minutes on two cores. Writes benchmarks/core_install.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.running import machine, markdown

HOME = Path(__file__).parent.parent
ENGINES = str(HOME / "benchmarks" / "engines.py")

NOTE = """# The core install

`python -m benchmarks.core_install --places {places} --repeats {repeats}` ({machine})

| | |
|---|---|
| packages | {packages} |
| size on disk | {size:.0f} MB, of which pyarrow {pyarrow:.0f}, numpy {numpy:.0f} |
| `pip install .`, nothing cached | {install:.0f} s |
| `import graticule` | {imported:.3f} s |
| a process until it has its first vector | {first:.2f} s |
| the same through torch's encoder, where torch is installed | {first_torch:.2f} s |
| largest difference to the vectors of torch, relative to their mean length | {difference:.1e} |

Points a second of the released model, float32, so many places a call (medians of {repeats} processes, in turn; numpy in
the fresh environment, the others where they are installed). onnxruntime has the network alone, exported from torch for
this table, and the basis from numpy.

"""

PROBE = """
import json, sys, time
began = time.perf_counter()
import graticule
imported = time.perf_counter() - began
graticule.load().embed(lon=11.58, lat=48.14)
print(json.dumps([imported, [m for m in ("torch", "scipy", "sklearn") if m in sys.modules]]))
"""
TORCH_PROBE = """
import graticule
from graticule.encoders.networks import in_torch
in_torch(graticule.load().location, graticule.lonlat(lon=11.58, lat=48.14))
"""


def run(python: str | Path, *arguments: str, threads: int = 1, here: bool = False) -> str:
    """Standard output of a process; `here` with the package of this folder, else with that of its environment."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    own |= {"OMP_NUM_THREADS": str(threads)} | ({"PYTHONPATH": str(HOME)} if here else {})
    done = subprocess.run([str(python), *arguments], env=own, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def megabytes(folder: Path) -> float:
    """Size of all files in a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def installed(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The interpreter of a fresh environment with the package in it, and what that took."""
    run(sys.executable, "-m", "venv", str(folder))
    python, libraries = folder / "bin" / "python", next(folder.glob("lib/python*/site-packages"))
    before = megabytes(libraries)
    took = seconds(lambda: run(python, "-m", "pip", "install", "--quiet", "--no-cache-dir", str(HOME)))
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json"))
    packages = ", ".join(f"{p['name']} {p['version']}" for p in listed if p["name"] not in ("pip", "setuptools"))
    sizes = {name: megabytes(libraries / name) for name in ("numpy", "pyarrow")}
    return python, {"packages": packages, "install": took, "size": megabytes(libraries) - before, **sizes}


def started(python: Path, repeats: int) -> dict[str, float]:
    """Median seconds of the import and of whole processes to the first vector, after one that does not count."""
    imports, first, first_torch = [], [], []
    for _ in range(repeats + 1):
        first.append(seconds(lambda: imports.append(json.loads(run(python, "-c", PROBE)))))
        first_torch.append(seconds(lambda: run(sys.executable, "-c", TORCH_PROBE, here=True)))
    assert all(loaded == [] for _, loaded in imports), imports
    values = {"imported": [took for took, _ in imports], "first": first, "first_torch": first_torch}
    return {name: statistics.median(took[1:]) for name, took in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    counts = [1, 1000, asked.places]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python, facts = installed(folder / "core")
        facts |= started(python, asked.repeats)
        body, out = str(folder / "body.onnx"), folder / "out.npz"
        run(sys.executable, ENGINES, "export", body, here=True)
        rates: dict[tuple[str, int], list[Any]] = {}
        vectors = {}
        for _ in range(asked.repeats):
            for threads in (1, 2):
                for name, interpreter in {"numpy": python, "torch": sys.executable, body: sys.executable}.items():
                    arguments = (ENGINES, name, str(threads), str(out), *map(str, counts))
                    run(interpreter, *arguments, threads=threads, here=name != "numpy")
                    found = np.load(out)
                    rates.setdefault((name, threads), []).append(counts / found["seconds"])
                    vectors[name] = found["vectors"]
    away, size = (np.linalg.norm(v, axis=1) for v in (vectors["numpy"] - vectors["torch"], vectors["torch"]))
    told = f"{machine()}, Python {platform.python_version()}"
    facts |= {"places": asked.places, "repeats": asked.repeats, "machine": told}
    rows = [
        ["onnxruntime" if name == body else name, str(threads), *(f"{rate:,.0f}" for rate in np.median(found, axis=0))]
        for (name, threads), found in sorted(rates.items(), key=lambda item: (item[0][1], item[0][0] == body))
    ]
    table = markdown(["", "threads", *(f"{count:,}" for count in counts)], rows)
    note = NOTE.format(difference=away.max() / size.mean(), **facts)
    Path(__file__).with_suffix(".md").write_text(note + table)


if __name__ == "__main__":
    main()
