"""Places of no row, as extra negatives: random ones, or a queue of those seen in earlier batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graticule.errors import SettingError


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
