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
from graticule.geo.coords import EARTH_RADIUS_KM, unit_sphere
from graticule.objectives.blocks import Target, own

ONE_PLACE = 1e-15  # haversines so small, half a metre, are rounding
FAR = 80.0  # exponents stop here: smaller weights are nothing, and exp is ten times slower where it underflows
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {  # of the distance over the scale, which they overwrite
    "gaussian": lambda r: r.square_().mul_(-0.5).clamp_(min=-FAR).exp_(),
    "exponential": lambda r: r.neg_().clamp_(min=-FAR).exp_(),
    "ball": lambda r: r.le_(1),
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
            torch.cat([places.new_full((len(lonlat), 1), radii[name]) for name, lonlat in rows])
            for radii in (self.soft_km, self.mask_km)
        )
        for share in shares:
            scale = soft.clamp(min=1e-6) / share**self.coarse
            yield Near(
                places,
                (2 * EARTH_RADIUS_KM / scale).to(dtype),
                torch.sin((mask / (2 * EARTH_RADIUS_KM)).clamp(max=math.pi / 2)).square().where(mask > 0, -1.0),
                (soft == 0) if (soft == 0).any() else None,
                KERNELS[self.kernel],
            )


@dataclass(frozen=True)
class Near:
    """Targets by distance of n rows among m places, the first n of which are their own: `blocks.Targets`.

    `places` are (m, 3) points of the unit sphere. Of each row, (n, 1): the Earth's diameter over the scale of its
    targets, the haversine below which places are left out, and whether its own place is the whole target, None for
    nobody's.
    """

    places: Tensor
    steepness: Tensor
    masked: Tensor
    alone: Tensor | None
    kernel: Callable[[Tensor], Tensor]

    def block(self, rows: slice, columns: slice) -> Target:
        """The target of some rows among some places; distance over scale is 2 R asin(haversine^.5) / scale."""
        haversine = _haversine(self.places[rows], self.places[columns])
        left_out = haversine < self.masked[rows]
        own(rows, columns, left_out)[1].fill_(False)
        distance = haversine.to(self.steepness.dtype).clamp_(0, 1).sqrt_().asin_().mul_(self.steepness[rows])
        weights = self.kernel(distance).masked_fill_(left_out, 0)
        if self.alone is not None:
            weights.masked_fill_(self.alone[rows], 0)
        own(rows, columns, weights)[1].fill_(1)
        return Target(weights, left_out)


def _haversine(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) haversines (1 - a.b) / 2 of the angles between (n, 3) and (m, 3) points of the unit sphere, in float64.

    Below 0 within half a metre, where rounding begins.
    """
    return torch.addmm(a.new_full((1, 1), 0.5 - ONE_PLACE), a, b.T, alpha=-0.5)
