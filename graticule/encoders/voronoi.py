"""Soft Voronoi cells of learnable sites on the sphere: detail goes where the sites go; numpy or torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from graticule.encoders.basis import Arrays, BasisSettings
from graticule.encoders.hashgrid import weighted_rows
from graticule.encoders.nearest_sites import nearest_sites
from graticule.errors import SettingError
from graticule.geo.arrays import namespace
from graticule.geo.coarse_land import mostly_land
from graticule.geo.coords import Points, fibonacci_lattice, unit_sphere

FADED = 1e-9  # weight left to the farthest of the nearest sites, so that the weights of equally far ones are defined


def voronoi(xyz: Any, sites: Any, sharpness: Any, values: Any, nearest: int) -> Any:
    """Values of the sites around, weighted by nearness; continuous, and free of any seam.

    (n, 3) points of the unit sphere float64, (s, 3) sites as directions of any length, (s,) sharpness above 0,
    (s, f) values -> (n, f), in the dtype of the values. Gradients flow to the sites, the sharpness and the values.

    Of the k = `nearest` sites, with d_j the straight distance to site j, u_j = (d_j / d_k)^2 and u_1 the least of them,
    the weights are (1 - u_j) exp(-sharpness_j (u_j - u_1)), divided by their sum: a softmax times a fade. The fade
    takes the k-th site to zero, so one that enters or leaves the k nearest makes no step (FADED of it is left). Where
    two sites are the nearest they weigh the same, however sharp they are: cells are those of Voronoi, and the sharpness
    of a site says how soon it ends outside its own.

    After TTE (Cher 2026), whose weights are a softmax of sharpness_j <x, s_j> over all sites, which hands the cells of
    dull sites to sharp ones. Here a place costs the same however many sites there are, but for the search in a tree;
    distances count in units of d_k, so one start fits dense and sparse sites; and the nearest site has exponent 0, so a
    dull one far off never outweighs sharp ones at hand, only to drop out steeply. The k nearest are exact, from a tree
    made at every call, since sites move (1 ms for 4,096 sites, on the processor). Nothing is approximated: sites beyond
    the k-th weigh nothing by definition.
    """
    xp = namespace(xyz)
    sites = _double(sites)
    sites = sites / (sites**2).sum(-1)[:, None] ** 0.5
    index = _nearest(xyz, sites, nearest)
    squares = ((xyz[:, None] - sites[index]) ** 2).sum(-1)
    share = squares / (xp.amax(squares, -1)[:, None] + np.finfo(float).tiny)
    weights = (1 + FADED - share) * xp.exp(sharpness[index] * (xp.amin(share, -1)[:, None] - share))
    return weighted_rows(values, index, weights / weights.sum(-1)[:, None])


def _double(array: Any) -> Any:
    return array.astype(np.float64, copy=False) if isinstance(array, np.ndarray) else array.double()


def _nearest(xyz: Any, sites: Any, nearest: int) -> Any:
    """(n, 3) points, (s, 3) sites -> (n, nearest) numbers of the nearest sites, nearest first."""
    if namespace(xyz) is not np and namespace(xyz).compiler.is_exporting():
        from graticule.encoders.traceable import nearest_of_all

        return nearest_of_all(xyz, sites, nearest)
    if isinstance(xyz, np.ndarray):
        return nearest_sites(xyz, sites, nearest)
    index = nearest_sites(xyz.detach().cpu().numpy(), sites.detach().cpu().numpy(), nearest)
    return namespace(xyz).asarray(index, device=xyz.device)


def land_first(count: int, sea_density: float) -> Points:
    """`count` lon/lat degrees, spread evenly over the land, and over the sea `sea_density` times as densely.

    Of an eight times finer Fibonacci lattice those places stay whose turn comes first in the even sequence of the
    multiples of the root of 2, at sea `sea_density` times as often.
    """
    lattice = fibonacci_lattice(8 * count)
    turn = np.arange(8 * count) * 2**0.5 % 1
    return lattice[np.argsort(turn / np.where(mostly_land(lattice), 1, sea_density), kind="stable")[:count]]


@dataclass(frozen=True, kw_only=True)
class Voronoi(BasisSettings):
    """Soft Voronoi cells of `sites` learnable sites, each with a learnable sharpness and `site_features` values.

    Sites start evenly on land, `sea_density` times as densely at sea (4,096: 150 km apart on land); all as sharp as
    `sharpness`, of which the logarithm of a multiple is learned; values start normal. At a place the `nearest` sites
    count: 4 or more, since up to 3 lie equally near at the corner of a cell, where nothing would be left to weigh.
    """

    learned: ClassVar[tuple[str, ...]] = ("sites", "log_sharpness", "values")
    sites: int = 4096
    nearest: int = 12
    site_features: int = 32
    sharpness: float = 8.0
    sea_density: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 4 <= self.nearest <= self.sites or self.site_features < 1:
            raise SettingError(
                "Voronoi cells need 4 <= nearest <= sites and 1 value a site or more, "
                f"got nearest={self.nearest}, sites={self.sites}, site_features={self.site_features}."
            )
        if not self.sharpness > 0 or not 0 < self.sea_density <= 1:
            raise SettingError(
                "Voronoi cells need a sharpness above 0 and 0 < sea_density <= 1, "
                f"got {self.sharpness:g} and {self.sea_density:g}."
            )

    @property
    def dim(self) -> int:
        return self.site_features

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {
            "sites": (self.sites, 3),
            "log_sharpness": (self.sites,),
            "values": (self.sites, self.site_features),
        }

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        values = np.random.default_rng(self.seed).standard_normal((self.sites, self.site_features))
        start = {
            "sites": unit_sphere(land_first(self.sites, self.sea_density)),
            "log_sharpness": np.zeros(self.sites),
            "values": values,
        }
        return {name: array.astype(np.float32) for name, array in start.items()}

    def __call__(self, points: Any, arrays: Arrays | None = None) -> Any:
        xp = namespace(points)
        arrays = self.arrays() if arrays is None else arrays
        given = [arrays[name] for name in self.learned]
        sites, logarithm, values = given if xp is np else [xp.as_tensor(a, device=points.device) for a in given]
        sharpness = self.sharpness * xp.exp(_double(logarithm))
        return voronoi(unit_sphere(points), sites, sharpness, self.cast(values), self.nearest)
