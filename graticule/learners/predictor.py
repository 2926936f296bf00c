"""The predictor of GeoJEPA: from what the context encoder said to what the hidden tokens mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graticule.encoders.region_encoder import Encoded, RegionEncoder, owners
from graticule.encoders.transformer import Transformer
from graticule.geo.tokens import Tokens
from graticule.learners.masking import Masks


class Predictor(nn.Module):
    """A narrow transformer over what the context encoder said and, in place of hidden tokens, a vector and a position.

    An entity with a hidden attribute is in the context, with what is seen of it, and is marked as asked for.
    """

    def __init__(self, encoder: RegionEncoder, width: int, depth: int, heads: int) -> None:
        super().__init__()
        config = encoder.config
        self.inward, self.outward = nn.Linear(encoder.width, width), nn.Linear(width, encoder.width)
        self.position = nn.Linear(encoder.coordinate_dim, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        if encoder.has_entities:
            self.asked = nn.Parameter(0.02 * torch.randn(width))
        if encoder.has_patches:
            self.image = nn.Parameter(0.02 * torch.randn(width))
        self.transformer = Transformer(width, depth, heads, config["feedforward"], config["dropout"])

    def forward(self, encoder: RegionEncoder, tokens: Tokens, context: Encoded, masks: Masks) -> dict[str, Tensor]:
        """Predictions (k, encoder.width) of the targets, "entities" and "patches", in the order of the tokens."""
        parts, groups, asked = {}, [], {}
        if encoder.has_entities:
            seen, target = masks.context[0], masks.targets[0]
            used = (seen | target).nonzero().squeeze(1)
            where = self.position(encoder.coordinates(tokens.position[used]))
            marked = torch.where((seen & target)[used][:, None], self.asked, 0.0)
            parts["entities"] = self._input(context.entities[used], seen[used]) + where + marked
            groups.append(owners(tokens.offsets)[used])
            asked["entities"] = target[used]
        if encoder.has_patches and context.patches is not None:
            seen, target = (part.flatten() for part in (masks.context[1], masks.targets[1]) if part is not None)
            used = (seen | target).nonzero().squeeze(1)
            cells = len(encoder.grid)
            where = (self.position(encoder.patch_coordinates()) + self.image).index_select(0, used % cells)
            parts["patches"] = self._input(context.patches.flatten(0, 1)[used], seen[used]) + where
            groups.append(used // cells)
            asked["patches"] = target[used]
        out = self.transformer(torch.cat(list(parts.values())), torch.cat(groups))
        split = out.split([len(part) for part in parts.values()])
        return {name: self.outward(part[asked[name]]) for name, part in zip(parts, split, strict=True)}

    def _input(self, vectors: Tensor, seen: Tensor) -> Tensor:
        return torch.where(seen[:, None], self.inward(vectors), self.hidden)
