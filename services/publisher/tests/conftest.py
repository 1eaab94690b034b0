"""The GitHub stand-in, one process for the run; each test makes a scene of its own in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from patchwright_common.bus import Bus
from patchwright_common.claims import Claims
from standin_github.client import StandinGitHub
from standin_github.scene import Scene, make_scene

from .bundles import Workshop
from .service import Service, World, running_service


@pytest.fixture
async def scene(github: StandinGitHub) -> Scene:
    return await make_scene(github)


@pytest.fixture
async def workshop(scene: Scene, tmp_path: Path) -> Workshop:
    url = scene.repository.clone_url
    return Workshop.clone(tmp_path / "workshop.git", url, await scene.token())


@pytest.fixture
async def claims(bus: Bus) -> Claims:
    return await Claims.open(bus.js)


@pytest.fixture(scope="session")
def service(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real vault and the real publisher as programs, and a real NATS, for the whole run."""
    with running_service(address, tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
async def world(service: Service, tmp_path: Path) -> AsyncIterator[World]:
    """What a test of the service does and sees."""
    async with World.open(service, tmp_path) as opened:
        yield opened
        await opened.github.clear_faults()
