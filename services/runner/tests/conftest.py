"""Real boxes of each backend, and a repository for them to work on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.boxes import BACKENDS, LIMITS, checked_out, unused_runner_id, working
from harness.repositories import Repository
from patchwright_common.bus import Bus
from patchwright_runner.sandbox.protocol import Backend, BoxSpec, Sandbox
from patchwright_runner.sandbox.remote import RemoteBox

from .runner_at_work import Bench, at_work


@pytest.fixture
def runner_id() -> str:
    return unused_runner_id()


@pytest.fixture(params=sorted(BACKENDS))
async def backend(request: pytest.FixtureRequest, runner_id: str) -> Backend:
    """Each backend in turn."""
    return await working(request.param, BACKENDS[request.param](runner_id))


@pytest.fixture
async def box(backend: Backend) -> AsyncIterator[RemoteBox]:
    async with await backend.start(BoxSpec("job-1", limits=LIMITS)) as started:
        yield started


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "origin")


@pytest.fixture
async def worktree(backend: Backend, repository: Repository) -> AsyncIterator[Sandbox]:
    async with checked_out(backend, repository) as started:
        yield started


@pytest.fixture
async def bench(bus: Bus, tmp_path: Path) -> AsyncIterator[Bench]:
    async with at_work(bus, tmp_path) as made:
        yield made
