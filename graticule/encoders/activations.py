"""Activations in numpy, in place, in pieces that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
PIECE = 1 << 14  # values worked on at a time: three such arrays are in the cache at once
FARTHEST = np.float32(8)  # from here on the tail of the normal distribution is nothing beside float32's rounding

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


class Scratch:
    """Arrays to work in, kept by number and used again: fresh memory costs a third of the product written into it.

    Not to be shared by threads; what comes out of a network lies in it until the next call.
    """

    def __init__(self) -> None:
        self._kept: dict[int, Rows] = {}

    def __call__(self, number: int, rows: int, columns: int) -> Rows:
        """An array of this shape with whatever was left in it."""
        size = rows * columns
        if number not in self._kept or len(self._kept[number]) < size:
            self._kept[number] = np.empty(size, dtype=np.float32)
        return self._kept[number][:size].reshape(rows, columns)


OWN = -1  # the number of the scratch of activations


def gelu(x: Rows, scratch: Scratch) -> Rows:
    """X (1 + erf(x / sqrt(2))) / 2 in place, within 3e-7 (Hendrycks 2016, not its tanh form).

    As max(x, 0) - |x| erfc(|x| / sqrt(2)) / 2, so that one exponential of one polynomial serves all x.
    """
    for part, size, tail in _pieces(x, 2, scratch):
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


def relu(x: Rows, scratch: Scratch) -> Rows:
    """max(x, 0) in place."""
    return np.maximum(x, 0, out=x)


def silu(x: Rows, scratch: Scratch) -> Rows:
    """X / (1 + exp(-x)) in place."""
    with np.errstate(over="ignore"):  # where exp(-x) is infinite the quotient is 0, as it should be
        for part, below in _pieces(x, 1, scratch):
            np.negative(part, out=below)
            np.exp(below, out=below)
            below += 1
            part /= below
    return x


def _pieces(x: Rows, arrays: int, scratch: Scratch) -> Iterator[list[Rows]]:
    """Views of a contiguous array, each with so many arrays of its length to work in."""
    flat = x.reshape(-1)
    work = scratch(OWN, arrays, min(PIECE, len(flat)))
    for start in range(0, len(flat), PIECE):
        part = flat[start : start + PIECE]
        yield [part, *work[:, : len(part)]]


ACTIVATIONS: dict[str, Callable[[Rows, Scratch], Rows]] = {"gelu": gelu, "relu": relu, "silu": silu}
