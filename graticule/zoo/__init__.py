"""Published location encoders, from a local checkpoint of their authors, as models of this library.

    model = zoo.load("geoclip", "location_encoder_weights.pth")
    vectors = model.embed(lon=[11.6], lat=[48.1])                  # (1, 512) float32

Coordinates come as everywhere here, longitude first, whatever order the authors' own code takes. Nothing is
downloaded, and only tensors and plain values are read from a file, never Python objects. The networks are our own,
written from the formulas; what they were compared with is said for each in `ENCODERS`.
"""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path

from graticule import __version__
from graticule.embed import Model
from graticule.encoders.networks import TorchNetworks
from graticule.errors import unknown
from graticule.files import digest_file


@dataclass(frozen=True)
class Published:
    """Where an encoder comes from.

    `licence` is that of code and weights, `order` the one in which the authors' own code takes coordinates, `files`
    are names of released checkpoints, `compared` says what our version of it was compared with.
    """

    paper: str
    source: str
    licence: str
    order: str
    files: str
    compared: str


RANDOM = "the authors' own modules with random weights of the released sizes, never with released weights"

ENCODERS: dict[str, Published] = {
    "csp": Published(
        paper="Mai 2023, CSP, ICML",
        source="https://github.com/gengchenmai/csp",
        licence="none stated in the repository",
        order="lon, lat",
        files="model_fmow_gridcell_*.pth.tar, model_inat_2018_gridcell_*.pth.tar",
        compared=RANDOM,
    ),
    "geoclip": Published(
        paper="Vivanco 2023, GeoCLIP, NeurIPS",
        source="https://github.com/VicenteVivan/geo-clip",
        licence="MIT",
        order="lat, lon",
        files="location_encoder_weights.pth of the package geoclip (pip install --no-deps geoclip)",
        compared="the authors' own module with the released weights",
    ),
    "satclip": Published(
        paper="Klemmer 2025, SatCLIP, AAAI",
        source="https://github.com/microsoft/satclip",
        licence="MIT",
        order="lon, lat",
        files="satclip-{resnet18,resnet50,vit16}-{l10,l40}.ckpt",
        compared=RANDOM,
    ),
    "sinr": Published(
        paper="Cole 2023, SINR, ICML",
        source="https://github.com/elijahcole/sinr",
        licence="MIT",
        order="lon, lat",
        files="model_an_full_input_enc_sin_cos_*.pt",
        compared=RANDOM,
    ),
    "tte": Published(
        paper="Cher 2026, TTE, ECCV",
        source="https://github.com/mvrl/TTE",
        licence="MIT",
        order="lat, lon",
        files="model.safetensors, *.ckpt",
        compared=RANDOM,
    ),
}


def load(name: str, path: str | Path) -> Model:
    """The published encoder `name` of `ENCODERS` with the weights of a local file (.safetensors, .pt, .pth, .ckpt).

    The model has no towers; its `folder` is the file, its `about` holds name, digest of the file and origin.
    `model.location` maps (n, 2) lon/lat degrees float64 to (n, dim) float32 and says in `seamless` whether it is
    continuous at the antimeridian and the poles.

    Raises SettingError for an unknown name; DataError for a file that is missing, is no checkpoint, holds Python
    objects, or does not fit, naming the first missing, unexpected or ill-shaped tensor.
    """
    if name not in ENCODERS:
        raise unknown("published encoder", name, ENCODERS)
    from graticule.zoo.checkpoint import read_checkpoint

    origin, file = ENCODERS[name], Path(path)
    encoder = importlib.import_module(f"graticule.zoo.{name}").encoder(read_checkpoint(file))
    about = {
        "name": name,
        "recipe": name,
        "weights": digest_file(file),
        "graticule": __version__,
        "data": {name: {"licence": origin.licence}},
        "towers": {},
        "published": asdict(origin),
    }
    return Model(file, about, TorchNetworks(encoder.eval().requires_grad_(False)))
