"""Runs that several processes train: as one does, whatever number goes on, and what happens when one dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import graticule
from graticule.data.store import open_dataset, prepare
from graticule.errors import GraticuleError
from graticule.learners.together import Together
from graticule.runs import train
from graticule.tensors import load_tensors
from graticule.training import trainer
from graticule.training.trainer import read_log
from tests.prepared import image_source, text_source

HOME = Path(graticule.__file__).parent.parent
SETTINGS = {
    "steps": 12, "batch_size": 9, "dim": 8, "location": "harmonics+hash-grid", "location.max_degree": 4,
    "location.log2_entries": 6, "location.width": 16, "location.dropout": 0.2, "trunk.text": "ngram",
    "whiten": 0, "dropout": 0.1, "regression": 0.3, "negatives": "random,queue", "random_places": 7, "queue": 20,
    "ema": 0.5, "learn_temperature": True, "log_every": 2, "checkpoint_every": 3,
}  # fmt: skip


class Stopped(BaseException):
    pass


def train_until(together, last, recipe, data, folder, settings):
    """Train, but stop as if killed before the step `last`."""
    step = trainer._Loop.step

    def stopping(self, number, batch):
        if number == last:
            raise Stopped
        return step(self, number, batch)

    trainer._Loop.step = stopping
    try:
        train(recipe, open_dataset(data), to=folder, **settings)
    except Stopped:
        pass
    finally:
        trainer._Loop.step = step
    return together.size


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = {"text": text_source(40), "image": image_source(30)}
    return prepare(made, to=tmp_path_factory.mktemp("world")).folder


def equal_runs(found, expected, tolerance=1e-4):
    weights = [load_tensors(folder / "model.safetensors")[0] for folder in (found, expected)]
    assert set(weights[0]) == set(weights[1])
    for name, value in weights[1].items():
        np.testing.assert_allclose(weights[0][name], value, rtol=tolerance, atol=tolerance, err_msg=name)
    logs = [list(read_log(folder)) for folder in (found, expected)]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]] == [2, 4, 6, 8, 10, 12]
    for one, other in zip(*logs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert sorted(p.name for p in found.iterdir()) == ["log.jsonl", "model.safetensors", "run.json"]


@pytest.mark.parametrize("recipe", ["imagebind", "cyclic"])
def test_another_number_of_processes_goes_on(recipe, data, crew, tmp_path):
    """No step is lost or repeated, and the run ends where one process alone would."""
    settings = SETTINGS | ({"every": 2, "freeze_location": True} if recipe == "cyclic" else {})
    train(recipe, data, to=tmp_path / "whole", **settings)
    torn = (recipe, data, tmp_path / "torn", settings)
    train_until(Together(), 5, *torn)
    assert crew.strictly(2, train_until, 8, *torn) == [2, 2]
    assert crew.strictly(3, train_until, 10, *torn) == [3, 3, 3]
    assert load_tensors(tmp_path / "torn" / "resume.safetensors")[1]["step"] == "9"
    train_until(Together(), 99, *torn)
    equal_runs(tmp_path / "torn", tmp_path / "whole")


def test_weights_in_shards_are_trained_as_whole_ones_and_resumed_by_one_process(data, crew, tmp_path):
    settings = SETTINGS | {"shard": True, "clip": 0.1, "cache_basis": True}
    train("melt", data, to=tmp_path / "whole", **settings)
    torn = ("melt", data, tmp_path / "torn", settings)
    assert crew.strictly(2, train_until, 5, *torn) == [2, 2]
    train_until(Together(), 8, *torn)
    crew.strictly(2, train_until, 99, *torn)
    equal_runs(tmp_path / "torn", tmp_path / "whole")


def silent(together, data, folder):
    """The second process lives but does nothing for a while."""
    step = trainer._Loop.step

    def late(self, number, batch):
        time.sleep(8 if number == 4 and together.rank == 1 else 0)
        return step(self, number, batch)

    trainer._Loop.step = late
    try:
        train("imagebind", open_dataset(data), to=folder, **SETTINGS)
    finally:
        trainer._Loop.step = step


def test_a_process_that_does_not_answer_ends_the_run(data, crew, tmp_path):
    first, second = crew(2, silent, data, tmp_path / "run", patience=4)
    assert "Process 0 of 2 waited 4 s for the others, which live but do not answer" in first
    assert "SystemExit: 1" in second
    assert load_tensors(tmp_path / "run" / "resume.safetensors")[1]["step"] == "3"


COMMAND = [sys.executable, "-m", "graticule", "train", "imagebind"]


def start(data, folder, **settings):
    asked = [f"{key}={value}" for key, value in (SETTINGS | settings).items()]
    command = [*COMMAND, str(data), "--to", str(folder), "--processes", "2", "--set", *asked]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=HOME, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def process_of(launcher, rank):
    """The pid of a process that trains, by what Linux tells of the children of its launcher."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"{launcher} has no child of rank {rank}")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds children by /proc")
def test_a_killed_process_ends_the_run_with_one_sentence_and_the_run_goes_on(data, tmp_path):
    folder = tmp_path / "run"
    launcher = start(data, folder, steps=5000, checkpoint_every=5)
    until = time.monotonic() + 100
    while not (folder / "resume.safetensors").exists():
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(process_of(launcher.pid, 1), signal.SIGKILL)
    out, err = launcher.communicate(timeout=60)
    assert (launcher.returncode, out) == (1, "")
    assert err.splitlines()[-1] == (
        "graticule train: Process 1 of 2 (counted from 0) died, and so training stopped. The same command, with any "
        f"number of processes, goes on from the last checkpoint in {folder}."
    )
    assert "Traceback" not in err
    step = int(load_tensors(folder / "resume.safetensors")[1]["step"])
    assert 0 < step < 5000
    train_until(Together(), step + 6, "imagebind", data, folder, SETTINGS | {"steps": 5000, "checkpoint_every": 5})
    assert load_tensors(folder / "resume.safetensors")[1]["step"] == str(step + 5)
    steps = [row["step"] for row in read_log(folder)]
    assert steps == list(range(2, step + 7, 2))


def test_a_wrong_setting_is_said_once(data, tmp_path):
    launcher = start(data, tmp_path / "run", dimm=3)
    out, err = launcher.communicate(timeout=100)
    assert (launcher.returncode, out) == (1, "")
    assert err.startswith("graticule train: Unknown setting 'dimm'. Did you mean 'dim'")
    assert err.count("\n") == 1


def test_at_least_one_process(refused, data, tmp_path):
    assert "At least one process must train, got 0" in refused(
        "train", "melt", data, "--to", tmp_path, "--processes", "0"
    )


def test_a_folder_is_trained_by_one_run_at_a_time(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / ".process-0").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(GraticuleError, match="being trained already"):
            train("melt", tmp_path, to=tmp_path)


def test_networks_are_compiled_where_asked_and_adamw_in_one_kernel_learns_the_same(data, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    train("melt", data, to=tmp_path / "plain", **SETTINGS)
    assert compiled == []
    train("melt", data, to=tmp_path / "fused", **SETTINGS, fused=True, compile=True)
    assert [type(module).__name__ for module in compiled] == ["ResidualMLP", "Tower", "Tower"]
    equal_runs(tmp_path / "fused", tmp_path / "plain", tolerance=1e-3)
