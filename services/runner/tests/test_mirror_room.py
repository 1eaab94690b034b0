"""Mirrors on a small disk: the one used longest ago goes, one in use never; and they are tidied."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.repositories import Repository, git
from patchwright_runner.mirror import Mirror
from patchwright_runner.origin import BASES
from patchwright_runner.room import Kept, make_room
from patchwright_runner.upkeep import BASE_SECONDS, COLLECT_SECONDS, Mirrored, Upkeep, due

from .git_over_http import GitServer, serve

TOKEN = "ghs_made_up_for_this_test"
LARGE = 300_000


@pytest.fixture
def server(tmp_path: Path, repository: Repository) -> Iterator[GitServer]:
    (repository.path / "large").write_bytes(os.urandom(LARGE))
    with serve(repository.bare.parent) as running:
        yield running


@pytest.fixture
def large(server: GitServer, repository: Repository) -> str:
    """A commit that makes every mirror of it weigh more than 300 kB."""
    return repository.commit("more.txt", "more\n")


async def _fetch(mirror: Mirror, server: GitServer, number: int, sha: str) -> Path:
    return await mirror.fetch(number, server.address("origin.git"), None, sha=sha, timeout=60)


def _used(path: Path, seconds_ago: float) -> None:
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


async def test_mirror_used_longest_ago_makes_room(
    tmp_path: Path, server: GitServer, large: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    mirror = Mirror(tmp_path / "mirrors", disk_bytes=3 * LARGE)
    first, second = [await _fetch(mirror, server, number, large) for number in (1, 2)]
    _used(first, 10)
    _used(second, 20)
    third = await _fetch(mirror, server, 3, large)
    assert [path.exists() for path in (first, second, third)] == [True, False, True]
    assert "removed the mirror 2.git" in caplog.text
    assert sorted(path.name for path in mirror._root.glob("*.git*")) == ["1.git", "3.git"]
    await _fetch(mirror, server, 2, large)
    git(second, "fsck", "--full")


async def test_mirror_that_a_job_holds_is_never_removed(
    tmp_path: Path, server: GitServer, large: str, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = Mirror(tmp_path / "mirrors", disk_bytes=LARGE)
    other = Mirror(tmp_path / "mirrors", disk_bytes=LARGE)
    async with mirror.held(1), mirror.held(1):
        first = await _fetch(mirror, server, 1, large)
        _used(first, 100)
        second = await _fetch(other, server, 2, large)
        assert first.exists()
        assert "more than the 0 MB allowed" in caplog.text
    _used(first, 100)
    await _fetch(other, server, 3, large)
    assert not first.exists()
    assert not second.exists()


async def test_using_a_mirror_again_makes_it_young(
    tmp_path: Path, server: GitServer, large: str
) -> None:
    mirror = Mirror(tmp_path / "mirrors", disk_bytes=3 * LARGE)
    first, second = [await _fetch(mirror, server, number, large) for number in (1, 2)]
    _used(first, 100)
    _used(second, 50)
    await _fetch(mirror, server, 1, large)
    await _fetch(mirror, server, 3, large)
    assert first.exists()
    assert not second.exists()


async def test_many_small_packs_are_joined_without_losing_anything(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    mirror = Mirror(tmp_path / "mirrors")
    path = await _fetch(mirror, server, 1, repository.base)
    commits = [repository.base]
    for number in range(12):
        commits.append(repository.commit("counted.txt", f"{number}\n"))
        await _fetch(mirror, server, 1, commits[-1])
        git(path, "repack", "-d", "-q")
    assert await Upkeep(mirror._root).round() == [("1.git", "join")]
    assert len(list(path.glob("objects/pack/*.pack"))) < 6
    git(path, "fsck", "--full")
    assert [git(path, "cat-file", "-t", commit) for commit in commits] == ["commit"] * 13
    assert await Upkeep(mirror._root).round() == []


async def test_what_nothing_refers_to_any_more_is_dropped_and_bases_of_late_stay(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    mirror = Mirror(tmp_path / "mirrors")
    commits = []
    for message in ("forgotten", "recent", "head"):
        git(repository.path, "commit", "--quiet", "--amend", f"--message={message}")
        git(repository.path, "push", "--quiet", "--force", str(repository.bare), "HEAD:main")
        commits.append(git(repository.path, "rev-parse", "HEAD"))
        path = await _fetch(mirror, server, 1, commits[-1])
    forgotten, recent, head = commits
    _used(path / BASES / forgotten, BASE_SECONDS + 60)
    _used(path / "HEAD", COLLECT_SECONDS + 60)
    git(path, "repack", "-a", "-d", "-q")
    assert await Upkeep(mirror._root).round() == [("1.git", "collect")]
    git(path, "fsck", "--full")
    kept = git(path, "cat-file", "--batch-check", "--batch-all-objects")
    assert [commit in kept for commit in (forgotten, recent, head)] == [False, True, True]
    assert await Upkeep(mirror._root).round() == []


async def test_mirror_in_use_is_not_tidied(
    tmp_path: Path, server: GitServer, repository: Repository
) -> None:
    mirror = Mirror(tmp_path / "mirrors")
    async with mirror.held(1):
        path = await _fetch(mirror, server, 1, repository.base)
        git(path, "repack", "-a", "-d", "-q")
        _used(path / "HEAD", COLLECT_SECONDS + 60)
        assert await Upkeep(mirror._root).round() == []
    assert await Upkeep(mirror._root).round() == [("1.git", "collect")]


async def test_mirror_that_cannot_be_tidied_does_not_stop_the_round(
    tmp_path: Path,
    server: GitServer,
    repository: Repository,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mirror = Mirror(tmp_path / "mirrors")
    for number in (1, 2):
        path = await _fetch(mirror, server, number, repository.base)
        git(path, "repack", "-a", "-d", "-q")
        _used(path / "HEAD", COLLECT_SECONDS + 60)
    for pack in (mirror._root / "1.git").glob("objects/pack/*"):
        pack.chmod(0o644)
        pack.write_bytes(b"damaged")
    assert await Upkeep(mirror._root).round() == [("2.git", "collect")]
    assert "1.git could not be tidied" in caplog.text


def test_joining_is_cheap_and_collecting_rare() -> None:
    assert due(Mirrored(packs=3, loose=100, collected=60)) is None
    assert due(Mirrored(packs=11, loose=0, collected=60)) == "join"
    assert due(Mirrored(packs=1, loose=5000, collected=60)) == "join"
    assert due(Mirrored(packs=1, loose=0, collected=COLLECT_SECONDS)) == "collect"
    assert due(Mirrored(packs=0, loose=0, collected=COLLECT_SECONDS)) is None


def test_room_is_made_by_the_oldest_that_may_go() -> None:
    kept = [Kept(Path(name), 10, used) for name, used in (("new", 3), ("old", 1), ("mid", 2))]
    assert make_room(kept, 30, lambda _: True) == []
    assert [one.path.name for one in make_room(kept, 25, lambda _: True)] == ["old"]
    busy = make_room(kept, 15, lambda one: one.path.name != "old")
    assert [one.path.name for one in busy] == ["mid", "new"]
