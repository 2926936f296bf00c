import pytest

from tests.processes import Crew


@pytest.fixture(scope="session")
def crew():
    """Up to three processes that train together."""
    made = Crew(3)
    yield made
    made.end()
