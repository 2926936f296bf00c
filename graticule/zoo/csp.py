"""CSP (Mai 2023): Space2Vec-grid on degrees, then a small network with a layer norm.

Written from main/SpatialRelationEncoder.py (`GridCellSpatialRelationEncoder`), main/module.py
(`MultiLayerFeedForwardNN`) and main/utils.py (`get_spa_encoder`) of the authors, who take (lon, lat) in plain degrees
(`convert_loc_to_tensor_no_normalize`) with radii from 0.1 to 360. Examples elsewhere divide by 180 and 90 before:
that is not what the weights were trained on. The authors round degrees to float32 first, which moves their vectors by
up to 7e-5 (values up to 5).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from graticule.encoders.basis import Arrays
from graticule.encoders.fourier import Space2Vec
from graticule.encoders.location import LocationEncoder
from graticule.errors import DataError
from graticule.geo.arrays import namespace
from graticule.zoo.checkpoint import Checkpoint

ACTIVATIONS: dict[str, nn.Module] = {
    "gelu": nn.GELU(),
    "leakyrelu": nn.LeakyReLU(0.2),
    "relu": nn.ReLU(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
}
YES_NO = {True: True, False: False}


class Grid(Space2Vec):
    """The columns of Space2Vec-grid in the authors' order: by coordinate, then by radius, then sine and cosine."""

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        xp = namespace(points)
        columns = super().__call__(points).reshape(len(points), self.radii, 2, 2)  # radius; cosine, sine; lon, lat
        return xp.moveaxis(xp.flip(columns, (2,)), 3, 1).reshape(len(points), self.dim)


class Layer(nn.Module):
    """norm(activation(W x) + x), the norm and the sum where asked for."""

    def __init__(self, inside: int, outside: int, activation: nn.Module, norm: bool, skip: bool) -> None:
        super().__init__()
        self.linear, self.activation = nn.Linear(inside, outside), activation
        self.layernorm = nn.LayerNorm(outside) if norm else nn.Identity()
        self.skip = skip and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.linear(x))
        return self.layernorm(y + x if self.skip else y)  # type: ignore[no-any-return]


def encoder(checkpoint: Checkpoint) -> LocationEncoder:
    """256-d vectors of the "gridcell" encoder, with the activation and radii that the checkpoint's `params` name.

    As in the authors' code the last layer, too, ends with the activation, without norm and sum. Not continuous at the
    antimeridian and the poles.
    """
    checkpoint.setting("spa_enc_type", {"gridcell": None})
    checkpoint.setting("freq_init", {"geometric": None})
    activation = checkpoint.setting("spa_f_act", ACTIVATIONS)
    norm, skip = (checkpoint.setting(name, YES_NO) for name in ("use_layn", "skip_connection"))
    part = checkpoint.part("spa_enc.ffn.layers.", "0.linear.weight")
    count = part.count("{}.linear.weight")
    sizes = [part.shape(f"{i}.linear.weight") for i in range(count)]
    radii, rest = divmod(sizes[0][1], 4)
    if rest:
        raise DataError(f"{part.path}: expected 4 columns a radius as input, got {sizes[0][1]} columns.")
    body = nn.Sequential(
        *(
            Layer(inside, outside, activation, norm and i < count - 1, skip and i < count - 1)
            for i, (outside, inside) in enumerate(sizes)
        )
    )
    part.fill(body)
    settings = checkpoint.settings
    basis = Grid(radii=radii, shortest_deg=float(settings["min_radius"]), longest_deg=float(settings["max_radius"]))
    return LocationEncoder(basis, body, sizes[-1][0], 0, {"name": "csp", **basis.settings()})
