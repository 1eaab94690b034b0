"""Mirrors of huge repositories: all of the history's commits, the files of the base alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.repositories import Repository, git
from patchwright_runner.mirror import Mirror
from patchwright_runner.sandbox.protocol import Backend, BoxSpec
from patchwright_runner.upkeep import COLLECT_SECONDS, Upkeep

from .conftest import LIMITS
from .git_over_http import GitServer, serve

TOKEN = "ghs_made_up_for_this_test"


@pytest.fixture
def server(repository: Repository) -> Iterator[GitServer]:
    """What GitHub allows: filters, and objects by their ids."""
    git(repository.bare, "config", "uploadpack.allowFilter", "true")
    git(repository.bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    with serve(repository.bare.parent) as running:
        running.token = TOKEN
        yield running


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirrors", lean=["Origin"])


async def _fetch(mirror: Mirror, server: GitServer, sha: str) -> Path:
    return await mirror.fetch(7, server.address("origin.git"), TOKEN, sha=sha, timeout=60)


def _missing(path: Path, commit: str, *more: str) -> int:
    listed = git(path, "rev-list", "--objects", "--missing=print", *more, commit)
    return sum(line.startswith("?") for line in listed.splitlines())


async def test_lean_mirror_holds_the_base_whole_and_of_its_history_no_files(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    for number in range(3):
        base = repository.commit("changed.txt", f"{number}\n")
    # With a bitmap a server leaves out what it is told that we have.
    git(repository.bare, "repack", "-a", "-d", "-q", "--write-bitmap-index")
    path = await _fetch(mirror, server, base)
    assert _missing(path, base, "--no-walk") == 0
    assert _missing(path, base) == 3
    assert TOKEN not in (path / "config").read_text()
    assert "promisor" not in (path / "config").read_text()


async def test_later_base_brings_the_files_that_it_changed(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    await _fetch(mirror, server, repository.base)
    for name in ("first.txt", "second.txt"):
        later = repository.commit(name, f"{name}\n")
    path = await _fetch(mirror, server, later)
    assert _missing(path, later, "--no-walk") == 0
    before = len(server.requests)
    await _fetch(mirror, server, later)
    assert len(server.requests) == before


async def test_lean_base_outside_all_branches_is_whole_too(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    commit = repository.commit("loose.txt", "loose\n")
    git(repository.bare, "update-ref", "refs/pull/1/head", commit)
    git(repository.bare, "update-ref", "refs/heads/main", repository.base)
    path = await _fetch(mirror, server, commit)
    assert _missing(path, commit, "--no-walk") == 0


async def test_lean_mirror_stays_lean_when_the_setting_is_gone(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    await _fetch(mirror, server, repository.base)
    for number in range(2):
        later = repository.commit("changed.txt", f"{number}\n")
    path = await _fetch(Mirror(mirror._root), server, later)
    assert _missing(path, later, "--no-walk") == 0
    assert _missing(path, later) > 0


async def test_box_works_on_a_lean_mirror(
    backend: Backend, mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    base = repository.commit("changed.txt", "later\n")
    path = await _fetch(mirror, server, base)
    spec = BoxSpec("job-1", mirror=path, limits=replace(LIMITS))
    async with await backend.start(spec) as box:
        await box.checkout(base)
        await box.run("echo new > new.txt", timeout=30)
        log = await box.run("git log --format=%s && git status --porcelain", timeout=30)
        assert log.output == "change changed.txt\nfirst\n?? new.txt\n"
        assert [entry.path async for entry in box.collect(base)] == ["new.txt"]


async def test_nothing_is_fetched_behind_our_back(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    old = git(repository.path, "rev-parse", "HEAD:changed.txt")
    path = await _fetch(mirror, server, repository.commit("changed.txt", "later\n"))
    before = len(server.requests)
    shown = subprocess.run(
        ["git", f"--git-dir={path}", "cat-file", "-e", old], capture_output=True, check=False
    )
    assert shown.returncode != 0
    assert len(server.requests) == before


async def test_lean_mirror_is_left_alone_by_the_upkeep(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    path = await _fetch(mirror, server, repository.base)
    os.utime(path / "HEAD", (0, COLLECT_SECONDS))
    assert await Upkeep(mirror._root).round() == []
