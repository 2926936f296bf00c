"""Everything an embedding of the Earth says about itself without labels, as plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graticule.evaluation.information.dimension import Dimension, mle, twonn
from graticule.evaluation.information.scale import degree_spectrum, resolution_km
from graticule.evaluation.information.spread import (
    alignment,
    effective_rank,
    participation_ratio,
    rankme,
    spectrum,
    uniformity,
)
from graticule.geo.coords import Points, offset_km
from graticule.geo.variogram import semivariogram

Array = NDArray[Any]

ALIGNMENT_KM = 50.0
EDGES_KM = (0.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 12800.0, 20100.0)


@dataclass(frozen=True)
class Profile:
    """Label-free information content; `dataclasses.asdict` makes it JSON.

    `degree_fractions` are of degrees 1, 2, ... over the whole sphere, sea included; everything else is of the
    places given. The semivariogram lists only bins that hold pairs.
    """

    places: int
    components: int
    twonn: Dimension
    mle: Dimension
    effective_rank: float
    rankme: float
    participation_ratio: float
    eigenvalues: list[float]  # of the covariance
    uniformity: float
    alignment: float  # with a random place at most `alignment_km` away, uniform by area
    alignment_km: float
    degree_fractions: list[float]
    degree_beyond: float
    half_power_degree: int | None
    half_power_km: float | None
    variogram_km: list[float]
    variogram_gamma: list[float]
    variogram_pairs: list[int]
    half_sill_km: float | None


def profile(embed: Callable[[Points], Array], points: Points, *, max_degree: int = 90, seed: int = 0) -> Profile:
    """All measures of this room for `embed`, which maps (n, 2) lon/lat degrees to (n, d), at the places `points`.

    Which places count is the caller's choice: land, or `uniform_places` for the whole Earth. `embed` is also
    called on a lattice of about 4.5 max_degree^2 places and on `points` displaced by up to 50 km.

    Raises DataError for fewer than 12 places with different vectors.
    """
    vectors = np.asarray(embed(points))
    shares = degree_spectrum(embed, max_degree=max_degree)
    half = shares.half_power_degree
    variogram = semivariogram(points, vectors, EDGES_KM, seed=seed)
    filled = variogram.pairs > 0
    return Profile(
        places=len(points),
        components=vectors.shape[1],
        twonn=twonn(vectors, seed=seed),
        mle=mle(vectors, seed=seed),
        effective_rank=effective_rank(vectors),
        rankme=rankme(vectors),
        participation_ratio=participation_ratio(vectors),
        eigenvalues=spectrum(vectors).tolist(),
        uniformity=uniformity(vectors, seed=seed),
        alignment=alignment(vectors, np.asarray(embed(_displaced(points, ALIGNMENT_KM, seed)))),
        alignment_km=ALIGNMENT_KM,
        degree_fractions=shares.fractions.tolist(),
        degree_beyond=shares.beyond,
        half_power_degree=half,
        half_power_km=None if half is None else resolution_km(half),
        variogram_km=variogram.mean_km[filled].tolist(),
        variogram_gamma=variogram.gamma[filled].tolist(),
        variogram_pairs=variogram.pairs[filled].tolist(),
        half_sill_km=variogram.half_sill_km,
    )


def _displaced(points: Points, km: float, seed: int) -> Points:
    """Every place moved to a random one within `km`, uniform by area (flat within so small a circle)."""
    rng = np.random.default_rng(seed)
    away, bearing = km * np.sqrt(rng.random((len(points), 1))), rng.uniform(0, 2 * np.pi, (len(points), 1))
    return offset_km(points, away * np.sin(bearing), away * np.cos(bearing))[:, 0]
