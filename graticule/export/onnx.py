"""The graph of a location model as an ONNX file that onnxruntime runs without torch or Graticule."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from graticule.embed import Model
from graticule.errors import need
from graticule.export.graph import INPUT, Outputs, compare, properties, quiet
from graticule.files import atomic_write

OPSET = 20


def write_onnx(model: Model, program: ExportedProgram, path: Path) -> float:
    """Write the graph of a model as ONNX if what it gives is right: the largest difference, of a vector's length.

    The file's metadata_props say what it is. MissingExtra without onnx, onnxscript and onnxruntime.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        need(package, "export")
    ops = torch.ops.aten
    table: dict[Callable[..., Any], Callable[..., Any]] = {
        ops.asin.default: _asin,
        ops.deg2rad.default: _deg2rad,
        ops.scalar_tensor.default: _scalar_tensor,
    }
    outputs = ["embedding", "shared"][: len(program.graph_signature.user_outputs)]
    with quiet():
        onnx = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            custom_translation_table=table,
        )
    assert onnx is not None
    _describe(onnx.model, properties(model))
    away = 0.0

    def write(temporary: Path) -> None:
        nonlocal away
        onnx.save(temporary)
        away = compare(model, session(temporary), path)

    atomic_write(path, write)
    return away


def session(path: Path, threads: int = 0) -> Callable[[NDArray[np.float64]], Outputs]:
    """An ONNX file as a function of places, on so many threads (0: as many as onnxruntime likes)."""
    ort = need("onnxruntime", "export")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    opened = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in opened.get_outputs()]
    return lambda lonlat: dict(zip(names, opened.run(names, {INPUT: lonlat}), strict=True))


def _operators() -> Any:
    return need("onnxscript", "export").opset20


def _scalar_tensor(s: float, dtype: int, **_: Any) -> Any:
    """A plain number of the graph as a constant of its type; torch writes all numbers in single precision."""
    ir = need("onnx_ir", "export")
    return _operators().Constant(value=ir.tensor(s, dtype=ir.DataType(dtype)))


def _deg2rad(degrees: Any) -> Any:
    """Radians, by a factor as precise as the degrees."""
    return _operators().Mul(degrees, _scalar_tensor(pi / 180, degrees.dtype))


def _asin(x: Any) -> Any:
    """The arc sine in double precision, of which onnxruntime has single precision alone.

    asin x = t + asin(x cos t - sqrt(1 - x^2) sin t) for any t near it: the last term is so small that it is its own
    sine.
    """
    op, single, double = _operators(), 1, 11  # types by their numbers in ONNX
    t = op.Cast(op.Asin(op.Cast(x, to=single)), to=double)
    one = _scalar_tensor(1.0, double)
    cosine = op.Sqrt(op.Mul(op.Sub(one, x), op.Add(one, x)))
    return op.Add(t, op.Sub(op.Mul(x, op.Cos(t)), op.Mul(cosine, op.Sin(t))))


def _describe(onnx: Any, says: dict[str, str]) -> None:
    """Say what a model is, call its open dimension n, and drop torch's notes: they name folders of this machine."""
    graph = onnx.graph
    onnx.metadata_props.update(says)
    rows = str(graph.inputs[0].shape[0])
    for node in graph.all_nodes():
        node.metadata_props.clear()
    for value in [*graph.inputs, *(out for node in graph.all_nodes() for out in node.outputs)]:
        value.metadata_props.clear()
        if value.shape is not None:
            sizes = [size if isinstance(size, int) else str(size).replace(rows, "n") for size in value.shape]
            value.shape = need("onnx_ir", "export").Shape(sizes)
