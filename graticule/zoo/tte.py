"""TTE (Cher 2026): soft Voronoi cells of learned sites on the sphere, attention over shared tokens, residual blocks.

Written from tte/location_encoder.py, tte/load.py and tte/model.py of the authors, who take (lat, lon).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softmax

from graticule.encoders.bases import Cartesian
from graticule.encoders.location import LocationEncoder
from graticule.zoo.blocks import ReluBlock
from graticule.zoo.checkpoint import Checkpoint

GATE = 0.5  # share of the tokens; fixed in the authors' configuration and not among the tensors
TEMPERATURES = (0.01, 10.0)
ROWS = 2048  # places at a time: a row of weights for each has as many columns as there are sites

TOKENS = "semantic_registers."
NAMES = {
    "directions": "_directions",
    "log_sharpness": "_log_tau",
    "values": "_embeddings",
    "tokens": TOKENS + "registers",
    "log_temperature": TOKENS + "log_temperature",
    **{
        f"{ours}.{kind}": f"{TOKENS}{theirs}.{kind}"
        for ours, theirs in (("to_tokens", "loc_to_logits"), ("to_dim", "site_to_out"), ("norm", "norm"))
        for kind in ("weight", "bias")
    },
}
IMAGE_SIDE = (TOKENS + "img_to_logits.", TOKENS + "_img_temperature")


class Voronoi(nn.Module):
    """(n, 3) points g of the unit sphere -> (n, dim) vectors of length 1.

    v = sum_k softmax_k(tau_k <g, s_k>) v_k over the sites s_k; a = softmax(W v / temperature) over the tokens;
    then normalised(MLP(norm((1 - GATE) P v + GATE a tokens))). The temperature is the learned one, as in the authors'
    own loading, although the last epochs of their training ran at a fixed one.
    """

    def __init__(self, sites: int, site_dim: int, tokens: int, dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.zeros(sites, 3))
        self.log_sharpness = nn.Parameter(torch.zeros(sites))
        self.values = nn.Parameter(torch.zeros(sites, site_dim))
        self.tokens = nn.Parameter(torch.zeros(tokens, dim))
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.to_tokens = nn.Linear(site_dim, tokens)
        self.to_dim = nn.Identity() if site_dim == dim else nn.Linear(site_dim, dim)
        self.norm = nn.LayerNorm(dim)
        blocks = [ReluBlock(width) for _ in range(depth)]
        self.mlp = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), *blocks, nn.Linear(width, dim, bias=False))

    def forward(self, xyz: Tensor) -> Tensor:
        sites = normalize(self.directions, dim=-1) * self.log_sharpness.exp()[:, None]
        return torch.cat([self._vectors(rows, sites) for rows in torch.split(xyz, ROWS)])

    def _vectors(self, xyz: Tensor, sites: Tensor) -> Tensor:
        value = softmax(xyz @ sites.T, -1) @ self.values
        temperature = self.log_temperature.exp().clamp(*TEMPERATURES)
        token = softmax(self.to_tokens(value) / temperature, -1) @ self.tokens
        return normalize(self.mlp(self.norm((1 - GATE) * self.to_dim(value) + GATE * token)), dim=-1)


def encoder(checkpoint: Checkpoint) -> LocationEncoder:
    """512-d vectors of length 1 (all sizes are read from the tensors), continuous everywhere.

    The location side of model.safetensors or of a Lightning checkpoint; the tensors that belong to images are ignored.
    """
    part = checkpoint.part("location.", "_directions")
    sites, site_dim = part.shape("_embeddings")
    tokens, dim = part.shape(NAMES["tokens"])
    width, _ = part.shape("mlp.0.weight")
    depth = sum(name.startswith("mlp.") and name.endswith(".w1.weight") for name in part.tensors)
    body = Voronoi(sites, site_dim, tokens, dim, width, depth)
    part.fill(body, NAMES, IMAGE_SIDE)
    return LocationEncoder(Cartesian(), body, dim, 0, {"name": "tte"})
