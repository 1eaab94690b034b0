"""Real boxes of each backend, small enough to be filled in a moment."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from harness.repositories import Repository
from patchwright_runner.sandbox.bubblewrap import BubblewrapBackend
from patchwright_runner.sandbox.docker import DockerBackend
from patchwright_runner.sandbox.protocol import Availability, Backend, BoxSpec, Limits, Sandbox

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
BACKENDS: Mapping[str, Callable[[str], Backend]] = {
    "docker": DockerBackend,
    "bubblewrap": BubblewrapBackend,
}


def unused_runner_id() -> str:
    """A runner's name that no other test has, so that sweeps touch nobody else's boxes."""
    return f"test-{secrets.token_hex(4)}"


@asynccontextmanager
async def checked_out(backend: Backend, repository: Repository) -> AsyncIterator[Sandbox]:
    """A box whose workspace is at the repository's first commit."""
    spec = BoxSpec("job-1", mirror=repository.bare, limits=LIMITS)
    async with await backend.start(spec) as started:
        await started.checkout(repository.base)
        yield started


_known: dict[str, Availability] = {}
"""Asked once, because bubblewrap starts a box for the answer."""


async def working(name: str, backend: Backend) -> Backend:
    """The backend; absent it is skipped, but a failure where CI promised it."""
    if name not in _known:
        _known[name] = await backend.available()
    if not _known[name].ok and os.environ.get("CI") == "true":
        pytest.fail(f"{name}: {_known[name].detail}")
    if not _known[name].ok:
        pytest.skip(f"{name}: {_known[name].detail}")
    return backend
