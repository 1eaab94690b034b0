"""The GitHub stand-in, one process for the run, and a session on a scene of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from pydantic import SecretStr

from patchwright_github.session import Session, client
from standin_github.client import StandinGitHub
from standin_github.scene import Scene, make_scene


@pytest.fixture(scope="session")
def world(address: str) -> Scene:
    """Made once: an App's key takes its time."""

    async def made() -> Scene:
        async with StandinGitHub(address) as control:
            return await make_scene(control)

    return asyncio.run(made())


@pytest.fixture
async def scene(github: StandinGitHub, world: Scene) -> Scene:
    """The same world with a repository of the test's own."""
    repository = await github.create_repository(f"{world.owner}/r{uuid4().hex[:8]}", {"a": "b"})
    await github.install(world.app.id, [repository.full_name])
    return replace(world, github=github, repository=repository)


@pytest.fixture
async def session(scene: Scene) -> AsyncIterator[Session]:
    async with client(scene.github.api_url) as connections:
        yield Session(connections, SecretStr(await scene.token()))
