"""Tokens of regions -> a vector an entity, an image patch and a region; trained by the JEPA learner."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graticule.encoders.towers import statistics
from graticule.encoders.transformer import Transformer
from graticule.errors import DataError, SettingError, unknown
from graticule.geo.tokens import Tokens

SCALES = 6  # sines and cosines of x and y, the longest of four half-sizes of the region, each half the last
FARTHEST = 10.0  # standardised numbers are cut here: a column that hardly varied in training cannot drown the rest
POSITIONS = ("keys", "added")
LEAST_SQUARES = 1e-3  # ridge, in sets: tags that always come together share their text
STATISTICS_REGIONS = 2048  # regions whose patches are enough for means and deviations
Keep = tuple[Tensor, Tensor | None]  # (t,) entities and (n, m) patches that may be seen


@dataclass(frozen=True)
class Encoded:
    """Vectors of the tokens that were seen, zeros for the others, and of the regions."""

    own: Tensor  # (t, width): entities by themselves, before attention
    entities: Tensor  # (t, width): entities among all that was seen of their region
    patches: Tensor | None  # (n, m, width)
    means: Tensor  # (n, 1 or 2, width): of the tokens of entities, and of patches
    regions: Tensor  # (n, region_dim): what is counted, then the means

    @property
    def vectors(self) -> Tensor:
        """(t, entity_dim) of the entities: by themselves, beside what they are among the others."""
        return torch.cat([self.own, self.entities], dim=1)


class RegionEncoder(nn.Module):
    """A transformer over the entities and image patches of a region (GeoJEPA, arXiv 2503.05774, section 3).

    Entity: GELU(linear of the layer-normed tag sum + linear of the standardised geometry), one more linear
    map; that is the paper's "linear of each, joined, MLP" with its first two linear maps multiplied out, and
    runs once for each set of tags. A hidden attribute is replaced by a learned vector.
    Patch: linear of its standardised pixels, plus a vector that says "image".
    With `place_dim` every region has one more token, from a vector of its place.

    modalities   "T" tags, "G" geometry, "I" image, in any combination; "I" counts only with patches > 0.
                 What is left out is not read; entities are tokens when "T" or "G" is in, and always have
                 their position, which is what is asked for when they are hidden.
    patches      image patches of a region, a square grid, row by row from the north-west
    frequent     so many of the most frequent tags are known one by one, beside the text of all tags: they enter the
                 tokens by a linear map of their own, they can be hidden, and they are counted
    position     "added" to the tokens, as in the paper, or in the queries and "keys" of attention alone, so that what
                 a token says, and the mean of a region, do not depend on where in the region it lies

    The vector of an entity is its token before attention, what it is by itself, beside that after it, what it is
    among the others; `entity_dim` wide. The vector of a region is, where entities are tokens, log(1 + entities) and
    log(1 + count) of each frequent tag; then the mean of the entities after attention and, apart, of the patches, so
    that 196 patches do not drown 30 entities (the paper pools all together, with the padding). The counts take no
    learning; the means are what is learned.
    """

    geometry_mean: Tensor
    geometry_deviation: Tensor
    position_mean: Tensor
    position_deviation: Tensor
    patch_mean: Tensor
    patch_deviation: Tensor
    frequent_text: Tensor
    grid: Tensor

    def __init__(
        self,
        tag_dim: int,
        geometry_dim: int,
        position_dim: int = 8,
        patch_dim: int = 0,
        patches: int = 0,
        *,
        modalities: str = "TGI",
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        feedforward: int = 2,
        dropout: float = 0.0,
        place_dim: int = 0,
        frequent: int = 0,
        position: str = "keys",
    ) -> None:
        super().__init__()
        if position not in POSITIONS:
            raise unknown("position", position, POSITIONS)
        self.modalities = "".join(m for m in "TGI" if m in modalities and (m != "I" or patches))
        if set(modalities) - set("TGI") or not self.modalities:
            raise SettingError(f'modalities must be letters of "TGI", "I" only with patches, got {modalities!r}.')
        self.config: dict[str, Any] = {
            "tag_dim": tag_dim, "geometry_dim": geometry_dim, "position_dim": position_dim, "patch_dim": patch_dim,
            "patches": patches, "modalities": modalities, "width": width, "depth": depth, "heads": heads,
            "feedforward": feedforward, "dropout": dropout, "place_dim": place_dim, "frequent": frequent,
            "position": position,
        }  # fmt: skip
        self.width, self.place_dim = width, place_dim
        self.has_entities, self.has_patches = self.modalities != "I", "I" in self.modalities
        self.frequent = frequent if "T" in self.modalities else 0
        self.region_dim = width * (self.has_entities + self.has_patches) + self.has_entities * (1 + self.frequent)
        self.entity_dim = 2 * width
        self.coordinate_dim = 4 * SCALES + position_dim - 2
        for name, dim in (("geometry", geometry_dim), ("position", position_dim - 2), ("patch", patch_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_deviation", torch.ones(dim))
        self.register_buffer("grid", patch_centres(patches if self.has_patches else 0), persistent=False)
        if "T" in self.modalities:
            self.tags = nn.Sequential(nn.LayerNorm(tag_dim), nn.Linear(tag_dim, width))
            self.hidden_tags = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("frequent_text", torch.zeros(self.frequent, tag_dim))
        if self.frequent:
            self.named = nn.Linear(frequent, width, bias=False)
        if "G" in self.modalities:
            self.geometry = nn.Linear(geometry_dim, width)
            self.hidden_geometry = nn.Parameter(0.02 * torch.randn(width))
        if self.has_entities:
            self.fuse = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        if self.has_patches:
            self.pixels = nn.Linear(patch_dim, width)
            self.image = nn.Parameter(0.02 * torch.randn(width))
        if place_dim:
            self.place = nn.Linear(place_dim, width)
        if position == "added":
            self.position = nn.Linear(self.coordinate_dim, width)
        where_dim = self.coordinate_dim if position == "keys" else 0
        self.transformer = Transformer(width, depth, heads, feedforward, dropout, where_dim)

    def fit_statistics(self, tokens: Tokens) -> RegionEncoder:
        """Set means and deviations of geometry, position and pixels from the tokens (numpy) of training regions.

        And the text of each frequent tag, which is taken from the sum where the tag is hidden: the least squares
        answer, over all sets, to which vectors add up to the sums.
        """
        self._check(tokens)
        if self.frequent:
            held, sums = (np.asarray(part, np.float64) for part in (tokens.frequent, tokens.tag_sets))
            products = held.T @ held + LEAST_SQUARES * np.eye(self.frequent)
            self.frequent_text.copy_(torch.from_numpy(np.linalg.solve(products, held.T @ sums)))
        parts = [("geometry", tokens.geometry), ("position", tokens.position[:, 2:])]
        if self.has_patches:
            some = np.unique(np.linspace(0, len(tokens) - 1, STATISTICS_REGIONS).astype(np.int64))
            parts.append(("patch", tokens.patches[some][tokens.seen[some]]))
        for name, values in parts:
            if len(values):
                mean, deviation, _ = statistics(values, values.shape[1], 0)
                getattr(self, f"{name}_mean").copy_(torch.from_numpy(mean))
                getattr(self, f"{name}_deviation").copy_(torch.from_numpy(deviation))
        return self

    def coordinates(self, position: Tensor) -> Tensor:
        """(..., p) position -> (..., coordinate_dim): sines and cosines of x, y, and the other numbers standardised."""
        position = position.to(self.position_mean.dtype)
        scales = torch.arange(SCALES, device=position.device, dtype=position.dtype)
        angle = (position[..., :2, None] * (math.pi / 2 * 2**scales)).flatten(-2)
        rest = _standard(position[..., 2:], self.position_mean, self.position_deviation)
        return torch.cat([angle.sin(), angle.cos(), rest], dim=-1)

    def patch_coordinates(self) -> Tensor:
        """(m, coordinate_dim) of the image patches; what is no position is average."""
        return self.coordinates(torch.cat([self.grid, self.position_mean.expand(len(self.grid), -1)], dim=1))

    def forward(
        self,
        tokens: Tokens,
        hide_tags: Tensor | None = None,
        hide_geometry: Tensor | None = None,
        keep: Keep | None = None,
        place: Tensor | None = None,
        layers: int = 1,
        hide_frequent: Tensor | None = None,
    ) -> Encoded:
        """Tokens (tensors) of n regions -> their vectors, from the tokens that are seen: all, or those to `keep`.

        hide_tags, hide_geometry   (t,) bool: entities of which this attribute is not seen
        keep                       (t,) and (n, m) bool; patches that are not in `tokens.seen` never count
        place                      (n, place_dim), when the encoder has a place token
        layers                     so many last layers are averaged, see `Transformer`
        hide_frequent              (n, frequent) bool: frequent tags that no entity of the region shows
        """
        self._check(tokens)
        expected = (len(tokens), self.place_dim) if self.place_dim else None
        got = None if place is None else tuple(place.shape)
        if expected != got:
            raise DataError(f"Expected vectors of places of shape {expected}, got {got}.")
        n, owner = len(tokens), owners(tokens.offsets)
        rows, cells = self._seen(tokens, keep)
        of_rows, of_cells = owner[rows], cells // max(1, len(self.grid))
        held = self._held(tokens, rows, of_rows, hide_tags, hide_frequent)
        said = self._embed_entities(tokens, rows, hide_tags, hide_geometry, None if hide_frequent is None else held)
        parts, groups, where = [said], [of_rows], [self.coordinates(tokens.position[rows])]
        if self.has_patches:
            parts.append(self._embed_patches(tokens, cells))
            groups.append(of_cells)
            where.append(self.patch_coordinates().index_select(0, cells % len(self.grid)))
        if self.config["position"] == "added":
            parts = [part + self.position(place_of) for part, place_of in zip(parts, where, strict=True)]
        if place is not None:
            parts.append(self.place(place.to(self.dtype)))
            groups.append(torch.arange(n, device=owner.device))
            where.append(where[0].new_zeros(n, self.coordinate_dim))
        in_keys = torch.cat(where) if self.config["position"] == "keys" else None
        out = self.transformer(torch.cat(parts), torch.cat(groups), layers, in_keys).to(self.dtype)
        entities, patches, _ = out.split([len(rows), len(cells), len(out) - len(rows) - len(cells)])
        means = [mean(entities, of_rows, n)] if self.has_entities else []
        means += [mean(patches, of_cells, n)] if self.has_patches else []
        counts = [torch.bincount(of_rows, minlength=n).to(self.dtype).log1p()[:, None]] if self.has_entities else []
        if held is not None:
            counts.append(held.new_zeros(n, self.frequent).index_add(0, of_rows, held).log1p())
        grids = None
        if self.has_patches:
            grids = self._spread(patches, cells, n * len(self.grid)).view(n, len(self.grid), self.width)
        regions = torch.cat([*counts, *means], dim=1)
        own, among = (self._spread(vectors, rows, len(owner)) for vectors in (said.to(self.dtype), entities))
        return Encoded(own, among, grids, torch.stack(means, dim=1), regions)

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters and of all results."""
        return self.transformer.norm.weight.dtype

    def _seen(self, tokens: Tokens, keep: Keep | None) -> tuple[Tensor, Tensor]:
        entities, patches = (None, None) if keep is None else keep
        device = tokens.offsets.device
        rows = torch.arange(len(tokens.tags) if self.has_entities else 0, device=device)
        rows = rows if entities is None or not self.has_entities else rows[entities]
        if not self.has_patches:
            return rows, rows[:0]
        seen = tokens.seen if patches is None else tokens.seen & patches
        return rows, seen.flatten().nonzero().squeeze(1)

    def _held(
        self, tokens: Tokens, rows: Tensor, owner: Tensor, hide_tags: Tensor | None, hide_frequent: Tensor | None
    ) -> Tensor | None:
        """(k, frequent) which frequent tags the entities with these numbers show; None for an encoder without."""
        if not self.frequent:
            return None
        held: Tensor = tokens.frequent.to(self.dtype).index_select(0, tokens.tags[rows])
        if hide_frequent is not None:
            held = held * ~hide_frequent[owner]
        return held if hide_tags is None else held * ~hide_tags[rows][:, None]

    def _embed_entities(
        self,
        tokens: Tokens,
        rows: Tensor,
        hide_tags: Tensor | None,
        hide_geometry: Tensor | None,
        left: Tensor | None,
    ) -> Tensor:
        """(k, width) fused attributes of the entities with these numbers; `left` where some frequent tags are hidden.

        The text of hidden tags is taken from the sum; nothing is left of it where no frequent tag is left.
        """
        if not self.has_entities:
            return self.grid.new_zeros(0, self.width)
        mixed: Tensor | float = 0.0
        if "T" in self.modalities:
            sets, number = tokens.tag_sets.to(self.dtype), tokens.tags[rows]
            if left is None:
                named = self.named(tokens.frequent.to(self.dtype)) if self.frequent else 0.0
                found = (self.tags(sets) + named).index_select(0, number)
            else:
                gone = tokens.frequent.to(self.dtype).index_select(0, number) - left
                text = sets.index_select(0, number) - gone @ self.frequent_text
                text = text * ~(gone.any(dim=1) & ~left.any(dim=1))[:, None]
                found = self.tags(text) + self.named(left)
            mixed = mixed + _hidden(found, hide_tags, rows, self.hidden_tags)
        if "G" in self.modalities:
            shape = _standard(tokens.geometry[rows], self.geometry_mean, self.geometry_deviation)
            mixed = mixed + _hidden(self.geometry(shape), hide_geometry, rows, self.hidden_geometry)
        fused: Tensor = self.fuse(mixed)
        return fused

    def _embed_patches(self, tokens: Tokens, cells: Tensor) -> Tensor:
        values = tokens.patches.flatten(0, 1).index_select(0, cells)
        embedded: Tensor = self.pixels(_standard(values, self.patch_mean, self.patch_deviation)) + self.image
        return embedded

    def _spread(self, values: Tensor, rows: Tensor, total: int) -> Tensor:
        return values if len(rows) == total else values.new_zeros(total, self.width).index_copy(0, rows, values)

    def _check(self, tokens: Tokens) -> None:
        names = ["tag_dim", "geometry_dim", "position_dim"]
        names += ["frequent"] * bool(self.frequent) + ["patches", "patch_dim"] * self.has_patches
        expected, found = {name: self.config[name] for name in names}, token_widths(tokens)
        got = {name: found.get(name, 0) for name in names}
        if got != expected:
            raise DataError(f"Expected tokens of {expected}, got {got}.")


def region_encoder(**config: Any) -> RegionEncoder:
    """`region_encoder(**e.config)` rebuilds the encoder `e`, to load its weights into; unknown options are named."""
    valid = list(inspect.signature(RegionEncoder).parameters)
    for name in config:
        if name not in valid:
            raise unknown("option of RegionEncoder", name, valid)
    return RegionEncoder(**config)


def token_widths(tokens: Tokens) -> dict[str, int]:
    """The options of a `RegionEncoder` that follow from the tokens (numpy) it is to read."""
    found = {"tag_dim": tokens.tag_sets.shape[1], "geometry_dim": tokens.geometry.shape[1]}
    found |= {"position_dim": tokens.position.shape[1]}
    found |= {"frequent": 0 if tokens.frequent is None else tokens.frequent.shape[1]}
    if tokens.patches is not None:
        found |= {"patches": tokens.patches.shape[1], "patch_dim": tokens.patches.shape[2]}
    return found


def mean(values: Tensor, owner: Tensor, n: int) -> Tensor:
    """(k, w) values of tokens, the region of each -> (n, w) their means; zeros for a region without tokens."""
    counts = torch.bincount(owner, minlength=n)
    return values.new_zeros(n, values.shape[1]).index_add(0, owner, values) / counts.clamp(min=1)[:, None]


def owners(offsets: Tensor) -> Tensor:
    """(t,) the region of each entity."""
    return torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())


def patch_centres(patches: int) -> Tensor:
    """(m, 2) x to the east and y to the north of a square grid of patches, -1 to 1, row by row from the north-west."""
    side = math.isqrt(patches)
    if side * side != patches:
        raise SettingError(f"Image patches must fill a square grid, got {patches} of them.")
    ticks = (2 * torch.arange(side) + 1) / max(side, 1) - 1
    return torch.stack([ticks.repeat(side), -ticks.repeat_interleave(side)], dim=1)


def _standard(values: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    return ((values.to(mean.dtype) - mean) / deviation).clamp(-FARTHEST, FARTHEST)


def _hidden(values: Tensor, hide: Tensor | None, rows: Tensor, instead: Tensor) -> Tensor:
    return values if hide is None else torch.where(hide[rows][:, None], instead, values)
