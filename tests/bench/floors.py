"""What ours is compared with: plain git and plain docker, as anybody would use them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.repositories import ENVIRONMENT
from patchwright_runner.sandbox.image import DEFAULT_IMAGE

from .measured import Measured

FULL = "git clone"
SHALLOW = "git clone --depth=1"
DOCKER_START = "docker run + git clone --depth=1 + docker exec"
DOCKER_EXEC = "docker exec true"
_SECONDS = 600


def clones(measured: Measured, url: str, folder: Path) -> None:
    """One full and one shallow clone, each into a folder that is not there."""
    for name, options in ((FULL, ()), (SHALLOW, ("--depth=1",))):
        with _fresh(folder) as target, measured.clock(name):
            _run("git", "clone", "--quiet", *options, url, str(target))


def docker_start(measured: Measured, url: str, folder: Path) -> None:
    """A container around a folder, a shallow clone in it, and the first command."""
    with _fresh(folder) as target:
        target.mkdir()
        with measured.clock(DOCKER_START):
            mount = ("--volume", f"{target}:/workspace")
            with container(*mount) as name:
                _run("git", "clone", "--quiet", "--depth=1", url, str(target / "clone"))
                _run("docker", "exec", name, "true")


def docker_exec(measured: Measured, container_name: str) -> None:
    """One command in a container that runs."""
    with measured.clock(DOCKER_EXEC):
        _run("docker", "exec", container_name, "true")


@contextmanager
def container(*options: str) -> Iterator[str]:
    """The sandbox's own image, asleep."""
    limits = ("--network", "none", "--memory", "2g", "--pids-limit", "512")
    started = _run(
        *("docker", "run", "--detach", "--rm", "--pull", "never", *limits, *options),
        *("--entrypoint", "sleep", DEFAULT_IMAGE, "3600"),
    )
    try:
        yield started.strip()
    finally:
        subprocess.Popen(
            ["docker", "rm", "--force", started.strip()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def _fresh(folder: Path) -> Iterator[Path]:
    target = folder / "clone"
    shutil.rmtree(target, ignore_errors=True)
    try:
        yield target
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _run(*command: str) -> str:
    environment = {**ENVIRONMENT, "HOME": "/nonexistent"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout
