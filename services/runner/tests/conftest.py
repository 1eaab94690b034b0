"""Real boxes of each backend, and a repository for them to work on."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from patchwright_runner.sandbox.docker import DockerBackend
from patchwright_runner.sandbox.protocol import Backend, BoxSpec, Limits
from patchwright_runner.sandbox.remote import RemoteBox

from .repositories import Repository

MIB = 1024**2
LIMITS = Limits(
    memory_bytes=192 * MIB,
    processes=64,
    cpus=1.0,
    workspace_bytes=24 * MIB,
    scratch_bytes=8 * MIB,
    output_bytes=4096,
    wall_seconds=120,
    changed_files=50,
    changed_bytes=MIB,
)
BACKENDS = {"docker": DockerBackend, "bubblewrap": BubblewrapBackend}


@pytest.fixture
def runner_id() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture(params=sorted(BACKENDS))
async def backend(request: pytest.FixtureRequest, runner_id: str) -> Backend:
    """Each backend in turn: absent, it is skipped, but a failure where CI promised it."""
    made: Backend = BACKENDS[request.param](runner_id)
    availability = await made.available()
    if not availability.ok and os.environ.get("CI") == "true":
        pytest.fail(f"{made.name}: {availability.detail}")
    if not availability.ok:
        pytest.skip(f"{made.name}: {availability.detail}")
    return made


@pytest.fixture
async def box(backend: Backend) -> AsyncIterator[RemoteBox]:
    async with await backend.start(BoxSpec("job-1", limits=LIMITS)) as started:
        yield started


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "origin")


@pytest.fixture
async def worktree(backend: Backend, repository: Repository) -> AsyncIterator[RemoteBox]:
    """A box whose workspace is checked out at the repository's first commit."""
    spec = BoxSpec("job-1", mirror=repository.bare, limits=LIMITS)
    async with await backend.start(spec) as started:
        await started.checkout(repository.base)
        yield started
