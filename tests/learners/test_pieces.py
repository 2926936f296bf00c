"""Embedding in pieces: the same losses and gradients as at once, and the same dropout the second time."""

import pytest
import torch
from torch import nn

from graticule.encoders.location import location_encoder
from graticule.encoders.towers import tower
from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed
from graticule.learners import pieces
from graticule.learners.contrastive import ContrastiveLearner
from graticule.learners.pieces import in_pieces
from graticule.learners.places import RandomPlaces
from graticule.objectives.contrastive import PairwiseInfoNCE


def learner(rows_at_once, dropout=0.0):
    torch.manual_seed(0)
    location = location_encoder(
        "harmonics", max_degree=2, dtype="float64", body="mlp", width=8, depth=1, dim=6, dropout=dropout
    )
    towers = {name: tower(4, dim=6, hidden=8, dropout=dropout) for name in ("text", "photo")}
    options = {"uniformity": 0.1, "consistency": 0.1, "regression": 0.1, "distil": 0.1, "second_view": True}
    options |= {"other_places": [RandomPlaces(5)], "rows_at_once": rows_at_once}
    return ContrastiveLearner(location, towers, PairwiseInfoNCE(list(towers)), **options).double()


def batch(n=7):
    torch.manual_seed(1)
    places = torch.from_numpy(uniform_places(2 * n, seed=1))
    text, photo = (Placed(some, torch.randn(n, 4, dtype=torch.float64)) for some in places.split(n))
    return {"text": text, "photo": photo, "teacher": Placed(places[:4], torch.randn(4, 6))}


def losses_and_gradients(learner):
    torch.manual_seed(2)
    losses = learner.loss(batch())
    return losses, torch.autograd.grad(losses["loss"], list(learner.parameters()))


def agree(some, others):
    for a, b in zip((*some[0].values(), *some[1]), (*others[0].values(), *others[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows_at_once", [1, 3, 7, 100])
def test_losses_and_gradients_are_those_of_the_whole_batch(rows_at_once):
    agree(losses_and_gradients(learner(rows_at_once)), losses_and_gradients(learner(0)))


def test_a_tower_that_trains_along_has_the_same_gradient():
    torch.manual_seed(0)
    images = tower(dim=6, trunk="multispectral", bands=12)
    pixels = torch.randint(0, 10_000, (5, 12, 16, 16), dtype=torch.int16)
    weights = torch.randn(5, 6)
    pieces, whole = (
        torch.autograd.grad((in_pieces(images, n, pixels) * weights).sum(), list(images.parameters())) for n in (2, 0)
    )
    for a, b in zip(pieces, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_dropout_is_the_same_when_a_piece_is_embedded_again(monkeypatch):
    """Against the same pieces kept: their random numbers are drawn piece by piece."""
    again = losses_and_gradients(learner(3, dropout=0.5))
    monkeypatch.setattr(pieces, "checkpoint", lambda encode, *piece, **options: encode(*piece))
    agree(again, losses_and_gradients(learner(3, dropout=0.5)))


def test_a_piece_is_seen_twice_and_nothing_else_is_kept():
    seen = []

    class Spy(nn.Linear):
        def forward(self, rows):
            seen.append(len(rows))
            return super().forward(rows)

    layer, rows = Spy(3, 2), torch.randn(8, 3)
    vectors = in_pieces(layer, 3, rows)
    torch.testing.assert_close(vectors, layer(rows))
    assert seen == [3, 3, 2, 8]
    vectors.sum().backward()
    assert sorted(seen[4:]) == [2, 3, 3]
    assert in_pieces(layer, 3, rows[:0]).shape == (0, 2)
