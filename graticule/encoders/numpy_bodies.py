"""The bodies of `encoders.bodies` in numpy, for embedding where torch is not installed.

Twins, not one implementation for both: in torch a body is a module, whose layers autograd, dropout and compilers know;
in numpy the same sums are done in place, with the affine map of every norm folded into the layer behind it. Each takes
its weights by the names that torch gives them, so a trained run needs no conversion. The contract suite holds every
body against its twin.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from graticule.encoders.activations import ACTIVATIONS, Rows
from graticule.errors import unknown
from graticule.weights import Weights

Layer = Callable[[Rows], Rows]
NORM_FLOOR = np.float32(1e-5)  # added to variances, as torch does


def dense(weights: Weights, inside: int, outside: int, *, norm: Weights | None = None) -> Layer:
    """X W' + b; with `norm` of x standardised, scaled and moved by those weights first."""
    weight = weights.take("weight", outside, inside)
    offset = weights.take("bias", outside)
    if norm is not None:
        offset = offset + weight @ norm.take("bias", inside)
        weight = weight * norm.take("weight", inside)
    matrix = weight.T

    def layer(x: Rows) -> Rows:
        out: Rows = (x if norm is None else _standardised(x)) @ matrix
        out += offset
        return out

    return layer


def _standardised(x: Rows) -> Rows:
    """Every row with mean 0 and variance 1 (Ba 2016)."""
    centred: Rows = x - x.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", centred, centred) / np.float32(x.shape[1])
    centred *= (1 / np.sqrt(variance + NORM_FLOOR))[:, None]
    return centred


def _sine(weights: Weights, inside: int, outside: int, w0: float) -> Layer:
    linear, factor = dense(weights.under("linear."), inside, outside), np.float32(w0)

    def layer(x: Rows) -> Rows:
        out = linear(x)
        out *= factor
        return np.sin(out, out=out)

    return layer


def _chain(*layers: Layer) -> Layer:
    return lambda x: reduce(lambda handed, layer: layer(handed), layers, x)


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
    sizes = [inside, *[width] * depth]
    hidden = [
        layer
        for i, (a, b) in enumerate(pairwise(sizes))
        for layer in (dense(weights.under(f"{3 * i}."), a, b), _activation(activation))
    ]
    return _chain(*hidden, dense(weights.under(f"{3 * depth}."), sizes[-1], outside))


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
        first = dense(branch.under("1."), width, width, norm=branch.under("0.") if norm else None)
        act, second = _activation(activation), dense(branch.under("3."), width, width)

        def layer(x: Rows) -> Rows:
            x += second(act(first(x)))
            return x

        return layer

    blocks = [block(weights.under(f"{i + 1}.branch.")) for i in range(depth)]
    last_norm = weights.under(f"{depth + 1}.") if norm else None
    last = dense(weights.under(f"{depth + 2}."), width, outside, norm=last_norm)
    return _chain(dense(weights.under("0."), inside, width), *blocks, last)


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
    first = _sine(weights.under("0."), inside, width, w0_first)
    others = [_sine(weights.under(f"{i}."), width, width, w0) for i in range(1, depth)]
    return _chain(first, *others, dense(weights.under(f"{max(depth, 1)}."), width, outside))


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
        sines = _chain(*(_sine(branch.under(f"{i}."), width, width, w0) for i in range(2)))

        def layer(x: Rows) -> Rows:
            x += sines(x)
            x *= half
            return x

        return layer

    blocks = [block(weights.under(f"{i + 1}.branch.")) for i in range(depth)]
    first = _sine(weights.under("0."), inside, width, w0_first)
    return _chain(first, *blocks, dense(weights.under(f"{depth + 1}."), width, outside))


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

    def layer(x: Rows) -> Rows:
        out = each[0](x[:, :one])
        for i, part in enumerate(each[1:], 1):
            out += part(x[:, i * one : (i + 1) * one])
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
