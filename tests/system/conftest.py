"""One stack for the whole suite and each sandbox; every test files issues of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from harness.stack import RunningStack, require, running_stack


@pytest.fixture(scope="session", params=["bubblewrap", "docker"])
def each_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    """The stack on each sandbox in turn."""
    asyncio.run(require(request.param))
    with running_stack(tmp_path_factory.mktemp(request.param), request.param) as stack:
        yield stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The stack on whichever sandbox this machine has."""
    with running_stack(tmp_path_factory.mktemp("auto"), "auto") as running:
        yield running
