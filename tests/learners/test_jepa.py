import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from graticule.encoders.region_encoder import RegionEncoder
from graticule.errors import DataError, SettingError
from graticule.geo.placed import Placed
from graticule.learners.jepa import GEOJEPA, GEOJEPA_PAPER, JepaLearner
from graticule.learners.masking import KINDS
from graticule.objectives.latent import prediction_losses, rank_about_zero
from graticule.training.trainer import Phase, Schedule, fit, read_log
from tests.region_tokens import FREQUENT, GEOMETRY_DIM, PATCH_DIM, TAG_DIM, batch, planted

SMALL = {"width": 16, "depth": 2, "heads": 2, "predictor_width": 8, "predictor_depth": 1}


def learner(tokens=None, **options):
    torch.manual_seed(0)
    return JepaLearner.of(planted(side=2) if tokens is None else tokens, **{**SMALL, **options})


def train(model, tokens, steps, size=40, rate=3e-3):
    """A few steps as the trainer makes them; the losses of each."""
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.05)
    rng, history = np.random.default_rng(0), []
    for step in range(steps):
        torch.manual_seed(step)
        losses = model.loss(batch(tokens.take(rng.permutation(len(tokens))[:size])))
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        model.after_step((step + 1) / steps)
        history.append({name: value.item() for name, value in losses.items()})
    return history


def rank(model):
    with torch.no_grad():
        return model.eval().diagnose()["rank"].item()


def test_targets_that_learn_along_collapse_and_the_defaults_do_not():
    tokens = planted(150)
    sizes = {"width": 64, "depth": 1}
    control = learner(tokens, targets="stopgrad", stop_gradient=False, regulariser="none", **sizes)
    assert rank(control) > 0.25
    losses = train(control, tokens, 80, size=24)
    assert losses[-1]["loss"] < 0.01  # and yet the loss looks best
    assert rank(control) < 0.05
    for options in ({}, {"regulariser": "sigreg"}, {"targets": "stopgrad"}, {"targets": "frozen-random"}):
        kept = learner(tokens, **sizes, **options)
        train(kept, tokens, 40, size=24)
        assert rank(kept) > 0.25, options


def test_predictions_beat_the_mean_target():
    """Targets stand still here, so that the loss measures something; shapes are half noise, and are left out."""
    tokens, sizes = planted(200, side=2), {"width": 32, "predictor_width": 32, "modalities": "TI"}
    model = learner(tokens, targets="frozen-random", masks={"random": 1.0}, **sizes)
    losses = train(model, tokens, 120)
    full = model.target(tokens.to("cpu"))
    for name, values in (("entities", full.entities), ("patches", full.patches[torch.from_numpy(tokens.seen)])):
        standard = torch.nn.functional.layer_norm(values, (32,))
        mean = prediction_losses({"all": standard.mean(dim=0).expand_as(values)}, {"all": values})["prediction"]
        found = np.mean([row[f"prediction/{name}"] for row in losses[-10:]])
        assert found < 0.85 * mean.item()


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_never_depend_on_what_is_hidden(kind):
    model, tokens = learner(masks={kind: 1.0}), planted(side=2).to("cpu")
    torch.manual_seed(1)
    masks = model.masking(tokens, model.encoder.grid, model.likeness)
    gone = masks.targets[0] & ~masks.context[0]
    changed = replace(
        tokens,
        tags=torch.where(gone | masks.hide_tags, 1 + tokens.tags % 20, tokens.tags),
        geometry=torch.where((gone | masks.hide_geometry)[:, None], 7.0, tokens.geometry),
        patches=torch.where(masks.targets[1][:, :, None], 7.0, tokens.patches),
    )
    seen = replace(tokens, tags=torch.where(gone | masks.hide_tags, tokens.tags, 1 + tokens.tags % 20))

    def predicted(of):
        context = model._context(of, masks, None)
        return torch.cat(list(model.predictor(model.encoder, of, context, masks).values()))

    expected = predicted(tokens)
    assert len(expected) == masks.targets[0].sum() + masks.targets[1].sum() > 30
    torch.testing.assert_close(predicted(changed), expected, atol=1e-5, rtol=1e-4)
    assert (predicted(seen) - expected).abs().max() > 1e-3


def test_predictions_under_masks_of_tags_alike_never_depend_on_hidden_tags_of_entities_that_stay():
    """Entities with two frequent tags each, whose text is the sum: adding or taking the hidden one changes nothing."""
    tokens = planted(side=0)
    pairs = [(), *((a, b) for a in range(FREQUENT) for b in range(a, FREQUENT))]
    held = np.array([[tag in pair for tag in range(FREQUENT)] for pair in pairs], dtype=np.float32)
    text = np.random.default_rng(0).normal(size=(FREQUENT, TAG_DIM)).astype(np.float32)
    number = np.random.default_rng(1).integers(1, len(pairs), tokens.offsets[-1])
    tokens = replace(tokens, tags=number, tag_sets=held @ text, frequent=held)
    model = learner(tokens, masks={"alike": 1.0})
    tensors = tokens.to("cpu")
    torch.manual_seed(1)
    masks = model.masking(tensors, model.encoder.grid, model.likeness)
    hidden = masks.hide_frequent.numpy()[np.repeat(np.arange(40), np.diff(tokens.offsets))]
    stays = (masks.context[0] & masks.targets[0]).numpy()
    assert stays.sum() > 20
    left = held[number].astype(bool) & ~hidden
    changed = number.copy()
    for row in np.flatnonzero(stays):
        (own,) = np.flatnonzero(left[row])  # one of two is hidden
        changed[row] = pairs.index((own, own))

    def predicted(of):
        return model.predictor(model.encoder, of, model._context(of, masks, None), masks)["entities"]

    expected = predicted(tensors)
    found = predicted(replace(tokens, tags=changed).to("cpu"))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    moved = replace(tokens, tags=np.where(stays, (number % 3) + 1, number)).to("cpu")
    assert (predicted(moved) - expected).abs().max() > 1e-2


def test_likeness_is_the_cosine_of_texts_about_their_mean():
    tokens = planted()
    text = tokens.tag_sets[1 : FREQUENT + 1].astype(np.float64)  # a set of planted tokens is one tag
    text -= text.mean(axis=0)
    model = learner(tokens)
    for i in range(FREQUENT):
        for j in range(FREQUENT):
            expected = text[i] @ text[j] / np.linalg.norm(text[i]) / np.linalg.norm(text[j])
            assert model.likeness[i, j].item() == pytest.approx(expected, abs=1e-3)
    assert "likeness" not in model.state_dict()  # it follows from the encoder
    assert "encoder.frequent_text" in model.state_dict()


@pytest.mark.parametrize("options", [{}, {"modalities": "GI"}, {"modalities": "I"}])
def test_tokens_without_frequent_tags_and_encoders_without_tags_are_learned_from(options):
    tokens = planted(side=2) if options else replace(planted(side=2), frequent=None)
    model = learner(tokens, **options)
    assert model.masking.chances["alike"] > 0
    assert model.likeness.shape == (0, 0)
    losses = train(model, tokens, 3)
    assert all(np.isfinite(value) for row in losses for value in row.values())
    assert losses[0]["prediction"] > 0


def test_the_rank_is_that_of_the_means_as_a_share_of_their_width():
    model, tokens = learner().eval(), planted(side=2)
    with torch.no_grad():
        means = model.encoder(tokens.to("cpu")).means
    assert means.shape == (40, 2, 16)
    with torch.no_grad():
        shown = model.diagnose()
    assert shown["spread"].item() == pytest.approx(means.flatten(1).std(dim=0).mean().item(), rel=1e-4)
    assert shown["rank"].item() == pytest.approx(rank_about_zero(means.flatten(1)).item() / 32, rel=1e-4)
    assert shown["rank"] <= 1


def test_predictions_stand_beside_their_own_targets():
    """A hidden token is asked for at its own place: moving it moves its own prediction most."""
    model, tokens = learner(masks={"random": 1.0}), planted(side=2).to("cpu")
    torch.manual_seed(1)
    masks = model.masking(tokens, model.encoder.grid)
    context = model._context(tokens, masks, None)
    expected = model.predictor(model.encoder, tokens, context, masks)
    row = int(masks.targets[0].nonzero()[5])
    position = tokens.position.clone()
    position[row] += 0.5
    found = model.predictor(model.encoder, replace(tokens, position=position), context, masks)
    moved = (found["entities"] - expected["entities"]).abs().amax(dim=1)
    assert int(moved.argmax()) == 5
    cell = int(masks.targets[1].flatten().nonzero()[3]) % 4
    model.encoder.grid[cell] += 0.5
    moved = (model.predictor(model.encoder, tokens, context, masks)["patches"] - expected["patches"]).abs().amax(dim=1)
    assert moved[3] > 5 * moved[masks.targets[1].nonzero()[:, 1] != cell].mean()


def test_predictions_do_not_depend_on_batch_mates():
    model, tokens = learner(masks={"random": 1.0}), planted(side=2)
    rows, both = np.array([4]), tokens.to("cpu")
    masks = model.masking(both, model.encoder.grid)
    part = slice(tokens.offsets[4], tokens.offsets[5])
    alone = replace(
        masks,
        kinds=masks.kinds[rows],
        context=(masks.context[0][part], masks.context[1][rows]),
        targets=(masks.targets[0][part], masks.targets[1][rows]),
        hide_tags=masks.hide_tags[part],
        hide_geometry=masks.hide_geometry[part],
    )
    found, expected = (
        model.predictor(model.encoder, of, model._context(of, m, None), m)
        for of, m in ((tokens.take(rows).to("cpu"), alone), (both, masks))
    )
    first = int(masks.targets[0][: part.start].sum())
    own = expected["entities"][first : first + len(found["entities"])]
    torch.testing.assert_close(found["entities"], own, atol=1e-5, rtol=1e-4)


def test_loss_is_the_weighted_sum_of_its_terms():
    model = learner(beta=0.2, variance_weight=3.0, cross_modal=0.7)
    losses = {name: value.item() for name, value in model.loss(batch(planted(side=2))).items()}
    expected = losses["prediction"] + 0.2 * (3 * losses["variance"] + losses["covariance"])
    assert losses["loss"] == pytest.approx(expected + 0.7 * losses["cross_modal"], rel=1e-5)
    assert losses["prediction"] == pytest.approx(
        (losses["prediction/entities"] + losses["prediction/patches"]) / 2, rel=1e-5
    )
    plain = learner(regulariser="none").loss(batch(planted(side=2)))
    assert set(plain) == {"loss", "prediction", "prediction/entities", "prediction/patches"}
    sigreg = learner(regulariser="sigreg", beta=0.2).loss(batch(planted(side=2)))
    assert sigreg["loss"].item() == pytest.approx((sigreg["prediction"] + 0.2 * sigreg["sigreg"]).item(), rel=1e-5)


def test_the_moving_average_goes_from_the_first_decay_to_the_last():
    model = learner(ema=(0.5, 0.9))
    before = copy.deepcopy(model.target.state_dict())
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(1)
    model.after_step(0.25)  # decay .6
    for name, parameter in model.target.named_parameters():
        expected = 0.6 * before[name] + 0.4 * model.encoder.state_dict()[name]
        torch.testing.assert_close(parameter, expected)


def test_frozen_targets_stand_still_and_no_target_encoder_is_trained():
    frozen = learner(targets="frozen-random")
    before = copy.deepcopy(frozen.target.state_dict())
    train(frozen, planted(side=2), 3)
    assert all(torch.equal(value, before[name]) for name, value in frozen.target.state_dict().items())
    assert not any(p.requires_grad for p in frozen.target.parameters())
    assert not any(name.startswith("target.") for name in learner(targets="stopgrad").state_dict())


def test_targets_are_made_without_dropout_and_the_mode_comes_back():
    model = learner(dropout=0.5, targets="stopgrad")
    tokens = planted(side=2).to("cpu")
    assert torch.equal(model._full(tokens, None).entities, model._full(tokens, None).entities)
    assert model.encoder.training


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    tokens = planted(side=2)
    rows = {"osm": Placed(np.zeros((len(tokens), 2)), tokens)}
    schedule = Schedule(steps=6, batch_tokens=200, log_every=2, checkpoint_every=3)
    options = {"dropout": 0.1, "modality_dropout": 0.2, "regulariser": "sigreg", "max_tokens": 8}
    whole, killed, resumed = (learner(tokens, **options) for _ in range(3))
    fit(whole, rows, [Phase(("osm",))], schedule, tmp_path / "whole")
    losses, left = killed.loss, iter(range(4))

    def dies(drawn):
        next(left)
        return losses(drawn)

    killed.loss = dies
    with pytest.raises(StopIteration):
        fit(killed, rows, [Phase(("osm",))], schedule, tmp_path / "cut")
    fit(resumed, rows, [Phase(("osm",))], schedule, tmp_path / "cut")
    expected = whole.state_dict()
    assert any(name.startswith("target.") for name in expected)
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())
    logs = [[{**row, "seconds": 0, "waited": 0} for row in read_log(tmp_path / name)] for name in ("whole", "cut")]
    assert logs[0] == logs[1]
    assert {"rank", "spread", "left_out"} < set(logs[0][0])


def test_large_regions_are_cut_to_max_tokens():
    tokens = planted(fewest=10, most=30)
    model = learner(tokens, max_tokens=6)
    model.evaluation = None
    model.loss(batch(tokens))
    assert model._last[0].offsets.diff().max() == 6


def test_regions_with_a_single_token_are_counted_and_harmless():
    tokens = planted(8, fewest=1, most=1)
    alone = learner(planted(), masks={"random": 1.0})
    losses = alone.loss(batch(tokens))
    assert losses["prediction"].item() == 0
    losses["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in alone.parameters() if p.grad is not None)
    assert alone.diagnose()["left_out"].item() == 1
    asked = learner(planted())
    assert asked.loss(batch(tokens))["prediction"].item() > 0
    assert asked.diagnose()["left_out"].item() == 0


def test_regions_without_any_token_are_harmless():
    model = learner()
    tokens = planted(5, side=2, fewest=0, most=0)
    tokens.seen[:] = False
    losses = model.loss(batch(tokens))
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert model.diagnose()["left_out"].item() == 1


def test_modality_dropout_takes_one_modality_of_a_region_and_never_all():
    model, tokens = learner(modality_dropout=0.6, masks={"random": 1.0}), planted(200, side=2).to("cpu")
    calls = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    torch.manual_seed(0)
    masks = model.masking(tokens, model.encoder.grid)
    model._context(tokens, model._without_modalities(tokens, masks), None)
    _, tags, geometry, (entities, patches), _ = calls[0]
    assert not (tags & geometry).any()
    counts = tokens.offsets.diff()
    for hidden in (tags, geometry):
        region = torch.zeros(200).index_add(0, torch.repeat_interleave(torch.arange(200), counts), hidden.float())
        assert set((region / counts).tolist()) == {0.0, 1.0}
        assert 0.1 < (region > 0).double().mean() < 0.3
    gone = masks.context[1].any(dim=1) & ~patches.any(dim=1)
    assert 0.1 < gone.double().mean() < 0.3
    assert torch.equal(entities, masks.context[0])
    model.eval()._context(tokens, masks, None)
    assert not (calls[1][1] | calls[1][2]).any()


def test_a_frozen_location_encoder_gives_the_place_token():
    tokens = planted()
    location = torch.nn.Linear(2, 3).double()
    model = learner(tokens, place_dim=3, location=location)
    near, far = (
        {"osm": Placed(torch.full((40, 2), value, dtype=torch.float64), tokens.to("cpu"))} for value in (0.0, 9.0)
    )
    torch.manual_seed(0)
    first = model.loss(near)["prediction"].item()
    assert model.diagnose()["rank"] > 0
    torch.manual_seed(0)
    assert abs(model.loss(far)["prediction"].item() - first) > 1e-4
    assert not any(p.requires_grad for p in location.parameters())


def test_evaluation_regions_are_kept_and_otherwise_the_last_batch():
    model = learner()
    before = model.diagnose()["rank"]
    model.loss(batch(planted(side=2, seed=3)))
    assert torch.equal(model.diagnose()["rank"], before)
    model.evaluation = None
    assert not torch.equal(model.diagnose()["rank"], before)
    bare = JepaLearner(RegionEncoder(TAG_DIM, GEOMETRY_DIM, width=16, depth=1, heads=2))
    assert set(bare.diagnose()) == {"left_out"}


def test_the_paper_has_its_layers_and_as_many_parameters_as_its_settings_say():
    tokens = replace(planted(side=2), frequent=None)
    model = JepaLearner.of(tokens, **{**GEOJEPA_PAPER, "targets": "stopgrad"})
    blocks = model.encoder.transformer.blocks
    assert [len(blocks), blocks[0].heads, blocks[0].rate] == [12, 8, 0.1]
    assert blocks[11].qkv.weight.shape == (3 * 384, 384)
    assert (model.encoder.config["position"], model.encoder.frequent, model.encoder.region_dim) == ("added", 0, 769)
    assert blocks[11].up.weight.shape == (4 * 384, 384)
    assert len(model.predictor.transformer.blocks) == 4
    assert model.predictor.transformer.blocks[3].qkv.weight.shape == (3 * 192, 192)
    assert model.predictor.outward.weight.shape == (384, 192)
    w, p, coordinates = 384, 192, 4 * 6 + 6

    def transformer(width, depth):
        return depth * (12 * width**2 + 13 * width) + 2 * width

    embedding = 2 * TAG_DIM + (TAG_DIM + 1) * w + (GEOMETRY_DIM + 1) * w + (w + 1) * w + (PATCH_DIM + 1) * w
    vectors = 3 * w  # hidden tags, hidden geometry, image
    encoder = embedding + vectors + (coordinates + 1) * w + transformer(w, 12)
    predictor = (w + 1) * p + (p + 1) * w + (coordinates + 1) * p + 3 * p + transformer(p, 4)
    assert sum(x.numel() for x in model.encoder.parameters()) == encoder
    assert sum(x.numel() for x in model.predictor.parameters()) == predictor
    assert model.masking.chances == {"random": 0.2, "area": 0.6, "modality": 0.2}
    assert model.masking.target_share == pytest.approx(1 - 0.55**4, abs=0.01)


def test_presets_are_those_of_the_defaults():
    model = JepaLearner.of(planted(), **GEOJEPA)
    plain = JepaLearner.of(planted())
    assert model.encoder.config == plain.encoder.config
    assert [p.shape for p in model.parameters()] == [p.shape for p in plain.parameters()]
    assert (model.masking, model.ema, model.beta, model.targets) == (
        plain.masking,
        plain.ema,
        plain.beta,
        plain.targets,
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"targets": "emma"}, "'emma'.*'ema'"),
        ({"regulariser": "barlow"}, "'barlow'"),
        ({"widht": 4}, "'widht'.*'width'"),
        ({"frequent": 4}, "option of geojepa 'frequent'"),  # as many as the tokens have
        ({"stop_gradient": False}, "'ema' targets have no gradient"),
        ({"ema": (0.9, 1.1)}, "decays from 0 to 1"),
        ({"modality_dropout": 1.0}, "modality_dropout"),
        ({"max_tokens": 1}, "max_tokens > 1"),
        ({"cross_modal": 1.0, "modalities": "TG"}, "'TG'"),
    ],
)
def test_impossible_options_are_refused(options, match):
    with pytest.raises(SettingError, match=match):
        learner(**options)


def test_one_modality_is_learned_from():
    rows = batch(planted(side=2))
    with pytest.raises(DataError, match="one modality of regions, got osm, text"):
        learner().loss({**rows, "text": rows["osm"]})
