"""A box of each backend, and the same place without one."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from harness.boxes import BACKENDS, LIMITS, checked_out, unused_runner_id, working
from harness.repositories import Repository
from patchwright_runner.sandbox.docker import DockerBackend, DockerSettings
from patchwright_runner.sandbox.protocol import Backend, BoxSpec, Sandbox
from patchwright_runner.sandbox.remote import RemoteBox

from .scene import scene
from .unprotected import Unprotected

_GVISOR = "runsc"


def _gvisor(runner_id: str) -> Backend:
    return DockerBackend(runner_id, DockerSettings(runtime=_GVISOR))


@functools.cache
def _backends() -> dict[str, Callable[[str], Backend]]:
    """Docker with gVisor too, on machines whose engine has it."""
    if shutil.which("docker") is None:
        return dict(BACKENDS)
    asked = ["docker", "info", "--format", "{{json .Runtimes}}"]
    said = subprocess.run(asked, capture_output=True, timeout=30, check=False).stdout
    try:
        runtimes = json.loads(said) or {}
    except ValueError:
        runtimes = {}
    return {**BACKENDS, "gvisor": _gvisor} if _GVISOR in runtimes else dict(BACKENDS)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """An attack's name comes first in the test's, its backend's last."""
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", sorted(_backends()), indirect=True)


@pytest.fixture
async def backend(request: pytest.FixtureRequest) -> Backend:
    return await working(request.param, _backends()[request.param](unused_runner_id()))


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> object:
    """The box's; an attack may choose them."""
    attack = request.node.callspec.params.get("attack")
    return LIMITS if attack is None else attack.limits


@pytest.fixture
async def box(backend: Backend, limits: object) -> AsyncIterator[RemoteBox]:
    async with await backend.start(BoxSpec("job-1", limits=limits)) as started:
        yield started


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Made once, because that takes a dozen runs of git."""
    return Repository.create(tmp_path_factory.mktemp("template") / "origin")


@pytest.fixture
def repository(template: Repository, tmp_path: Path) -> Repository:
    """The test's own copy."""
    path, bare = tmp_path / template.path.name, tmp_path / template.bare.name
    shutil.copytree(template.path, path, symlinks=True)
    shutil.copytree(template.bare, bare)
    return Repository(path, bare, template.base)


@pytest.fixture
async def worktree(backend: Backend, repository: Repository) -> AsyncIterator[Sandbox]:
    async with checked_out(backend, repository) as started:
        yield started


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What is on the machine outside the box; see `scene`."""
    with scene(tmp_path) as variables:
        yield variables


@pytest.fixture
def unprotected(surroundings: dict[str, str]) -> Iterator[Unprotected]:
    """Where attacks work."""
    folder = Path(tempfile.mkdtemp(prefix="unprotected-"))
    place = Unprotected(folder, surroundings)
    yield place
    place.end()
    # Python's own way to remove a tree gives up in folders that lie too deep.
    subprocess.run(["rm", "-rf", str(folder)], check=True)
