"""Activations in numpy, in place, in pieces that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
PIECE = 1 << 15  # values worked on at a time: three pieces are in the cache at once
FARTHEST = np.float32(8)  # from here on the tail of the normal distribution is 0 to float32

# log of the tail of the normal distribution, erfc(a / sqrt(2)) / 2, for 0 <= a <= 8: coefficients of a^6 to a^0. They
# make the largest error of a * exp(P(a)) as small as it can be, 5.1e-8 (Lawson's reweighted least squares).
LOG_TAIL = np.array(
    [
        2.29381040e-05,
        -5.33181790e-04,
        5.60112390e-03,
        -3.70224466e-02,
        -3.17995809e-01,
        -7.97952213e-01,
        -6.93142371e-01,
    ],
    dtype=np.float32,
)


def gelu(x: Rows) -> Rows:
    """X (1 + erf(x / sqrt(2))) / 2 in place, within 3e-7, and 2e-7 where |x| < 2 (Hendrycks 2016, not its tanh form).

    As max(x, 0) - |x| erfc(|x| / sqrt(2)) / 2, so that one exponential and one polynomial serve all x.
    """
    for part, size, tail in _pieces(x, 2):
        np.abs(part, out=size)
        np.minimum(size, FARTHEST, out=size)
        np.multiply(size, LOG_TAIL[0], out=tail)
        for coefficient in LOG_TAIL[1:-1]:
            tail += coefficient
            tail *= size
        tail += LOG_TAIL[-1]
        np.exp(tail, out=tail)
        tail *= size
        np.maximum(part, 0, out=part)
        part -= tail
    return x


def relu(x: Rows) -> Rows:
    """max(x, 0) in place."""
    return np.maximum(x, 0, out=x)


def silu(x: Rows) -> Rows:
    """X / (1 + exp(-x)) in place."""
    with np.errstate(over="ignore"):  # where exp(-x) is infinite the quotient is 0, as it should be
        for part, below in _pieces(x, 1):
            np.negative(part, out=below)
            np.exp(below, out=below)
            below += 1
            part /= below
    return x


def _pieces(x: Rows, scratches: int) -> Iterator[list[Rows]]:
    """Views of a contiguous array, each with so many arrays of its length to work in."""
    flat = x.reshape(-1)
    scratch = np.empty((scratches, min(PIECE, len(flat))), dtype=np.float32)
    for start in range(0, len(flat), PIECE):
        part = flat[start : start + PIECE]
        yield [part, *scratch[:, : len(part)]]


ACTIVATIONS: dict[str, Callable[[Rows], Rows]] = {"gelu": gelu, "relu": relu, "silu": silu}
