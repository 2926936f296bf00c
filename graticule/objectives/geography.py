"""What the distance between two places says about targets and negatives; an embedding alone knows nothing of it.

Nearness    of each modality: how wide its targets are, and from what distance on a place is a negative
Target      what each row of a softmax should find, and what is left out of its softmax
find_near   the cross-entropy of a softmax with such a target
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from graticule.errors import SettingError, unknown
from graticule.geo.coords import chord_km, unit_sphere

FAR = 80.0  # exponents stop here: smaller weights are nothing, and exp is ten times slower where it underflows
KERNELS: dict[str, Callable[[Tensor], Tensor]] = {  # of the distance over the scale
    "gaussian": lambda r: torch.exp(-(r.square() / 2).clamp(max=FAR)),
    "exponential": lambda r: torch.exp(-r.clamp(max=FAR)),
    "ball": lambda r: (r <= 1).to(r.dtype),
}


class Target(NamedTuple):
    """Of n rows and m candidates, the first n of which are the rows' own: (n, m) weights, and (n, m) who is left out.

    A weight is 0 or more and 1 for the own candidate, which is never left out.
    """

    weights: Tensor
    left_out: Tensor

    def back(self) -> Target:
        """What the first n candidates should find among the rows."""
        n = len(self.weights)
        return Target(self.weights[:, :n].T, self.left_out[:, :n].T)


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
        self, rows: Sequence[tuple[str, Tensor]], others: Sequence[Tensor] = (), shares: Sequence[float] = (1.0,)
    ) -> Iterator[Target]:
        """A target for every share of the vector: of all rows together among their places and `others`.

        `rows` are the modalities with the (n_i, 2) lon/lat degrees of their rows, `others` (k_i, 2) places of no row.
        """
        places = torch.cat([lonlat for _, lonlat in rows])
        km = _between_km(places, torch.cat([places, *others]))
        soft, mask = (
            torch.cat([km.new_full((len(lonlat), 1), radii[name]) for name, lonlat in rows])
            for radii in (self.soft_km, self.mask_km)
        )
        left_out = (km < mask).fill_diagonal_(False)
        for share in shares:
            scale = soft.clamp(min=1e-6) / share**self.coarse
            yield Target((KERNELS[self.kernel](km / scale) * (soft > 0)).fill_diagonal_(1), left_out)


def find_near(logits: Tensor, target: Target) -> Tensor:
    """(n,) cross-entropies -sum_j p_ij log softmax_j(logits[i]) of (n, m) logits; one-hot weights give `find_own`."""
    weights = target.weights.masked_fill(target.left_out, 0)
    share = weights / weights.sum(dim=1, keepdim=True)
    logits = logits.masked_fill(target.left_out, torch.finfo(logits.dtype).min / 2)  # finite: 0 of it is 0
    return F.cross_entropy(logits, share.to(logits.dtype), reduction="none")


def _between_km(a: Tensor, b: Tensor) -> Tensor:
    """Great-circle km of all (n, 2) with all (m, 2) lon/lat degrees: (n, m) float32, exactly 0 for equal places."""
    straight = torch.cdist(unit_sphere(a), unit_sphere(b), compute_mode="donot_use_mm_for_euclid_dist")
    km: Tensor = chord_km(straight.float())
    return km
