"""SINR (Cole 2023): sines and cosines of longitude and doubled latitude, then four residual blocks.

Written from utils.py (`encode_loc`) and models.py (`ResidualFCNet`) of the authors, who take (lon, lat).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from graticule.encoders.bases import Wrap
from graticule.encoders.basis import Arrays
from graticule.encoders.location import LocationEncoder
from graticule.errors import DataError
from graticule.geo.arrays import namespace
from graticule.zoo.blocks import ReluBlock
from graticule.zoo.checkpoint import Checkpoint


class DoubledWrap(Wrap):
    """Sines, then cosines of longitude and of twice the latitude (Mac Aodha 2019, eq. 2).

    A latitude of x and of 180 - x degrees would be the same: so are the two poles on one meridian.
    """

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        return super().__call__(namespace(points).stack([points[:, 0], 2 * points[:, 1]], -1))


def encoder(checkpoint: Checkpoint) -> LocationEncoder:
    """256-d vectors: what the authors' network hands to its species classifier, which is left out.

    Only for models of coordinates alone: those with environmental rasters as input are refused. Continuous at the
    antimeridian, but at a pole the longitude still counts.
    """
    checkpoint.setting("input_enc", {"sin_cos": None}, "sin_cos")
    part = checkpoint.part("feats.", "0.weight")
    width, columns = part.shape("0.weight")
    if columns != DoubledWrap.dim:
        raise DataError(
            f"{part.path}: expected {DoubledWrap.dim} input columns, sin and cos of a place, got {columns}."
        )
    depth = sum(name.endswith(".w1.weight") for name in part.tensors)
    body = nn.Sequential(nn.Linear(columns, width), nn.ReLU(), *(ReluBlock(width) for _ in range(depth)))
    part.fill(body)
    return LocationEncoder(DoubledWrap(), body, width, 0, {"name": "sinr"})
