"""A run that is killed and called again ends with the weights of one that was left alone, to the bit."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import graticule
from graticule.data.store import prepare
from graticule.errors import CacheError
from graticule.runs import train
from graticule.tensors import load_tensors
from graticule.training.trainer import Phase, fit, read_log
from tests.prepared import image_source, text_source
from tests.training.tiny import Tiny, schedule, sources

TURNS = [Phase(("a",), 2, frozen=(r"shared\.",)), Phase(("b",), 3), Phase(("a", "b"), 1)]


class Killed(BaseException):
    pass


class Mortal(Tiny):
    """Dies after so many steps."""

    def __init__(self, lives):
        super().__init__(dropout=0.3)
        self.lives = lives

    def after_step(self, progress):
        super().after_step(progress)
        self.lives -= 1
        if self.lives == 0:
            raise Killed


@pytest.mark.parametrize(
    ("lives", "sampler"),
    [((1,), "rows"), ((4,), "rows"), ((5, 3), "area"), ((3, 5, 9), "stratified"), ((17,), "rows"), ((6, 6), "density")],
)
def test_resume_is_exact_wherever_the_run_dies(tmp_path, lives, sampler):
    """Dropout, turns of phases, frozen parameters, moving average, optimiser, buffers and draws all go on."""
    plan = schedule(steps=17, ema=0.8, log_every=2, sampler=sampler, cell_km=5000.0, batch_rows={"b": 3})
    whole = Tiny(dropout=0.3)
    fit(whole, sources(), TURNS, plan, tmp_path / "whole")
    for life in lives:
        with pytest.raises(Killed):
            fit(Mortal(life), sources(), TURNS, plan, tmp_path / "torn")
    torn = Tiny(dropout=0.3)
    fit(torn, sources(), TURNS, plan, tmp_path / "torn")
    for name, value in whole.state_dict().items():
        assert torch.equal(torn.state_dict()[name], value), name
    clock = {"seconds": 0, "waited": 0}
    logs = [[row | clock for row in read_log(tmp_path / name)] for name in ("whole", "torn")]
    assert logs[0] == logs[1]


def test_a_finished_training_is_not_repeated(tmp_path):
    fit(Tiny(), sources(), TURNS, schedule(ema=0.5), tmp_path)
    again = Tiny()
    before = (tmp_path / "log.jsonl").read_bytes()
    fit(again, sources(), TURNS, schedule(ema=0.5), tmp_path)
    assert again.batches == []
    expected = Tiny()
    fit(expected, sources(), TURNS, schedule(ema=0.5), tmp_path / "other")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), expected.parameters(), strict=True))
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path):
    with pytest.raises(Killed):
        fit(Mortal(7), sources(), TURNS, schedule(log_every=1), tmp_path)
    path = tmp_path / "log.jsonl"
    assert [row["step"] for row in read_log(tmp_path)] == [1, 2, 3, 4, 5, 6]
    path.write_text(path.read_text() + '{"step": 7, "lo')
    fit(Tiny(dropout=0.3), sources(), TURNS, schedule(log_every=1), tmp_path)
    assert [row["step"] for row in read_log(tmp_path)] == list(range(1, 13))


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_checkpoint_is_named_and_never_used(tmp_path, damage):
    with pytest.raises(Killed):
        fit(Mortal(6), sources(), TURNS, schedule(), tmp_path)
    path = tmp_path / "resume.safetensors"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 16
    path.write_bytes({"flip": flipped, "truncate": whole[: len(whole) // 2], "empty": b""}[damage])
    damaged, learner = path.read_bytes(), Tiny()
    with pytest.raises(CacheError, match=r"resume\.safetensors.*Delete it"):
        fit(learner, sources(), TURNS, schedule(), tmp_path)
    assert learner.batches == []
    assert path.read_bytes() == damaged


def test_a_checkpoint_of_another_learner_is_refused(tmp_path):
    with pytest.raises(Killed):
        fit(Mortal(6), sources(), TURNS, schedule(), tmp_path)
    with pytest.raises(CacheError, match="belongs to another run"):
        fit(Tiny(["a"]), sources(["a"]), [Phase(("a",))], schedule(), tmp_path)


SETTINGS = {
    "steps": 90,
    "batch_size": 16,
    "dim": 16,
    "location": "harmonics+hash-grid+voronoi",
    "location.max_degree": 6,
    "location.width": 32,
    "location.log2_entries": 6,
    "location.sites": 60,
    "location.dropout": 0.1,
    "trunk.text": "ngram",
    "dropout": 0.1,
    "whiten": 8,
    "regression": 0.3,
    "ema": 0.9,
    "log_every": 3,
    "checkpoint_every": 10,
}


def test_kill_9_in_training_then_the_same_command_again(tmp_path):
    data = prepare({"text": text_source(60), "image": image_source(50)}, to=tmp_path / "data")
    whole = train("cyclic", data, to=tmp_path / "whole", **SETTINGS, every=3)
    home = os.path.dirname(os.path.dirname(graticule.__file__))
    settings = [f"{key}={value}" for key, value in (SETTINGS | {"every": 3}).items()]
    command = [sys.executable, "-m", "graticule", "train", "cyclic", str(data.folder), "--to", str(tmp_path / "torn")]
    child = subprocess.Popen([*command, "--set", *settings], cwd=home, stderr=subprocess.DEVNULL)
    log, until = tmp_path / "torn" / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and len(log.read_bytes().splitlines()) >= 6):
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (tmp_path / "torn" / "run.json").exists()
    _, metadata = load_tensors(tmp_path / "torn" / "resume.safetensors")
    assert 0 < int(metadata["step"]) < 90
    torn = train("cyclic", data, to=tmp_path / "torn", **SETTINGS, every=3)
    assert (torn.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    steps = [row["step"] for row in read_log(torn.folder)]
    assert steps == list(range(3, 91, 3))
    assert sorted(p.name for p in torn.folder.iterdir() if p.suffix != ".tmp") == sorted(
        p.name for p in whole.folder.iterdir()
    )
    places = {"lon": np.linspace(-180, 180, 7), "lat": np.linspace(-90, 90, 7)}
    assert np.array_equal(torn.embed(**places), whole.embed(**places))
