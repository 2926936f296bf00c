"""A trained location encoder in numpy: the same vectors as `encoders.location` gives, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.blas import single_threaded
from graticule.encoders.activations import Scratch
from graticule.encoders.bases import basis_options, build_basis
from graticule.encoders.harmonics import harmonics
from graticule.encoders.numpy_bodies import body
from graticule.geo.coords import Points
from graticule.weights import Weights

BASIS_ROWS = 4096  # places at a time of one thread: enough to spread the cost of a call thin
BODY_ROWS = 512  # of these: what layers hand on stays in the processor's cache


class NumpyLocation:
    """(n, 2) lon/lat degrees float64 -> (n, dim) float32, from the config and the weights of a `LocationEncoder`.

    Within 1e-5 of it, relative to the size of the vectors (both compute in float32; the contract suite compares them).
    SettingError for a config that names what this version does not know, CacheError for weights that do not fit it.
    """

    def __init__(self, config: Mapping[str, Any], weights: Weights) -> None:
        name, self.dim = config["name"], int(config["dim"])
        options = basis_options(name)
        self.basis = build_basis(name, **{key: value for key, value in config.items() if key in options})
        arrays = weights.under("basis.")
        self.arrays = {name: arrays.take(name, *shape) for name, shape in self.basis.shapes.items()}
        self.body = body(config["body"], weights.under("body."), self.basis.dim, self.dim, dict(config))
        self.low_frequency = int(config["low_frequency"])
        columns = (self.low_frequency + 1) ** 2
        self.skip = weights.take("skip.weight", self.dim, columns).T if self.low_frequency else None
        weights.finish()

    def __call__(self, points: Points) -> NDArray[np.float32]:
        out = np.empty((len(points), self.dim), dtype=np.float32)
        if len(points) <= BODY_ROWS:
            self._fill(out, points)
            return out
        with single_threaded() as threads, ThreadPoolExecutor(threads) as pool:
            rows = min(max(-(-len(points) // threads), BODY_ROWS), BASIS_ROWS)
            parts = [slice(start, start + rows) for start in range(0, len(points), rows)]
            for _ in pool.map(lambda part: self._fill(out[part], points[part]), parts):
                pass  # an error is raised here
        return out

    def _fill(self, out: NDArray[np.float32], points: Points) -> None:
        columns, scratch = self.basis(points, self.arrays).astype(np.float32, copy=False), Scratch()
        for start in range(0, len(points), BODY_ROWS):
            part = slice(start, start + BODY_ROWS)
            out[part] = self.body(columns[part], scratch)
            if self.skip is not None:
                out[part] += harmonics(points[part], self.low_frequency) @ self.skip
