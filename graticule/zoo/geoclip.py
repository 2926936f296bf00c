"""GeoCLIP (Vivanco 2023): Equal Earth plane, random Fourier features of three scales, a capsule for each, summed.

geoclip/model/location_encoder.py of the authors takes (lat, lon). Our preset "geoclip" has the same formulas; only
the names differ. Turns are counted in float64 here before they are cast: with the released weights our vectors are
within 3e-6 of the authors' module run in float64, which their float32 misses by up to 2e-5 (vectors up to 0.08).
"""

from __future__ import annotations

import torch

from graticule.encoders.location import LocationEncoder, location_encoder
from graticule.zoo.checkpoint import Checkpoint, Part

LINEARS = {0: "capsule.1", 3: "capsule.3", 6: "capsule.5", 9: "head.0"}  # linear layers of ours (MLP) and theirs


def encoder(checkpoint: Checkpoint) -> LocationEncoder:
    """512-d vectors. Not continuous at the antimeridian and the poles."""
    part = checkpoint.part("", "LocEnc0.capsule.0.b")
    module = location_encoder("geoclip")
    own = module.basis.get_buffer("frequencies")
    scales, axes, each = own.shape
    projections = [f"LocEnc{i}.capsule.0.b" for i in range(scales)]
    frequencies = torch.stack([part.tensor(name, (each, axes)).T for name in projections])
    rest = Part(part.path, part.prefix, {k: v for k, v in part.tensors.items() if k not in projections})
    names = {
        f"parts.{i}.{ours}.{kind}": f"LocEnc{i}.{theirs}.{kind}"
        for i in range(scales)
        for ours, theirs in LINEARS.items()
        for kind in ("weight", "bias")
    }
    rest.fill(module.body, names)
    own.copy_(frequencies)
    return module
