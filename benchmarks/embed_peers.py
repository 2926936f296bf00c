"""Location encoders of other projects, loaded from their own code, for `benchmarks.embed_speed`.

Each is a function of (n, 2) lon/lat degrees that gives vectors. Their code is run as it stands; what is imported there
and not needed for a location encoder (einops in SatCLIP, the image tower of GeoCLIP) is passed by.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graticule.geo.coords import Points

Peer = Callable[[Points], Any]
DEGREES = 40  # of SatCLIP's larger models: degree 0 to 39
TORCHSPATIAL = {
    "Space2Vec-grid": "GridCellSpatialRelationLocationEncoder",
    "Space2Vec-theory": "TheoryGridCellSpatialRelationLocationEncoder",
    "xyz": "XYZSpatialRelationLocationEncoder",
    "NeRF": "NERFSpatialRelationLocationEncoder",
    "Sphere2Vec-sphereC": "SphereSpatialRelationLocationEncoder",
    "Sphere2Vec-sphereC+": "SphereGirdSpatialRelationLocationEncoder",
    "Sphere2Vec-sphereM": "SphereMixScaleSpatialRelationLocationEncoder",
    "Sphere2Vec-sphereM+": "SphereGridMixScaleSpatialRelationLocationEncoder",
    "Sphere2Vec-dfs": "DFTSpatialRelationLocationEncoder",
    "rff": "RFFSpatialRelationLocationEncoder",
    "wrap": "AodhaFFNSpatialRelationLocationEncoder",
    "Spherical harmonics": "SphericalHarmonicsSpatialRelationLocationEncoder",
}


def satclip(checkout: Path) -> Peer:
    """SatCLIP L=40: its harmonics as its own script writes them, SIREN 2 x 512 -> 256, in float64 as it loads them."""
    home = checkout / "satclip"
    written = home / "positional_encoding" / "spherical_harmonics_ylm.py"
    if not written.exists():
        script = (written.parent / "spherical_harmonics_generate_ylms.py").read_text()
        shorter = script.replace("L = 101", f"L = {DEGREES}")
        made = subprocess.run([sys.executable, "-c", shorter], check=True, capture_output=True, text=True)
        written.write_text(made.stdout)
    if importlib.util.find_spec("einops") is None:  # used for modulated networks alone
        sys.modules["einops"] = types.SimpleNamespace(rearrange=None)  # type: ignore[assignment]
    sys.path.insert(0, str(home))
    module = importlib.import_module("location_encoder")
    basis = module.get_positional_encoding("sphericalharmonics", legendre_polys=DEGREES)
    body = module.get_neural_network("siren", basis.embedding_dim, 256, 512, 2)
    encoder = module.LocationEncoder(basis, body).double().eval()
    return lambda points: encoder(torch.from_numpy(points))


def geoclip(normal: bool = False) -> Peer:
    """GeoCLIP with the weights of the package, float32, 512-d.

    A part of them is below the normal range of float32, where processors are slow; `normal` sets it to 0.
    """
    spec = importlib.util.find_spec("geoclip")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("geoclip")
    package = types.ModuleType("geoclip_model")  # the package itself imports its image tower
    package.__path__ = [str(Path(spec.origin).parent / "model")]
    sys.modules["geoclip_model"] = package
    encoder = importlib.import_module("geoclip_model.location_encoder").LocationEncoder().eval()
    if normal:
        for weight in encoder.parameters():
            weight.data[weight.abs() < torch.finfo(torch.float32).tiny] = 0
    return lambda points: encoder(torch.from_numpy(points[:, ::-1].astype(np.float32)))


def tte(checkout: Path) -> Peer:
    """TTE at its released size, 4,096 sites -> 512-d, with random weights, float32."""
    sys.path.insert(0, str(checkout))
    encoder = importlib.import_module("tte.location_encoder").VoronoiLocationEncoder(n_sites=4096).eval()
    return lambda points: encoder(torch.from_numpy(points[:, ::-1].astype(np.float32)))


def torchspatial(checkout: Path, name: str) -> Peer:
    """An encoder of TorchSpatial with the defaults of its class, 256-d."""
    sys.path.insert(0, str(checkout / "main"))
    encoder = getattr(importlib.import_module("SpatialRelationEncoder"), TORCHSPATIAL[name])
    extent = {"extent": (-180, 180, -90, 90)} if "extent" in inspect.signature(encoder).parameters else {}
    made = encoder(spa_embed_dim=256, device="cpu", **extent).eval()
    return lambda points: made(points[:, None])


def load_peers(
    satclip_at: Path | None, tte_at: Path | None, torchspatial_at: Path | None
) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that can be loaded and give vectors, by name, and why others do not."""
    wanted: dict[str, Callable[[], Peer]] = {"GeoCLIP": geoclip, "GeoCLIP, normal weights": partial(geoclip, True)}
    absent = {}
    for name, folder, load in (("SatCLIP L=40", satclip_at, satclip), ("TTE", tte_at, tte)):
        if folder is None:
            absent[name] = "no checkout given"
        else:
            wanted[name] = partial(load, folder)
    if torchspatial_at is None:
        absent["TorchSpatial"] = "no checkout given"
    else:
        wanted |= {f"TorchSpatial {name}": partial(torchspatial, torchspatial_at, name) for name in TORCHSPATIAL}
    peers = {}
    for name, make in wanted.items():
        try:
            peer = make()
            with torch.inference_mode():
                peer(np.array([[11.5, 48.1], [-70.0, -33.0]]))
            peers[name] = peer
        except Exception as error:  # a peer may fail in any way
            absent[name] = f"{type(error).__name__}: {error}"
    return peers, absent
