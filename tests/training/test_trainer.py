import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graticule.data.balanced import sampler
from graticule.data.loader import EpochSampler
from graticule.errors import DataError, GraticuleError, SettingError
from graticule.geo.coords import uniform_places
from graticule.geo.placed import Placed
from graticule.tensors import load_tensors
from graticule.training.trainer import Phase, fit, read_log, warmup_cosine, which_phase
from tests import region_tokens
from tests.training.tiny import Tiny, schedule, sources

BOTH = [Phase(("a", "b"))]


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), step=st.integers(0, 60))
@settings(deadline=None, max_examples=80)
def test_which_phase_equals_going_round(lengths, step):
    phases = [Phase((str(i),), n) for i, n in enumerate(lengths)]
    turns = itertools.cycle([i for i, n in enumerate(lengths) for _ in range(n)])
    past = list(itertools.islice(turns, step))
    assert which_phase(phases, step) == (next(turns), [past.count(i) for i in range(len(lengths))])


@given(rows=st.integers(1, 40), size=st.integers(1, 50), epoch=st.integers(0, 3), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_sampler_draws_every_row_at_most_once_an_epoch(rows, size, epoch, seed):
    sampler = EpochSampler("a", rows, size, seed)
    draws = [sampler.draw(epoch * sampler.draws_per_epoch + k).tolist() for k in range(sampler.draws_per_epoch)]
    drawn = [row for draw in draws for row in draw]
    assert {len(draw) for draw in draws} == {min(size, rows)}
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(rows))
    assert rows - len(drawn) < min(size, rows)
    again = EpochSampler("a", rows, size, seed)
    assert again.draw(epoch * sampler.draws_per_epoch).tolist() == draws[0]


def test_sampler_shuffles_by_name_seed_and_epoch():
    def first(name="a", seed=0, number=0):
        return EpochSampler(name, 100, 50, seed).draw(number).tolist()

    draws = [first(), first(name="b"), first(seed=1), first(number=2), first(number=1)]
    assert len({tuple(draw) for draw in draws}) == 5
    assert sorted(first() + first(number=1)) == list(range(100))


def test_sampler_of_nothing_is_refused():
    with pytest.raises(DataError, match="'a' has 0 rows"):
        EpochSampler("a", 0, 4, 0)


def test_training_draws_each_row_once_an_epoch(tmp_path):
    learner = Tiny(["a"])
    fit(learner, sources(["a"], rows=20), [Phase(("a",))], schedule(steps=8), tmp_path)
    for epoch in (learner.batches[:4], learner.batches[4:]):
        assert sorted(row for batch in epoch for row in batch["a"]) == list(range(20))


def test_turns_go_on_where_each_modality_stopped(tmp_path):
    """Phases by turns draw from a modality what it would draw alone: no row is left out for another's turn."""
    learner, alone = Tiny(), Tiny(["a"])
    phases = [Phase(("a",), 2), Phase(("b",), 3)]
    fit(learner, sources(), phases, schedule(steps=15), tmp_path / "x")
    (tmp_path / "x" / "resume.safetensors").unlink()
    fit(alone, sources(["a"]), [Phase(("a",))], schedule(steps=6), tmp_path / "x")
    assert [list(batch) for batch in learner.batches] == [["a"], ["a"], ["b"], ["b"], ["b"]] * 3
    assert [batch["a"] for batch in learner.batches if "a" in batch] == [batch["a"] for batch in alone.batches]


@pytest.mark.parametrize("kind", ["rows", "area", "density", "stratified"])
def test_rows_of_the_sampler_and_as_many_as_asked_for(tmp_path, kind):
    learner = Tiny()
    plan = schedule(sampler=kind, cell_km=4000.0, debias=0.7, batch_rows={"b": 3})
    fit(learner, sources(), BOTH, plan, tmp_path)
    for name, size in (("a", 5), ("b", 3)):
        found = sampler(kind, name, sources()[name].lonlat, size, plan.seed, cell_km=4000.0, debias=0.7)
        assert [batch[name] for batch in learner.batches] == [found.draw(k).tolist() for k in range(12)]


def test_what_is_drawn_by_tokens_has_no_other_sampler(tmp_path):
    tokens = region_tokens.planted(side=2)
    learner, rows = Tiny(["osm"]), Placed(uniform_places(len(tokens), seed=0), tokens)
    with pytest.raises(SettingError, match="'osm' is drawn by tokens, and sampler must be rows, got 'area'"):
        fit(learner, {"osm": rows}, [Phase(("osm",))], schedule(sampler="area"), tmp_path)


def test_paired_phases_draw_the_same_rows(tmp_path):
    rows = {"a": sources()["a"], "b": sources()["b"].take(np.arange(20))}
    learner = Tiny()
    fit(learner, rows, [Phase(("b", "a"), paired=True)], schedule(), tmp_path)
    assert all(batch["a"] == batch["b"] for batch in learner.batches)


@given(warmup=st.sampled_from([0.0, 0.05, 0.3]))
def test_warm_up_and_cosine(warmup):
    steps = [warmup_cosine(k / 1000, warmup) for k in range(1000)]
    rising = steps[: round(warmup * 1000)]
    falling = steps[round(warmup * 1000) :]
    assert all(0 < value < 1 for value in rising)
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == pytest.approx(1)
    assert falling[len(falling) // 2] == pytest.approx(0.5, abs=0.01)
    assert falling[-1] == pytest.approx(0, abs=1e-4)
    assert max(abs(a - b) for a, b in itertools.pairwise(rising)) < 0.05 if rising else True


def test_learning_rates_and_faster_parameters(tmp_path):
    """The first AdamW step moves every weight by its learning rate (gradient over its own size)."""
    learner = Tiny(["a"])
    before = {name: p.detach().clone() for name, p in learner.named_parameters()}
    plan = schedule(steps=1, warmup=0.0, weight_decay=0.0, learning_rate=1e-3, faster=((r"^heads", 10.0),))
    fit(learner, sources(["a"]), [Phase(("a",))], plan, tmp_path)
    for name, parameter in learner.named_parameters():
        rate = 1e-2 if name.startswith("heads") else 1e-3
        torch.testing.assert_close(
            (parameter.detach() - before[name]).abs(), torch.full_like(parameter, rate), rtol=1e-3, atol=0
        )
    (row,) = read_log(tmp_path)
    assert row["learning_rate"] == pytest.approx(1e-3)


def test_frozen_stand_still_to_the_bit(tmp_path):
    """Neither gradients nor weight decay nor the moving average move what a phase freezes; the others move."""
    learner = Tiny()
    start = {name: p.detach().clone() for name, p in learner.named_parameters()}
    phases = [Phase(("a",), 2, frozen=(r"shared\.",)), Phase(("b",), 1, frozen=(r"shared\.weight", "heads"))]
    fit(learner, sources(), phases, schedule(steps=9, weight_decay=0.5, ema=0.7), tmp_path)
    states = [start, *learner.weights]
    for step, (earlier, later) in enumerate(itertools.pairwise(states)):
        moved = {name for name in earlier if not torch.equal(earlier[name], later[name])}
        expected = {"heads.a.weight", "heads.a.bias"} if step % 3 < 2 else {"shared.bias"}
        assert moved == expected, step
    assert torch.equal(learner.shared.weight, start["shared.weight"])


def test_what_a_phase_has_no_gradient_for_does_not_decay(tmp_path):
    learner = Tiny()
    before = learner.heads["b"].weight.detach().clone()
    fit(learner, sources(), [Phase(("a",))], schedule(weight_decay=0.5), tmp_path)
    assert torch.equal(learner.heads["b"].weight, before)


def test_moving_average_equals_the_naive_one(tmp_path):
    learner = Tiny()
    mean = {name: p.detach().double().clone() for name, p in learner.named_parameters()}
    fit(learner, sources(), BOTH, schedule(ema=0.8), tmp_path)
    for weights in learner.weights:
        mean = {name: 0.8 * value + 0.2 * weights[name] for name, value in mean.items()}
    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), mean[name], atol=1e-6, rtol=1e-5)
        assert not torch.equal(parameter, learner.weights[-1][name])


def test_moving_average_does_not_disturb_training(tmp_path):
    plain, averaged = Tiny(), Tiny()
    fit(plain, sources(), BOTH, schedule(), tmp_path)
    (tmp_path / "resume.safetensors").unlink()
    fit(averaged, sources(), BOTH, schedule(ema=0.9), tmp_path)
    assert equal(plain.weights[-1], averaged.weights[-1])


@pytest.mark.parametrize("clip", [0.01, 1e6])
def test_gradients_are_clipped_to_their_norm(tmp_path, clip):
    """After one step the first moment is a tenth of the gradient that the optimiser saw."""
    learner, twin = Tiny(), Tiny()
    fit(learner, sources(), BOTH, schedule(steps=1, clip=clip), tmp_path)
    saved, _ = load_tensors(tmp_path / "resume.safetensors")
    seen = torch.cat([10 * t.reshape(-1) for name, t in sorted(saved.items()) if name.endswith("/exp_avg")])
    rows = {n: s.take(np.array(learner.batches[0][n])) for n, s in sources().items()}
    loss = sum(
        (twin.heads[n](twin.shared(torch.from_numpy(r.features[:, :-1]))) - torch.from_numpy(r.features[:, -1:]))
        .square()
        .mean()
        for n, r in rows.items()
    )
    norm = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, list(twin.parameters()))]).norm().item()
    assert norm > 0.1
    assert seen.norm().item() == pytest.approx(min(norm, clip), rel=1e-4)


def test_log_has_a_row_every_so_often_and_at_the_end(tmp_path):
    learner = Tiny()
    fit(learner, sources(), BOTH, schedule(steps=11), tmp_path)
    rows = list(read_log(tmp_path))
    assert [row["step"] for row in rows] == [3, 6, 9, 11]
    for row in rows:
        assert {"loss", "a", "b", "rank", "spread", "learning_rate", "seconds"} <= set(row)
        assert row["loss"] == pytest.approx(row["a"] + row["b"], abs=2e-5)
        assert row["mode"] == 0
    assert learner.training
    assert learner.progress == [pytest.approx((k + 1) / 11) for k in range(11)]


def test_training_learns(tmp_path):
    fit(Tiny(), sources(rows=64), BOTH, schedule(steps=150, learning_rate=0.03, log_every=10), tmp_path)
    losses = [row["loss"] for row in read_log(tmp_path)]
    assert losses[-1] < 0.05 * losses[0]


class Diverging(Tiny):
    """From step `at` on the loss, or only its gradient, is not finite."""

    at, kind = 6, "loss"

    def loss(self, batch):
        losses = super().loss(batch)
        if len(self.batches) > self.at:
            wrong = math.nan if self.kind == "loss" else 0.0
            losses["loss"] = losses["loss"] * (1 + wrong) + (self.shared.bias * 0).sqrt().sum()
        return losses


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize(("log_every", "checkpoint_every"), [(2, 2), (50, 2), (2, 50), (1, 3)])
def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoint(tmp_path, kind, log_every, checkpoint_every):
    learner = Diverging()
    learner.kind = kind
    plan = schedule(log_every=log_every, checkpoint_every=checkpoint_every)
    with pytest.raises(GraticuleError, match="Lower the learning rate"):
        fit(learner, sources(), BOTH, plan, tmp_path)
    path = tmp_path / "resume.safetensors"
    assert path.exists() == (checkpoint_every <= 6)
    if path.exists():
        saved, metadata = load_tensors(path)
        assert metadata["step"] == "6"
        assert all(torch.isfinite(value).all() for value in saved.values())
    if (tmp_path / "log.jsonl").exists():
        assert all(math.isfinite(row["loss"]) for row in read_log(tmp_path))


def test_nothing_to_train_is_refused(tmp_path):
    with pytest.raises(SettingError, match="every parameter of the learner is frozen"):
        fit(Tiny().requires_grad_(False), sources(), BOTH, schedule(), tmp_path)


def test_precision(tmp_path):
    with pytest.raises(SettingError, match="'float16'"):
        fit(Tiny(), sources(), BOTH, schedule(precision="float16"), tmp_path)
    losses = {}
    for precision in ("float32", "auto", "bfloat16"):
        learner = Tiny()
        fit(learner, sources(), BOTH, schedule(precision=precision), tmp_path / precision)
        losses[precision] = [row["loss"] for row in read_log(tmp_path / precision)]
        assert all(p.dtype == torch.float32 for p in learner.parameters())
    assert losses["auto"] == losses["float32"]
    assert losses["bfloat16"] != losses["float32"]
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.05)


def test_zero_steps_leave_the_weights(tmp_path):
    learner = Tiny()
    fit(learner, sources(), BOTH, schedule(steps=0), tmp_path)
    assert equal(dict(learner.named_parameters()), dict(Tiny().named_parameters()))


def test_a_log_of_an_earlier_try_without_checkpoint_is_dropped(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 99}) + "\n")
    fit(Tiny(), sources(), BOTH, schedule(), tmp_path)
    assert [row["step"] for row in read_log(tmp_path)] == [3, 6, 9, 12]
