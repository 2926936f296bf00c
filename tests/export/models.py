"""Small models that no one trained, for graphs."""

from pathlib import Path

import torch

from graticule.embed import Model
from graticule.encoders.location import location_encoder
from graticule.encoders.networks import TorchNetworks

ABOUT = {"name": "small", "weights": "0" * 32, "recipe": "imagebind", "graticule": "0.1.0", "data": {}}


def model(shared=None, length=None, **location):
    encoder = location_encoder(**location).eval().requires_grad_(False)
    about = ABOUT | {"location": encoder.config, "shared": shared}
    torch.manual_seed(0)
    space = None if shared is None else torch.nn.Linear(encoder.dim, shared).requires_grad_(False)
    return Model(Path("small"), about, TorchNetworks(encoder, shared=space), length)
