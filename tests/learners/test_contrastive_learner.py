import pytest
import torch
from torch import nn

from graticule.encoders.location import location_encoder
from graticule.encoders.towers import tower
from graticule.geo.coords import great_circle_km, uniform_places
from graticule.geo.placed import Placed
from graticule.learners.base import Learner
from graticule.learners.contrastive import ContrastiveLearner
from graticule.learners.places import PlaceQueue, RandomPlaces, RingPlaces, displaced
from graticule.objectives.contrastive import PairwiseInfoNCE
from graticule.objectives.hypersphere import alignment, uniformity


class Spy(nn.Module):
    """An objective that keeps what it is given."""

    def forward(self, pairs):
        self.pairs = pairs
        return {"loss": sum((p.location * p.modality).mean() for p in pairs)}


def build(objective=None, dropout=0.0, towers=(("image", 3), ("text", 4)), **options):
    torch.manual_seed(0)
    location = location_encoder("harmonics", max_degree=2, body="mlp", width=8, depth=1, dim=6, dropout=dropout)
    heads = {name: tower(width, dim=6, hidden=8) for name, width in towers}
    return ContrastiveLearner(location, heads, objective or Spy(), **options)


def batch(n=5):
    torch.manual_seed(1)
    places = torch.from_numpy(uniform_places(2 * n, seed=1))
    return {"image": Placed(places[:n], torch.randn(n, 3)), "text": Placed(places[n:], torch.randn(n, 4))}


def test_the_objective_sees_each_modality_with_its_own_places():
    learner, rows = build(), batch()
    learner.loss(rows)
    for pair, (name, placed) in zip(learner.objective.pairs, rows.items(), strict=True):
        assert pair.name == name
        torch.testing.assert_close(pair.location, learner.location(placed.lonlat))
        torch.testing.assert_close(pair.modality, learner.towers[name](placed.features))
        assert pair.second_view is None
        assert pair.other_places is None


def test_places_are_compared_in_the_shared_space_and_regressed_from_their_vectors():
    learner = build(shared=6, regression=1.0, uniformity=1.0, other_places=[RandomPlaces(4)], second_view=True)
    rows = batch()
    losses = learner.loss(rows)
    for pair, (name, placed) in zip(learner.objective.pairs, rows.items(), strict=True):
        vectors = learner.location(placed.lonlat)
        torch.testing.assert_close(pair.location, vectors @ learner.shared.weight.T + learner.shared.bias)
        torch.testing.assert_close(pair.second_view, pair.location)
        others = learner.location(pair.other_lonlat)
        torch.testing.assert_close(pair.other_places, learner.shared(others))
        decoded = learner.decoders[name](vectors)
        targets = learner.towers[name].targets(placed.features)
        torch.testing.assert_close(losses[f"regression/{name}"], (decoded - targets).square().mean())
    vectors = torch.cat([learner.location(placed.lonlat) for placed in rows.values()])
    torch.testing.assert_close(losses["uniformity"], uniformity(vectors))


def test_second_view_is_another_dropout_view():
    learner = build(dropout=0.5, second_view=True)
    learner.loss(batch())
    pair = learner.objective.pairs[0]
    assert not torch.equal(pair.second_view, pair.location)
    learner.eval().loss(batch())
    pair = learner.objective.pairs[0]
    assert torch.equal(pair.second_view, pair.location)


def test_queue_gives_the_places_of_earlier_batches_only():
    learner, rows = build(other_places=[PlaceQueue(100)]), batch()
    learner.loss(rows)
    assert all(pair.other_places is None for pair in learner.objective.pairs)
    learner.after_step(0.1)
    learner.loss(rows)
    expected = learner.location(torch.cat([placed.lonlat for placed in rows.values()]))
    torch.testing.assert_close(learner.objective.pairs[1].other_places, expected)


def test_places_of_the_teacher_are_no_earlier_places():
    learner, rows = build(other_places=[PlaceQueue(100)], distil=1.0), batch()
    own = torch.cat([placed.lonlat for placed in rows.values()])
    learner.loss(rows | {"teacher": Placed(torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, 6))})
    learner.after_step(0.1)
    torch.testing.assert_close(learner.other_places[0](own), own)


def test_places_of_no_row_are_drawn_once_for_all_modalities():
    learner, rows = build(other_places=[RandomPlaces(4), RingPlaces(3, 50.0)]), batch()
    learner.loss(rows)
    image, text = learner.objective.pairs
    assert image.other_places is text.other_places
    assert image.other_lonlat is text.other_lonlat
    torch.testing.assert_close(image.other_places, learner.location(image.other_lonlat))
    assert len(image.other_lonlat) == 7
    own = torch.cat([placed.lonlat for placed in rows.values()])
    nearest = great_circle_km(image.other_lonlat[4:, None], own[None]).min(dim=1).values
    assert ((nearest > 49) & (nearest < 101)).all()
    for pair in (image, text):
        assert torch.equal(pair.lonlat, rows[pair.name].lonlat)


def test_uniformity_and_consistency_weigh_the_vectors_of_all_places():
    learner, rows = build(uniformity=0.3, consistency=2.0, consistency_km=7.0), batch()
    torch.manual_seed(0)
    losses = learner.loss(rows)
    own = torch.cat([placed.lonlat for placed in rows.values()])
    vectors = learner.location(own)
    torch.manual_seed(0)
    beside = displaced(own, 0, 7.0)
    assert great_circle_km(own, beside).max() <= 7.0
    torch.testing.assert_close(losses["uniformity"], uniformity(vectors))
    torch.testing.assert_close(losses["consistency"], alignment(vectors, learner.location(beside)))
    plain = learner.objective(learner.objective.pairs)["loss"]
    expected = plain + 0.3 * losses["uniformity"] + 2 * losses["consistency"]
    torch.testing.assert_close(losses["loss"], expected)


def test_a_teacher_is_learned_as_prefixes():
    learner, rows = build(distil=1.0, prefixes=(2, 4, 6)), batch()
    taught = Placed(rows["text"].lonlat, torch.randn(5, 6))
    missed = (learner.location(taught.lonlat) - taught.features).square()
    expected = sum(missed[:, :d].mean() for d in (2, 4, 6)) / 3
    torch.testing.assert_close(learner.loss({"teacher": taught})["teacher"], expected)


def test_regression_is_the_mean_over_modalities_and_contrast_weighs_the_rest():
    options = {"contrast": 0.25, "regression": 3.0}
    learner, rows = build(PairwiseInfoNCE(["image", "text"]), **options), batch()
    losses = learner.loss(rows)
    plain = learner.objective(learner._pairs(rows)[1])["loss"].item()
    parts = []
    for name, placed in rows.items():
        predicted = learner.decoders[name](learner.location(placed.lonlat))
        parts.append((predicted - placed.features).square().mean().item())  # statistics not fitted: mean 0, deviation 1
        assert losses[f"regression/{name}"].item() == pytest.approx(parts[-1], rel=1e-5)
    assert losses["loss"].item() == pytest.approx(0.25 * plain + 3 * sum(parts) / 2, rel=1e-5)


def test_no_decoder_without_regression_or_for_a_trainable_trunk():
    assert len(build().decoders) == 0
    towers = {"image": tower(dim=6, trunk="multispectral", bands=12), "text": tower(4, dim=6)}
    location = location_encoder("cartesian", dim=6)
    learner = ContrastiveLearner(location, towers, Spy(), regression=1.0)
    assert list(learner.decoders) == ["text"]


def test_base_learner_asks_for_a_loss_and_nothing_else():
    learner = Learner()
    with pytest.raises(NotImplementedError):
        learner.loss({})
    learner.after_step(1.0)
    assert learner.diagnose() == {}
