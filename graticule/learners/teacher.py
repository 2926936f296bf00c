"""A teacher in closed form: what all modalities say of a place, as one vector, without training and without labels.

field      a modality read at any place: the mean of its nearest rows, so that modalities need not share places
block      cosines of its principal components, of the place, and of both together, at several scales
teach      principal components of all blocks side by side, turned at random: every modality has a budget of its
           own, and what several of them say has its place once

restore    gives a pupil the teacher's natural spectrum again

A location encoder then learns the vectors by regression: distillation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from graticule.encoders.location import LocationEncoder
from graticule.errors import DataError, SettingError
from graticule.geo.coords import Points, unit_sphere
from graticule.geo.placed import Batch, Placed
from graticule.learners.features import standardised
from graticule.progress import Progress

TEACHER = "teacher"  # the name of its rows in a batch
COMPONENTS = 48  # principal components of a modality that the cosines see
COSINES = 960  # of a modality
PLACE_ALONE, CONTENT_ALONE = 96, 432  # of these cosines; the others see both
WIDTH = 256  # components of a block that are kept
CONTENT, PLACE = (0.25, 4.0), (1.0, 16.0)  # frequencies; content has mean square length 1, the Earth radius 1
SMOOTHED = 0.5  # weight of a modality of which several rows speak for a place: smooth fields say most where a place is
FLATTER = (
    0.25  # the deviation of a component is that of its kernel to the power 1 - FLATTER: small ones are learned too
)
MOST_LIFTED = 10.0  # a direction that a pupil did not learn is noise, and stays small
FITTED_ON = 50_000  # rows for the principal components of cosines
CHUNK = 16_384


def teach(
    sources: Batch, places: Points, neighbours: Mapping[str, int], *, dim: int = 256, seed: int = 0,
    device: torch.device | str = "cpu", prefixes: Sequence[int] = (),
) -> Placed:  # fmt: skip
    """The teacher's vectors (n, dim) float16 of `places` (n, 2) degrees, of mean 0 and mean square 1.

    `sources` are rows of features by modality; `neighbours` says by name how many rows speak for a place, 1 where
    rows are dense (rasters), 1 by default. The columns are in a random rotation: a ridge penalty on standardised
    columns then shrinks every direction by its variance, where it would treat unturned principal components alike.
    With `prefixes`, increasing lengths, columns are turned only among those between two of them: the first m columns
    then span the m leading components, as good a summary as m numbers can be, and the penalty treats blocks alike.
    """
    if not sources:
        raise SettingError("A teacher needs at least one modality, got none.")
    if len(places) < 2:
        raise DataError(f"A teacher needs at least two places, got {len(places)}.")
    draw = torch.Generator().manual_seed(seed)
    xyz = torch.as_tensor(unit_sphere(places), dtype=torch.float32, device=device)
    known = torch.randperm(len(places), generator=draw)[:FITTED_ON].to(device)
    blocks = []
    with Progress("teacher", len(sources), unit="modalities") as progress:
        for name, rows in sources.items():
            near = neighbours.get(name, 1)
            content = principal(torch.from_numpy(field(name, rows, places, near)).to(device))
            blocks.append((SMOOTHED if near > 1 else 1.0) * block(content, xyz, known, draw))
            progress.advance()
    joined = torch.cat(blocks, dim=1)
    mean, directions = leading(joined[known], dim)
    vectors = (joined - mean) @ directions
    vectors = vectors / vectors.std(dim=0).clamp(min=1e-6) ** FLATTER
    widths = np.diff([0, *[length for length in prefixes if length < dim], dim]).tolist()
    turns = [torch.linalg.qr(torch.randn(width, width, generator=draw)).Q for width in widths]
    vectors = vectors @ torch.block_diag(*turns)[: vectors.shape[1]].to(device)  # type: ignore[no-untyped-call]
    vectors = vectors / vectors.square().mean().sqrt().clamp(min=1e-12)
    return Placed(places, vectors.half().cpu().numpy())


@torch.no_grad()
def restore(pupil: LocationEncoder, taught: Placed, *, seed: int = 0) -> None:
    """Give the vectors of a pupil the teacher's natural spectrum, component by component, by a map of its last layer.

    Squared error shrinks what is hard to learn, and FLATTER has raised what is small; a ridge on standardised columns
    takes the variance of a direction for how much it is worth, and with a tail that is too low or too high its
    leave-one-out finds the wrong penalty. The columns are turned at random again, of mean 0 and mean square 1; where
    vectors may be cut that must not be, and nothing is restored.
    """
    draw = torch.Generator().manual_seed(seed)
    some = torch.randperm(len(taught), generator=draw)[:FITTED_ON]
    points = torch.as_tensor(taught.lonlat)[some]
    device = next(pupil.eval().parameters()).device
    own = torch.cat([pupil(points[i : i + CHUNK].to(device)) for i in range(0, len(points), CHUNK)])
    known = torch.as_tensor(taught.features)[some].float()
    natural = spectrum(known)[0].to(device) ** (1 / (1 - FLATTER))
    deviations, axes = spectrum(own)
    lift = natural / natural[0] / (deviations / deviations[0]).clamp(min=1e-9)
    scaled_axes = axes * (lift.clamp(max=MOST_LIFTED) / deviations[0]).float()
    turn = torch.linalg.qr(torch.randn(pupil.dim, pupil.dim, generator=draw)).Q.to(device)
    matrix = scaled_axes @ turn
    matrix = matrix / ((own - own.mean(dim=0)) @ matrix).square().mean().sqrt().clamp(min=1e-12)
    pupil.transform(matrix, -own.mean(dim=0) @ matrix)


def spectrum(values: Tensor) -> tuple[Tensor, Tensor]:
    """Deviations (d,) of all principal components of (n, d) rows, from the largest, and their directions (d, d)."""
    mean, axes = leading(values, values.shape[1])
    deviations = ((values - mean) @ axes).square().mean(dim=0).sqrt()
    return deviations.clamp(min=1e-12), axes


def field(name: str, rows: Placed, places: Points, neighbours: int) -> NDArray[np.float32]:
    """(n, d) standardised features of a modality at `places`: a weighted mean of the 2 * `neighbours` nearest rows.

    The weight is a Gaussian of the distance whose deviation is half the distance of row number `neighbours`, so the
    field is fine where rows are dense and broad where they are sparse. One neighbour means the nearest row itself.
    """
    if neighbours < 1:
        raise SettingError(f"At least one row must speak for a place, got neighbours.{name}={neighbours}.")
    features = standardised(name, rows)
    count = 1 if neighbours == 1 else min(2 * neighbours, len(rows))
    tree, asked = cKDTree(unit_sphere(rows.lonlat)), unit_sphere(places)
    found = np.empty((len(places), features.shape[1]), dtype=np.float32)
    for start in range(0, len(places), CHUNK):
        distance, nearest = tree.query(asked[start : start + CHUNK], k=np.arange(1, count + 1), workers=-1)
        width = np.maximum(distance[:, [min(neighbours, count) - 1]], 1e-9) / 2
        weight = np.exp(-0.5 * (distance / width) ** 2)
        weight /= weight.sum(axis=1, keepdims=True)
        found[start : start + CHUNK] = np.einsum("nk,nkd->nd", weight.astype(np.float32), features[nearest])
    return found


def principal(values: Tensor, most: int = COMPONENTS) -> Tensor:
    """(n, d) -> (n, min(d, most)) principal components in their natural spectrum, of mean square length 1."""
    mean, vectors = leading(values, most)
    return scaled((values - mean) @ vectors)


def block(content: Tensor, xyz: Tensor, known: Tensor, draw: torch.Generator) -> Tensor:
    """(n, at most WIDTH) leading components of the cosines of content (n, c) and place (n, 3), of total variance 1.

    cos(a w.f + s v.x + b) with normal w and v and uniform b are features of a product of Gaussian kernels on content f
    and place x, mixed over the scales 1/a and 1/s (Rahimi & Recht 2007). PLACE_ALONE of them
    have a = 0, CONTENT_ALONE have s = 0.
    """
    uniform = torch.rand(3, COSINES, generator=draw)
    a, s = (low * (high / low) ** uniform[i] for i, (low, high) in enumerate((CONTENT, PLACE)))
    a[:PLACE_ALONE], s[PLACE_ALONE : PLACE_ALONE + CONTENT_ALONE] = 0, 0
    w = (torch.randn(content.shape[1], COSINES, generator=draw) * a).to(content.device)
    v = (torch.randn(3, COSINES, generator=draw) * s).to(content.device)
    b = (2 * math.pi * uniform[2]).to(content.device)

    def cosines(rows: Any) -> Tensor:
        return torch.cos(content[rows] @ w + xyz[rows] @ v + b)

    mean, vectors = leading(cosines(known), WIDTH)
    found = torch.cat([(cosines(slice(i, i + CHUNK)) - mean) @ vectors for i in range(0, len(xyz), CHUNK)])
    return scaled(found, known)


def scaled(values: Tensor, known: Tensor | slice = slice(None)) -> Tensor:
    """(n, d) values divided so that the rows `known` have mean square length 1."""
    return values / values[known].square().sum(dim=1).mean().sqrt().clamp(min=1e-12)


def leading(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean (d,) and `count` leading principal directions (d, count) of (n, d) rows."""
    mean = values.mean(dim=0)
    centred = values - mean
    _, vectors = torch.linalg.eigh((centred.T @ centred).double() / len(values))
    return mean, vectors.flip(1)[:, :count].float()
