"""SatCLIP (Klemmer 2025): real spherical harmonics below degree L, then a sine network, all in float64.

Written from satclip/location_encoder.py and satclip/positional_encoding/ of the authors, who take (lon, lat) and set
phi = lon + 180 degrees, theta = lat + 90 degrees: the harmonics at the antipode, so degree l changes sign with (-1)^l.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt, pi
from typing import Any

import numpy as np

from graticule.encoders.basis import Arrays, BasisSettings
from graticule.encoders.bodies import Siren
from graticule.encoders.harmonics import harmonics
from graticule.encoders.location import LocationEncoder
from graticule.errors import DataError
from graticule.geo.arrays import namespace
from graticule.zoo.checkpoint import Checkpoint

W0_FIRST, W0 = 30.0, 1.0
CALCULATIONS = {"analytic": "analytic", "closed-form": "closed-form"}


@dataclass(frozen=True, kw_only=True)
class AntipodalHarmonics(BasisSettings):
    """Orthonormal real harmonics of degree 0 to `orders` - 1 at the antipode, with the authors' signs and constants.

    "analytic" (all released weights): no Condon-Shortley sign, and order 0 carries sqrt((2l + 1) / 4 * pi) in place
    of sqrt((2l + 1) / (4 pi)), that is pi times too much (spherical_harmonics_generate_ylms.py). "closed-form": with
    the Condon-Shortley sign and the right constant.

    Our recurrence is exact to rounding. The authors evaluate expanded polynomials with 15 digits, whose terms cancel:
    at L=10 they are within 1e-12 of ours, at L=40 their highest degree is off by 0.1 at order 0 (0.6 beside the poles,
    values up to 8) and by 0.005 at order 1. We do not repeat that error: with random weights of that size
    vectors (values up to 1.9) differ by up to 6e-8 below latitude 30, 8e-4 below 60 and 0.04 at the poles.
    """

    orders: int = 10
    calculation: str = "analytic"
    dtype: str = "float64"

    @property
    def dim(self) -> int:
        return self.orders**2

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        columns = harmonics(points, self.orders - 1, self.dtype)
        degree = np.repeat(np.arange(self.orders), 2 * np.arange(self.orders) + 1)
        order = np.arange(self.dim) - degree * (degree + 1)
        if self.calculation == "analytic":
            factor = (-1.0) ** degree * np.where(order == 0, pi, 1.0)
        else:
            factor = (-1.0) ** (degree + order)
        return columns * namespace(points).asarray(factor)


def encoder(checkpoint: Checkpoint) -> LocationEncoder:
    """256-d vectors from harmonics of L = 10 or 40 (all sizes are read from the tensors).

    The location side of a whole Lightning checkpoint, or of one that holds nothing else; hyper-parameters, where the
    file has them, must name spherical harmonics and a sine network. Dropout is for training and left out.
    """
    checkpoint.setting("le_type", {"sphericalharmonics": None}, "sphericalharmonics")
    checkpoint.setting("pe_type", {"siren": None}, "siren")
    calculation = checkpoint.setting("harmonics_calculation", CALCULATIONS, "analytic")
    part = checkpoint.part("nnet.", "last_layer.weight")
    width, columns = part.shape("layers.0.weight")
    dim, _ = part.shape("last_layer.weight")
    if (orders := isqrt(columns)) ** 2 != columns:
        raise DataError(f"{part.path}: expected a square number of harmonics as input, got {columns} columns.")
    depth = part.count("layers.{}.weight")
    body = Siren(columns, dim, width=width, depth=depth, w0_first=W0_FIRST, w0=W0).double()
    names = {f"{i}.linear.{kind}": f"layers.{i}.{kind}" for i in range(depth) for kind in ("weight", "bias")}
    part.fill(body, names | {f"{depth}.{kind}": f"last_layer.{kind}" for kind in ("weight", "bias")})
    basis = AntipodalHarmonics(orders=orders, calculation=calculation)
    return LocationEncoder(basis, body, dim, 0, {"name": "satclip", **basis.settings()})
