"""What the distance between two places says about targets and negatives; an embedding alone knows nothing of it.

Nearness    of each modality: how wide its targets are, and from what distance on a place is a negative
Near        the targets and negatives of one softmax, made block by block
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graticule.errors import SettingError, unknown
from graticule.geo.coords import chord_km, unit_sphere
from graticule.objectives.blocks import Target, own

ONE_PLACE = 4e-15  # squares of chords so short, half a metre, are rounding
FAR = 80.0  # exponents stop here: smaller weights are nothing, and exp is ten times slower where it underflows
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {  # of the distance over the scale
    "gaussian": lambda r: torch.exp(-(r.square() / 2).clamp(max=FAR)),
    "exponential": lambda r: torch.exp(-r.clamp(max=FAR)),
    "ball": lambda r: (r <= 1).to(r.dtype),
}


@dataclass(frozen=True)
class Nearness:
    """Soft targets, several positives a place and false negatives of each modality, all by great-circle km d.

    The target of row i among the candidates j of its softmax is p_ij = w_ij / sum_j w_ij, w_ij = kernel(d / soft_km):

        gaussian     exp(-(d / soft_km)^2 / 2)
        exponential  exp(-d / soft_km): with a fitted scale the correlation of the modality itself
        ball         1 up to soft_km, else 0: everything so near is a positive and counts alike (SupCon, Khosla 2020,
                     eq. 2, between modality and location, where the own place is a candidate, and as a mean over rows)

    With soft_km 0 the own place is the whole target, whatever else lies there. Candidates nearer than mask_km are
    left out of the softmax, as neither targets nor negatives, but the own one stays. The first `share` numbers of a
    vector, out of all, get a scale share^-coarse times as wide; .5 follows the sphere, on which m functions resolve
    details in proportion to m^-.5.

    Raises SettingError for radii that are not 0 km or more and for an unknown kernel.
    """

    soft_km: Mapping[str, float]
    mask_km: Mapping[str, float]
    kernel: str = "gaussian"
    coarse: float = 0.0

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise unknown("kernel of soft targets", self.kernel, KERNELS)
        for what, radii in (("soft_km", self.soft_km), ("mask_km", self.mask_km)):
            for name, km in radii.items():
                if not 0 <= km < math.inf:
                    raise SettingError(f"{what} of {name!r} must be a finite number of km, 0 or more, got {km:g}.")

    def targets(
        self,
        rows: Sequence[tuple[str, Tensor]],
        others: Sequence[Tensor] = (),
        shares: Sequence[float] = (1.0,),
        dtype: torch.dtype = torch.float32,
    ) -> Iterator[Near]:
        """Targets for every share of the vector: of all rows together among their places and `others`.

        `rows` are modalities with the (n_i, 2) lon/lat degrees of rows, `others` (k_i, 2) places of no row.
        Weights are computed in `dtype`.
        """
        places = unit_sphere(torch.cat([lonlat for _, lonlat in rows] + list(others)))
        soft, mask = (
            torch.cat([places.new_full((len(lonlat), 1), radii[name], dtype=dtype) for name, lonlat in rows])
            for radii in (self.soft_km, self.mask_km)
        )
        for share in shares:
            yield Near(places, soft, soft.clamp(min=1e-6) / share**self.coarse, mask, KERNELS[self.kernel])


@dataclass(frozen=True)
class Near:
    """Targets by distance of n rows among m places, the first n of which are their own: `blocks.Targets`.

    `places` are (m, 3) points of the unit sphere; `soft_km`, the same widened for a prefix, and `mask_km` (n, 1).
    """

    places: Tensor
    soft_km: Tensor
    scale_km: Tensor
    mask_km: Tensor
    kernel: Callable[[Tensor], Tensor]

    def block(self, rows: slice, columns: slice) -> Target:
        """The target of some rows among some places."""
        km = _between_km(self.places[rows], self.places[columns], self.soft_km.dtype)
        left_out = km < self.mask_km[rows]
        weights = self.kernel(km / self.scale_km[rows]) * (self.soft_km[rows] > 0)
        own(rows, columns, left_out)[1].fill_(False)
        own(rows, columns, weights)[1].fill_(1)
        return Target(weights.masked_fill_(left_out, 0), left_out)


def _between_km(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """(n, m) great-circle km of (n, 3) and (m, 3) points of the unit sphere in float64; half a metre is 0."""
    squared = torch.addmm(a.new_full((1, 1), 2 - ONE_PLACE), a, b.T, alpha=-2)  # of the chord: |a|^2 + |b|^2 - 2 a.b
    km: Tensor = chord_km(squared.to(dtype).clamp_(min=0).sqrt_())
    return km
