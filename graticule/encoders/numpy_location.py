"""A trained location encoder in numpy: the same vectors as `encoders.location` gives, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.bases import basis_options, build_basis
from graticule.encoders.harmonics import harmonics
from graticule.encoders.numpy_bodies import body
from graticule.geo.coords import Points
from graticule.weights import Weights

BASIS_ROWS = 4096  # places at a time: enough to spread the cost of a call thin
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
        for start in range(0, len(points), BASIS_ROWS):
            few = points[start : start + BASIS_ROWS]
            columns = self.basis(few, self.arrays).astype(np.float32, copy=False)
            for row in range(0, len(few), BODY_ROWS):
                part = slice(start + row, start + row + BODY_ROWS)
                out[part] = self.body(columns[row : row + BODY_ROWS])
                if self.skip is not None:
                    out[part] += harmonics(points[part], self.low_frequency) @ self.skip
        return out
