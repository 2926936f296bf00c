"""`graticule export`: a model for other programs, and what STAC catalogues say of models and vectors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from graticule.errors import SettingError


def arguments(one: argparse.ArgumentParser) -> None:
    """The options of the verb."""
    one.add_argument(
        "run", nargs="?", type=Path, metavar="RUN",
        help="folder of a run (default: the model inside the package); with --stac also a GeoParquet file of vectors",
    )  # fmt: skip
    one.add_argument("--onnx", action="store_true", help="write model.onnx: degrees to vectors")
    one.add_argument("--pt2", action="store_true", help="write model.pt2, for torch.export.load")
    one.add_argument("--stac", action="store_true", help="write item.json of the model, or what describes the vectors")
    one.add_argument("--dim", type=int, help="only so many numbers a vector, one of the run's prefixes (default: all)")
    one.add_argument(
        "--model-item", type=Path, metavar="ITEM", help="with a file of vectors: the STAC item of its model, to link to"
    )
    one.add_argument(
        "-o", "--out", type=Path, metavar="FOLDER",
        help="folder to write to (default: that of the run or file; for the model inside a new one of its name)",
    )  # fmt: skip


def run(asked: argparse.Namespace) -> int:
    """Write what was asked for and say where it is, and how far graphs are from the model."""
    lines = _vectors(asked) if asked.run is not None and asked.run.is_file() else _model(asked)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _vectors(asked: argparse.Namespace) -> list[str]:
    from graticule.export.vectors_item import write_vectors_items

    if asked.onnx or asked.pt2 or asked.dim is not None or not asked.stac:
        raise SettingError(f"{asked.run} is a file of vectors: --stac describes it; models are folders of runs.")
    return [str(path) for path in write_vectors_items(asked.run, asked.out or asked.run.parent, asked.model_item)]


def _model(asked: argparse.Namespace) -> list[str]:
    from graticule.embed import load
    from graticule.export import export_model

    if not (asked.onnx or asked.pt2 or asked.stac):
        raise SettingError("Say what to write: --onnx, --pt2, --stac or several.")
    if asked.model_item is not None:
        raise SettingError("--model-item is for a file of vectors, which links to it.")
    model = load(asked.run)
    cut = model if asked.dim is None else model.prefix(asked.dim)
    folder = asked.out or asked.run or Path(model.about["name"])
    written = export_model(cut, folder, onnx=asked.onnx, pt2=asked.pt2, stac=asked.stac)
    return [str(path) + _says(path, away) for path, away in written.items()]


def _says(path: Path, away: float | None) -> str:
    if away is None:
        return ""
    return f": {path.stat().st_size / 1e6:.1f} MB, at most {away:.0e} of a vector's length from the model"
