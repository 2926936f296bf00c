"""The bodies of `encoders.bodies` in numpy, for embedding where torch is not installed.

Twins, not one implementation for both: in torch a body is a module, whose layers autograd, dropout and compilers know;
in numpy the same sums are written into arrays that are used again, and the affine map of every norm is folded into the
layer behind it. Each takes its weights by the names that torch gives them, so a trained run needs no conversion. The
contract suite holds every body against its twin.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from graticule.encoders.activations import ACTIVATIONS, Rows, Scratch
from graticule.errors import unknown
from graticule.weights import Weights

Layer = Callable[[Rows, Scratch], Rows]  # leaves its input as it is, unless it lies in the scratch
NORM_FLOOR = np.float32(1e-5)  # added to variances, as torch does
STREAM, FIRST, SECOND = range(3)  # arrays of the scratch: what residual blocks add to, and those that others alternate


def dense(weights: Weights, inside: int, outside: int, to: int = FIRST, *, norm: Weights | None = None) -> Layer:
    """X W' + b into the scratch's array `to`; with `norm` of x standardised, scaled and moved by those weights."""
    weight, bias = weights.take("weight", outside, inside), weights.take("bias", outside)
    if norm is not None:
        bias = bias + weight @ norm.take("bias", inside)
        weight = weight * norm.take("weight", inside)
    matrix, average = weight.T, np.full(inside, 1 / inside, dtype=np.float32)

    def layer(x: Rows, scratch: Scratch) -> Rows:
        given = x if norm is None else _standardised(x, average, scratch(SECOND, *x.shape))
        out: Rows = np.matmul(given, matrix, out=scratch(to, len(x), outside))
        out += bias
        return out

    return layer


def _standardised(x: Rows, average: Rows, out: Rows) -> Rows:
    """Every row with mean 0 and variance 1 (Ba 2016)."""
    np.subtract(x, (x @ average)[:, None], out=out)
    variance = np.einsum("ij,ij->i", out, out) / np.float32(x.shape[1])
    out *= (1 / np.sqrt(variance + NORM_FLOOR))[:, None]
    return out


def _sine(weights: Weights, inside: int, outside: int, w0: float, to: int = FIRST) -> Layer:
    linear, factor = dense(weights.under("linear."), inside, outside, to), np.float32(w0)

    def layer(x: Rows, scratch: Scratch) -> Rows:
        out = linear(x, scratch)
        out *= factor
        return np.sin(out, out=out)

    return layer


def _chain(*layers: Layer) -> Layer:
    def chain(x: Rows, scratch: Scratch) -> Rows:
        for layer in layers:
            x = layer(x, scratch)
        return x

    return chain


def _activation(name: str) -> Layer:
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


def linear(weights: Weights, inside: int, outside: int) -> Layer:
    """Twin of `bodies.Linear`."""
    return dense(weights, inside, outside)


def mlp(
    weights: Weights,
    inside: int,
    outside: int,
    *,
    width: int = 512,
    depth: int = 2,
    activation: str = "gelu",
    dropout: float = 0.0,
) -> Layer:
    """Twin of `bodies.MLP`."""
    sizes = [inside, *[width] * depth, outside]
    layers = [dense(weights.under(f"{3 * i}."), a, b, 1 + i % 2) for i, (a, b) in enumerate(pairwise(sizes))]
    return _chain(*(step for layer in layers[:-1] for step in (layer, _activation(activation))), layers[-1])


def residual_mlp(
    weights: Weights,
    inside: int,
    outside: int,
    *,
    width: int = 384,
    depth: int = 3,
    activation: str = "gelu",
    norm: bool = True,
    dropout: float = 0.0,
) -> Layer:
    """Twin of `bodies.ResidualMLP`."""

    def block(branch: Weights) -> Layer:
        first = dense(branch.under("1."), width, width, FIRST, norm=branch.under("0.") if norm else None)
        act, second = _activation(activation), dense(branch.under("3."), width, width, SECOND)

        def layer(x: Rows, scratch: Scratch) -> Rows:
            x += second(act(first(x, scratch), scratch), scratch)
            return x

        return layer

    stem = dense(weights.under("0."), inside, width, STREAM)
    blocks = [block(weights.under(f"{i + 1}.branch.")) for i in range(depth)]
    last_norm = weights.under(f"{depth + 1}.") if norm else None
    return _chain(stem, *blocks, dense(weights.under(f"{depth + 2}."), width, outside, norm=last_norm))


def siren(
    weights: Weights,
    inside: int,
    outside: int,
    *,
    width: int = 512,
    depth: int = 2,
    w0_first: float = 30.0,
    w0: float = 1.0,
    dropout: float = 0.0,
    input_variance: float = 1 / 3,
) -> Layer:
    """Twin of `bodies.Siren`."""
    first = _sine(weights.under("0."), inside, width, w0_first, 1)
    others = [_sine(weights.under(f"{i}."), width, width, w0, 1 + i % 2) for i in range(1, depth)]
    return _chain(first, *others, dense(weights.under(f"{depth}."), width, outside, 1 + depth % 2))


def residual_siren(
    weights: Weights,
    inside: int,
    outside: int,
    *,
    width: int = 512,
    depth: int = 3,
    w0_first: float = 30.0,
    w0: float = 1.0,
    dropout: float = 0.0,
    input_variance: float = 1 / 3,
) -> Layer:
    """Twin of `bodies.ResidualSiren`."""
    half = np.float32(0.5)

    def block(branch: Weights) -> Layer:
        first, second = (_sine(branch.under(f"{i}."), width, width, w0, 1 + i) for i in range(2))

        def layer(x: Rows, scratch: Scratch) -> Rows:
            x += second(first(x, scratch), scratch)
            x *= half
            return x

        return layer

    blocks = [block(weights.under(f"{i + 1}.branch.")) for i in range(depth)]
    stem = _sine(weights.under("0."), inside, width, w0_first, STREAM)
    return _chain(stem, *blocks, dense(weights.under(f"{depth + 1}."), width, outside))


def capsules(
    weights: Weights,
    inside: int,
    outside: int,
    *,
    width: int = 1024,
    depth: int = 3,
    activation: str = "relu",
    parts: int = 3,
) -> Layer:
    """Twin of `bodies.Capsules`."""
    one = inside // parts
    each = [
        mlp(weights.under(f"parts.{i}."), one, outside, width=width, depth=depth, activation=activation)
        for i in range(parts)
    ]

    def layer(x: Rows, scratch: Scratch) -> Rows:
        out = scratch(STREAM, len(x), outside)
        out[:] = 0
        for i, part in enumerate(each):
            out += part(x[:, i * one : (i + 1) * one], scratch)
        return out

    return layer


BODIES: dict[str, Callable[..., Layer]] = {
    "capsules": capsules,
    "linear": linear,
    "mlp": mlp,
    "residual-mlp": residual_mlp,
    "residual-siren": residual_siren,
    "siren": siren,
}


def body(name: str, weights: Weights, inside: int, outside: int, settings: dict[str, Any]) -> Layer:
    """The body called `name` with what it knows of `settings`.

    Raises SettingError for an unknown body, CacheError where the weights do not fit.
    """
    if name not in BODIES:
        raise unknown("body", name, BODIES)
    known = inspect.signature(BODIES[name]).parameters
    return BODIES[name](weights, inside, outside, **{key: value for key, value in settings.items() if key in known})
