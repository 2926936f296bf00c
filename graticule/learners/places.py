"""Places of no row, as extra negatives: random ones, some in a ring around rows, or those of earlier batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from graticule.errors import SettingError
from graticule.geo.coords import chord, chord_km, offset_km


class RandomPlaces(nn.Module):
    """`count` new places a step, uniform by area on the whole sphere (CSP's own fall into one octant)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        if count < 1:
            raise SettingError(f"The number of random places must be at least 1, got {count}.")
        self.count = count

    def forward(self, seen: Tensor) -> Tensor:
        """(count, 2) lon/lat degrees on the device of the batch's own places `seen`."""
        u = torch.rand(2, self.count, dtype=torch.float64, device=seen.device)
        return torch.stack([360 * u[0] - 180, torch.rad2deg(torch.asin(2 * u[1] - 1))], dim=-1)

    def remember(self, seen: Tensor) -> None:
        """Nothing to remember."""


class RingPlaces(nn.Module):
    """`count` new places a step, each from `radius_km` to twice as far from a random row, uniform by area of the ring.

    Negatives that are hard and yet, at a radius above that of the modalities' own resemblance, not false.
    """

    def __init__(self, count: int, radius_km: float) -> None:
        super().__init__()
        if count < 1:
            raise SettingError(f"The number of places in rings must be at least 1, got {count}.")
        if not radius_km > 0:
            raise SettingError(f"A ring needs an inner radius above 0 km, got {radius_km:g}.")
        self.count, self.radius_km = count, radius_km

    def forward(self, seen: Tensor) -> Tensor:
        """(count, 2) lon/lat degrees around rows of the batch's own places `seen` (n, 2), drawn with replacement."""
        rows = torch.randint(len(seen), (self.count,), device=seen.device)
        return displaced(seen[rows], self.radius_km, 2 * self.radius_km)

    def remember(self, seen: Tensor) -> None:
        """Nothing to remember."""


def displaced(places: Tensor, low_km: float, high_km: float) -> Tensor:
    """(n, 2) lon/lat degrees, each moved by low_km to high_km of great circle, uniform by area of the ring.

    The area of a cap is pi times its chord squared (Archimedes), so the square of the chord is uniform.
    """
    u = torch.rand(2, len(places), 1, dtype=torch.float64, device=places.device).cpu().numpy()
    low, high = chord(low_km) ** 2, chord(high_km) ** 2
    km, bearing = chord_km(np.sqrt(low + (high - low) * u[0])), 2 * np.pi * u[1]
    moved = offset_km(places.cpu().numpy(), km * np.sin(bearing), km * np.cos(bearing))[:, 0]
    return torch.from_numpy(moved).to(places.device)


class PlaceQueue(nn.Module):
    """The last `size` places of earlier batches, first in, first out (GeoCLIP 2023, sec. 3.3).

    It starts empty; the original starts full of places near (0, 0) that never were in the data.
    """

    places: Tensor
    filled: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise SettingError(f"The size of the place queue must be at least 1, got {size}.")
        self.register_buffer("places", torch.zeros(size, 2, dtype=torch.float64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def forward(self, seen: Tensor) -> Tensor:
        """(at most size, 2) lon/lat degrees; none before the first batch was remembered."""
        return self.places[: int(self.filled)]

    @torch.no_grad()
    def remember(self, seen: Tensor) -> None:
        """Put the newest places in front and let the oldest fall out."""
        joined = torch.cat([seen, self.places[: int(self.filled)]])[: len(self.places)]
        self.places[: len(joined)] = joined
        self.filled.fill_(len(joined))
