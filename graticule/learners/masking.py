"""What the JEPA learner hides: one kind of mask a region and step, context and targets disjoint by construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graticule.encoders.region_encoder import owners
from graticule.errors import SettingError, unknown
from graticule.geo.tokens import Tokens

KINDS = ("random", "area", "modality", "attribute", "alike")
LEFT_OUT = -1  # the kind of a region in which nothing can be asked


@dataclass(frozen=True)
class Masks:
    """Which tokens the context encoder sees, and which are to be predicted.

    A target is not in the context, or it is there with something hidden: its tags or its geometry under an attribute
    mask, some of its tags under a mask of tags alike.
    """

    kinds: Tensor  # (n,) rows of KINDS, or LEFT_OUT
    context: tuple[Tensor, Tensor | None]  # (t,) entities, (n, m) patches: bool
    targets: tuple[Tensor, Tensor | None]
    hide_tags: Tensor  # (t,) bool
    hide_geometry: Tensor
    hide_frequent: Tensor | None = None  # (n, frequent) bool

    def part(self, regions: slice, entities: slice) -> Masks:
        """Those of some regions side by side and of their entities."""
        (c_entities, c_patches), (t_entities, t_patches) = self.context, self.targets
        return Masks(
            self.kinds[regions],
            (c_entities[entities], None if c_patches is None else c_patches[regions]),
            (t_entities[entities], None if t_patches is None else t_patches[regions]),
            self.hide_tags[entities],
            self.hide_geometry[entities],
            None if self.hide_frequent is None else self.hide_frequent[regions],
        )


@dataclass(frozen=True)
class Masking:
    """Draws masks from torch's random numbers, one kind for each region.

    random      a share of the tokens
    area        the tokens whose centre lies in one of some random boxes
    modality    all image patches, or all entities
    attribute   a share of the entities, of which either the tags or the geometry is hidden
    alike       one to `tags` of the region's frequent tags, each equally likely, and those whose text is alike, are
                hidden from all of its entities, as on a map that does not show such things; an entity of which no
                frequent tag is left is not in the context

    `chances` of the kinds add up to anything; a kind that a region cannot have (modality without an image,
    all but attribute with a single token, alike without a frequent tag) leaves its chance to the others. Against the
    paper (arXiv 2503.05774): several blocks become one set of targets that is predicted at once, chances are chances
    of the result, and no target stays in the context. A region keeps at least the share `least_context` of its
    tokens, rounded up, under random and area masks, and one token under the others.
    """

    chances: Mapping[str, float]
    modalities: str = "TGI"
    target_share: float = 0.5
    least_context: float = 0.1
    boxes: int = 4
    box_area: tuple[float, float] = (0.35, 0.45)  # of the region
    box_aspect: tuple[float, float] = (0.5, 2.0)  # width / height
    tags: int = 3
    alike: tuple[float, float] = (0.3, 0.9)  # cosine from which texts are alike, drawn anew each time

    def __post_init__(self) -> None:
        for name in self.chances:
            if name not in KINDS:
                raise unknown("kind of mask", name, KINDS)
        if not self.chances or min(self.chances.values()) < 0 or sum(self.chances.values()) <= 0:
            raise SettingError(f"Chances of masks must be >= 0 and not all 0, got {dict(self.chances)}.")
        if not (0 < self.target_share < 1 and 0 <= self.least_context < 1):
            raise SettingError(
                "Expected 0 < target_share < 1 and 0 <= least_context < 1, got "
                f"{self.target_share} and {self.least_context}."
            )

    def __call__(self, tokens: Tokens, grid: Tensor, likeness: Tensor | None = None) -> Masks:
        """Masks of the regions of `tokens` (tensors); `grid`, (m, 2), are the centres of the image patches.

        `likeness` (frequent, frequent) are the cosines of the texts of the frequent tags.
        """
        items = _Items.of(tokens, grid, self.modalities)
        owner = items.owner[: len(tokens.tags)]
        if likeness is None or "T" not in self.modalities or not self.chances.get("alike"):
            likeness = grid.new_zeros(0, 0)
        held = tokens.frequent[tokens.tags] > 0 if len(likeness) else owner.new_zeros(len(owner), 0, dtype=torch.bool)
        shown = grid.new_zeros(items.n, len(likeness)).index_add(0, owner, held.to(grid.dtype)) > 0
        kinds = self._kinds(items, shown.any(dim=1))
        random, area, modality, attribute, alike = (kinds == number for number in range(len(KINDS)))
        wanted = torch.ones_like(items.patch)
        wanted &= ~area[items.owner] | self._boxed(items)
        hide_patches = torch.rand(items.n, device=kinds.device) < 0.5
        wanted &= ~modality[items.owner] | (items.patch == hide_patches[items.owner])
        wanted &= ~attribute[items.owner] | ~items.patch
        hide_frequent = self._alike(shown, likeness) & alike[:, None]
        hidden = hide_frequent[owner]
        lost, left = (items.of_entities(part.any(dim=1)) for part in (held & hidden, held & ~hidden))
        wanted &= ~alike[items.owner] | lost
        wanted &= items.there

        most = items.count - (self.least_context * items.count).ceil().clamp(min=1)
        most = torch.where(modality | alike, items.count - 1, torch.where(attribute, items.entities, most))
        among = torch.where(attribute, items.entities, items.count)
        number = torch.where(random | attribute, (self.target_share * among).round(), items.sums(wanted))
        number = torch.where(kinds == LEFT_OUT, 0, number.clamp(min=1).minimum(most))
        target = items.rank(wanted) < number[items.owner]
        context = items.there & (~target | attribute[items.owner] | (alike[items.owner] & left))
        hide_tags, hide_geometry = self._attributes(target & context & attribute[items.owner])
        attributes = hide_tags[: len(owner)], hide_geometry[: len(owner)]
        known = hide_frequent if len(likeness) else None
        return Masks(kinds, items.split(context), items.split(target), *attributes, known)

    def _kinds(self, items: _Items, tagged: Tensor) -> Tensor:
        several, entities, patches = items.count > 1, items.entities > 0, items.count > items.entities
        possible = torch.stack([several, several, entities & patches, entities, several & tagged], dim=1)
        chances = possible * torch.tensor([self.chances.get(k, 0.0) for k in KINDS], device=possible.device)
        asked = chances.sum(dim=1) > 0
        kinds = torch.multinomial(torch.where(asked[:, None], chances, 1.0), 1).squeeze(1) if items.n else items.count
        return torch.where(asked, kinds, LEFT_OUT).long()

    def _alike(self, shown: Tensor, likeness: Tensor) -> Tensor:
        """(n, frequent) tags that are hidden: some of those shown, and those alike; nothing where none is shown."""
        if not shown.numel():
            return shown
        some = shown.any(dim=1)
        chances = torch.where(some[:, None], shown.float(), 1.0)
        number = torch.randint(1, self.tags + 1, some.shape, device=some.device)
        least = self.alike[0] + (self.alike[1] - self.alike[0]) * torch.rand(some.shape, device=some.device)
        hidden = torch.zeros_like(shown)
        for turn in range(self.tags):
            drawn = torch.multinomial(chances, 1).squeeze(1)
            like = (likeness[drawn] >= least[:, None]).scatter(1, drawn[:, None], True)
            hidden |= like & (turn < number)[:, None]
        return hidden & some[:, None]

    def _boxed(self, items: _Items) -> Tensor:
        draw = torch.rand(4, items.n, self.boxes, device=items.xy.device)
        area = 4 * (self.box_area[0] + (self.box_area[1] - self.box_area[0]) * draw[0])
        aspect = self.box_aspect[0] + (self.box_aspect[1] - self.box_aspect[0]) * draw[1]
        half = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], dim=2).clamp(max=2) / 2
        middle = (2 * draw[2:].permute(1, 2, 0) - 1) * (1 - half)
        away = (items.xy[:, None] - middle[items.owner]).abs()
        return (away <= half[items.owner]).all(dim=2).any(dim=1)

    def _attributes(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if "T" not in self.modalities or "G" not in self.modalities:
            nothing = torch.zeros_like(hidden)
            return (hidden, nothing) if "T" in self.modalities else (nothing, hidden)
        tags = torch.rand(len(hidden), device=hidden.device) < 0.5
        return hidden & tags, hidden & ~tags


@dataclass(frozen=True)
class _Items:
    """Entities and then all patches, one below the other: where each lies, in which region, and whether it is there."""

    owner: Tensor
    xy: Tensor
    patch: Tensor
    there: Tensor
    n: int
    grid: int
    count: Tensor  # (n,) float: tokens that are there
    entities: Tensor  # (n,) float: entities among them

    @classmethod
    def of(cls, tokens: Tokens, grid: Tensor, modalities: str) -> _Items:
        n, m, owner = len(tokens), len(grid), owners(tokens.offsets)
        of_entities = torch.full_like(owner, modalities != "I", dtype=torch.bool)
        regions = torch.arange(n, device=owner.device)
        seen = tokens.seen.flatten() if m else of_entities[:0]
        owners_ = torch.cat([owner, regions.repeat_interleave(m)])
        there = torch.cat([of_entities, seen])
        patch = torch.arange(len(there), device=owner.device) >= len(owner)
        xy = torch.cat([tokens.position[:, :2].to(grid.dtype), grid.repeat(n, 1)])
        count = torch.bincount(owners_[there], minlength=n).float()
        entities = torch.bincount(owners_[there & ~patch], minlength=n).float()
        return cls(owners_, xy, patch, there, n, m, count, entities)

    def sums(self, values: Tensor) -> Tensor:
        return torch.bincount(self.owner[values], minlength=self.n).float()

    def rank(self, wanted: Tensor) -> Tensor:
        """Place of each item in a random order of its region: first the wanted ones, last those that are not there."""
        score = torch.rand(len(wanted), device=wanted.device) + (~wanted).float() + 2 * (~self.there).float()
        return rank(score, self.owner, self.n)

    def of_entities(self, values: Tensor) -> Tensor:
        """(t,) bool of entities -> the same of all items, false for patches."""
        return torch.cat([values, torch.zeros_like(self.patch[len(values) :])])

    def split(self, values: Tensor) -> tuple[Tensor, Tensor | None]:
        entities, patches = values[~self.patch], values[self.patch]
        return entities, patches.view(self.n, self.grid) if self.grid else None


def rank(score: Tensor, owner: Tensor, n: int) -> Tensor:
    """(k,) place of each item, from 0, among those with the same owner by rising score, which is 0 to 4."""
    order = torch.argsort(4 * owner.double() + score, stable=True)
    lengths = torch.bincount(owner, minlength=n)
    places = torch.arange(len(owner), device=owner.device) - (lengths.cumsum(0) - lengths)[owner[order]]
    return torch.empty_like(places).scatter_(0, order, places)


def sampled(tokens: Tokens, most: int) -> Tokens:
    """The regions (tensors) with at most `most` entities each, drawn from torch's random numbers."""
    lengths = tokens.offsets.diff()
    if not len(lengths) or int(lengths.max()) <= most:
        return tokens
    owner = owners(tokens.offsets)
    keep = rank(torch.rand(len(owner), device=owner.device), owner, len(lengths)) < most
    return replace(
        tokens,
        offsets=torch.cat([tokens.offsets[:1], lengths.clamp(max=most).cumsum(0)]),
        tags=tokens.tags[keep],
        geometry=tokens.geometry[keep],
        position=tokens.position[keep],
    )


def part(tokens: Tokens, regions: slice) -> Tokens:
    """Some regions (tensors) side by side, with only the tag sets that they use; all of them are the tokens as is."""
    if regions == slice(0, len(tokens)):
        return tokens
    offsets = tokens.offsets[regions.start : regions.stop + 1]
    entities = slice(int(offsets[0]), int(offsets[-1]))
    used, tags = torch.unique(
        torch.cat([tokens.tags.new_zeros(1), tokens.tags[entities]]), return_inverse=True
    )  # row 0, no tags, stays
    return tokens.chosen(regions, entities, offsets - offsets[0], used, tags[1:])
