import logging
from collections.abc import Iterator

import pytest

from patchwright_publisher import results
from patchwright_runner import work


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What a world puts in the place of GitHub and of the agent is gone with it."""
    before = results.verified, results.GitHub, work.Attempt
    yield
    results.verified, results.GitHub, work.Attempt = before  # type: ignore[misc]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Every fault is logged, and there are thousands."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
