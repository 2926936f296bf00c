"""Tokens of made-up regions whose tags, shapes and pixels come from the same few themes."""

import numpy as np
import torch

from graticule.geo.placed import Placed
from graticule.geo.tokens import Tokens

TAG_DIM, GEOMETRY_DIM, PATCH_DIM, KINDS, THEMES, FREQUENT = 16, 6, 5, 24, 8, 6


def planted(n=40, *, side=0, fewest=3, most=14, seed=0):
    """n regions of `fewest` to `most` entities, with side x side patches, some unseen; as numpy, in float16.

    An entity has one of 24 tags, of which the first 6 are the frequent ones.
    """
    rng, world = np.random.default_rng(seed), np.random.default_rng(99)
    tag_sets = np.concatenate([np.zeros((1, TAG_DIM)), world.normal(size=(KINDS, TAG_DIM))])
    shapes, pixels = world.normal(size=(KINDS, GEOMETRY_DIM)), world.normal(size=(THEMES, PATCH_DIM))
    kinds = world.dirichlet(np.full(KINDS, 0.15), size=THEMES)
    themes = rng.dirichlet(np.full(THEMES, 0.3), size=n)
    offsets = np.concatenate([[0], rng.integers(fewest, most + 1, n).cumsum()])
    chances = np.repeat(themes @ kinds, np.diff(offsets), axis=0).cumsum(axis=1)
    drawn = (rng.random((offsets[-1], 1)) > chances / chances[:, -1:]).sum(axis=1)
    position = np.concatenate([rng.uniform(-1, 1, (offsets[-1], 2)), rng.normal(size=(offsets[-1], 6))], axis=1)
    grid = (n, side * side)
    return Tokens(
        offsets,
        drawn + 1,
        (shapes[drawn] + 0.5 * rng.normal(size=(offsets[-1], GEOMETRY_DIM))).astype(np.float16),
        position.astype(np.float16),
        tag_sets.astype(np.float16),
        np.eye(KINDS + 1, FREQUENT, -1, dtype=np.float16),
        ((themes @ pixels)[:, None] + 0.5 * rng.normal(size=(*grid, PATCH_DIM))).astype(np.float16) if side else None,
        rng.random(grid) < 0.9 if side else None,
    )


def batch(tokens):
    """The batch of these regions, as the trainer gives it to a learner."""
    return {"osm": Placed(torch.zeros(len(tokens), 2, dtype=torch.float64), tokens.to("cpu"))}
