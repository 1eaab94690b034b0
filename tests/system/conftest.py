"""One stack for the whole suite and each sandbox; every test files issues of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from harness.stack import RunningStack, running_stack
from patchwright_common.errors import Permanent
from patchwright_runner.main import RunnerSettings, pick_backend


async def _require(sandbox: str) -> None:
    """A missing sandbox skips on a person's machine and fails where CI promised it."""
    try:
        await pick_backend(RunnerSettings(sandbox=sandbox))
    except Permanent as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(missing.reason)
        pytest.skip(missing.reason)


@pytest.fixture(scope="session", params=["bubblewrap", "docker"])
def each_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStack]:
    """The stack on each sandbox in turn."""
    asyncio.run(_require(request.param))
    with running_stack(tmp_path_factory.mktemp(request.param), request.param) as stack:
        yield stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The stack on whichever sandbox this machine has."""
    with running_stack(tmp_path_factory.mktemp("auto"), "auto") as running:
        yield running
