"""A small world, prepared and trained once a session: 60 texts and 60 image patches, five steps."""

import logging

import numpy as np
import pytest

from graticule.cli import main

DIM = 16
TRAINED = {  # settings of the run
    "trunk.text": "ngram",
    "location": "harmonics",
    "location.max_degree": 4,
    "location.width": 32,
    "location.depth": 1,
    "dim": DIM,
    "steps": 5,
    "batch_size": 16,
    "device": "cpu",
}
ROWS = 60


def texts():
    words = ("snow and ice", "dense forest", "dry desert", "a fishing harbour")
    return [f"{words[i % 4]}, place\nnumber {i}" + " with a long tail" * (i % 5) for i in range(ROWS)]


def images():
    return np.random.default_rng(0).integers(0, 3000, (ROWS, 3, 6, 6)).astype(np.uint16)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A prepared dataset of the modalities text and image, at different places."""
    from graticule.data.source import Row, Source
    from graticule.data.store import prepare
    from graticule.geo.coords import uniform_places

    def source(kind, contents, seed):
        places = uniform_places(ROWS, seed=seed)
        rows = [Row(f"{kind}-{i}", *map(float, p), c) for i, (p, c) in enumerate(zip(places, contents, strict=True))]
        return Source(kind, lambda start: iter(rows[start:]), {"made": kind}, licence=f"licence of {kind}")

    to = tmp_path_factory.mktemp("small") / "data"
    return prepare({"text": source("text", texts(), 1), "image": source("image", images(), 2)}, to=to)


@pytest.fixture(scope="session")
def run(data, tmp_path_factory):
    """The model of a run trained on `data`; its folder must not be changed by a test."""
    from graticule.runs import train

    return train("imagebind", data, to=tmp_path_factory.mktemp("runs") / "small", **TRAINED)


@pytest.fixture
def command(capsys):
    """Run the command line in this process: arguments -> (exit code, standard output, standard error)."""

    def run_command(*arguments):
        root = logging.getLogger()
        before = root.handlers[:], root.level
        root.handlers[:] = []  # those of pytest, so that the command sets up its own
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        finally:
            root.handlers[:], root.level = before
        return (code, *capsys.readouterr())

    return run_command


@pytest.fixture
def refused(command):
    """Run a command that must end with exit code 1, no output and one sentence on standard error: that sentence."""

    def run_refused(verb, *arguments):
        code, out, err = command(verb, "-q", *arguments)
        assert (code, out) == (1, ""), err
        assert err.startswith(f"graticule {verb}: ")
        assert err.count("\n") == 1, err
        return err

    return run_refused
