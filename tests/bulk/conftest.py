"""The trained run as workers see it: loaded, without torch."""

import pytest

from graticule.embed import load


@pytest.fixture(scope="session")
def loaded(run):
    """The model of `run`, read from its folder."""
    return load(run.folder)
