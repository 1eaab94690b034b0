"""The bare mirror: incremental, locked, self-healing, and silent about its token."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import processes
from harness.repositories import Repository, git
from patchwright_common.errors import Permanent, Retry
from patchwright_runner.mirror import Mirror

from .git_over_http import GitServer, serve

TOKEN = "ghs_made_up_for_this_test"


@pytest.fixture
def server(tmp_path: Path, repository: Repository) -> Iterator[GitServer]:
    with serve(repository.bare.parent) as running:
        running.token = TOKEN
        yield running


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirrors")


async def _fetch(mirror: Mirror, server: GitServer, sha: str, token: str | None = TOKEN) -> Path:
    return await mirror.fetch(7, server.address("origin.git"), token, sha=sha, timeout=30)


async def test_fetched_mirror_is_bare_and_holds_the_commit(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    path = await _fetch(mirror, server, repository.base)
    assert git(path, "rev-parse", "--is-bare-repository") == "true"
    assert git(path, "cat-file", "-t", repository.base) == "commit"
    git(path, "fsck", "--full", "--strict")


async def test_commit_that_is_there_needs_no_network(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    await _fetch(mirror, server, repository.base)
    before = len(server.requests)
    await _fetch(mirror, server, repository.base)
    assert len(server.requests) == before


async def test_later_commits_are_fetched_incrementally(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    path = await _fetch(mirror, server, repository.base)
    before = {pack.name for pack in path.glob("objects/pack/*.pack")}
    later = repository.commit("later.txt", "later\n")
    assert await _fetch(mirror, server, later) == path
    assert git(path, "cat-file", "-t", later) == "commit"
    assert before <= {pack.name for pack in path.glob("objects/pack/*.pack")}


async def test_commit_of_a_deleted_branch_stays(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    git(repository.bare, "branch", "gone", repository.base)
    await _fetch(mirror, server, repository.base)
    git(repository.path, "commit", "--quiet", "--amend", "--message=other")
    git(repository.path, "push", "--quiet", "--force", str(repository.bare), "HEAD:main")
    git(repository.bare, "branch", "-D", "gone")
    path = await _fetch(mirror, server, git(repository.path, "rev-parse", "HEAD"))
    assert git(path, "cat-file", "-t", repository.base) == "commit"


async def test_commit_outside_all_branches_is_fetched_by_its_id(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    git(repository.bare, "config", "uploadpack.allowAnySHA1InWant", "true")
    tree = git(repository.path, "rev-parse", "HEAD^{tree}")
    loose = git(repository.bare, "commit-tree", tree, "-m", "pull request")
    git(repository.bare, "update-ref", "refs/pull/1/head", loose)
    path = await _fetch(mirror, server, loose)
    assert git(path, "cat-file", "-t", loose) == "commit"


async def test_token_is_nowhere_on_the_disk_nor_in_a_command_line(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    server.delay = 0.5
    fetch = asyncio.create_task(_fetch(mirror, server, repository.base))
    seen = False
    while not fetch.done():
        for _, command in processes.told("cmdline"):
            seen = seen or b"origin.git" in command
            assert TOKEN.encode() not in command
            assert b"eC1hY2Nlc3MtdG9rZW46" not in command
        await asyncio.sleep(0.05)
    assert seen
    for file in (await fetch).rglob("*"):
        assert not file.is_file() or TOKEN.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (404, (Permanent, "not found")),
        (403, (Permanent, "denied")),
        (401, (Retry, "failed")),
        (429, (Retry, "429")),
        (500, (Retry, "500")),
        (503, (Retry, "503")),
    ],
)
async def test_refusal_is_told_apart_from_a_failure_that_passes(
    mirror: Mirror,
    server: GitServer,
    repository: Repository,
    status: int,
    refusal: tuple[type[Exception], str],
) -> None:
    server.status = status
    kind, text = refusal
    with pytest.raises(kind, match=text) as caught:
        await _fetch(mirror, server, repository.base)
    assert TOKEN not in repr(caught.value)
    server.status = None
    await _fetch(mirror, server, repository.base)


async def test_wrong_token_does_not_ask_anybody_for_a_password(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    with pytest.raises(Retry) as caught:
        await _fetch(mirror, server, repository.base, token="wrong_token")
    assert "wrong_token" not in str(caught.value)


async def test_server_that_is_down_is_a_retry(mirror: Mirror, repository: Repository) -> None:
    with pytest.raises(Retry):
        await mirror.fetch(7, "http://127.0.0.1:9/x.git", None, sha=repository.base, timeout=20)


async def test_server_that_hangs_is_a_retry_after_the_time_limit(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    server.delay = 60
    began = time.monotonic()
    with pytest.raises(Retry, match="over 1 s"):
        await mirror.fetch(7, server.address("origin.git"), TOKEN, sha=repository.base, timeout=1)
    assert time.monotonic() - began < 5


async def test_unknown_commit_is_permanent(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    with pytest.raises(Permanent, match="does not exist"):
        await _fetch(mirror, server, "0123456789" * 4)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc",
        "/etc",
        "ssh://host/x",
        "ext::sh -c date",
        "http://user:secret@host/x",
        "--upload-pack=x",
    ],
)
async def test_address_that_is_not_plain_http_is_refused(mirror: Mirror, url: str) -> None:
    with pytest.raises(Permanent, match="address"):
        await mirror.fetch(7, url, None, sha="0" * 40)


async def test_redirect_to_another_host_does_not_get_the_token(
    mirror: Mirror, server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    with serve(repository.bare.parent) as other:
        server.location = other.url
        with pytest.raises(Retry):
            await _fetch(mirror, server, repository.base)
        assert other.requests == []


async def test_fetches_at_once_are_serialized_and_all_succeed(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    other = Mirror(mirror._root)
    fetches = [_fetch(m, server, repository.base) for m in (mirror, other) * 4]
    assert len(set(await asyncio.gather(*fetches))) == 1


async def test_lock_holds_across_processes(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    await _fetch(mirror, server, repository.base)
    later = repository.commit("later.txt", "later\n")
    lock = mirror._root / "7.lock"
    with subprocess.Popen(["flock", str(lock), "sleep", "1"]):
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await _fetch(mirror, server, later)
        assert time.monotonic() - began > 0.4


async def test_leftovers_of_a_killed_git_do_not_block(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    path = await _fetch(mirror, server, repository.base)
    later = repository.commit("later.txt", "later\n")
    for name in ("packed-refs.lock", "refs/heads/main.lock", "config.lock", "HEAD.lock"):
        (path / name).touch()
    (path / "objects/pack/tmp_pack_abc").touch()
    (path.parent / "7.git.new-abc").mkdir()
    await _fetch(mirror, server, later)
    assert not list(path.rglob("*.lock"))
    assert not (path / "objects/pack/tmp_pack_abc").exists()
    assert not (path.parent / "7.git.new-abc").exists()


@pytest.mark.parametrize("damage", ["HEAD", "config", "objects", "packs"])
async def test_broken_mirror_is_made_anew(
    mirror: Mirror, server: GitServer, repository: Repository, damage: str
) -> None:
    path = await _fetch(mirror, server, repository.base)
    if damage == "packs":
        for file in path.glob("objects/pack/*"):
            file.chmod(0o644)
            file.write_bytes(b"")
        for file in path.glob("objects/??/*"):
            file.unlink()
    elif damage == "objects":
        (path / "objects").rename(path / "objects-lost")
    else:
        (path / damage).write_bytes(b"\0garbage")
    await _fetch(mirror, server, repository.base)
    git(path, "fsck", "--full")
    assert git(path, "cat-file", "-t", repository.base) == "commit"


FETCHER = """
import asyncio, sys
from pathlib import Path
from patchwright_runner.mirror import Mirror
asyncio.run(Mirror(Path(sys.argv[1])).fetch(7, sys.argv[2], sys.argv[3], sha=sys.argv[4]))
"""


async def test_mirror_survives_a_kill_at_any_moment(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    (repository.path / "large").write_bytes(os.urandom(3_000_000))
    sha = repository.commit("small.txt", "small\n")
    arguments = [str(mirror._root), server.address("origin.git"), TOKEN, sha]
    for moment in (0.2, 0.25, 0.3, 0.35, 0.4):
        with subprocess.Popen([sys.executable, "-c", FETCHER, *arguments]) as fetcher:
            await asyncio.sleep(moment)
            fetcher.send_signal(signal.SIGKILL)
    path = await _fetch(mirror, server, sha)
    git(path, "fsck", "--full")
    assert not list(path.glob("objects/pack/tmp_*"))


async def test_lock_holds_while_the_git_of_a_killed_runner_still_writes(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    server.delay = 30
    arguments = [str(mirror._root), server.address("origin.git"), TOKEN, repository.base]
    with subprocess.Popen([sys.executable, "-c", FETCHER, *arguments]) as fetcher:
        while not server.requests:
            await asyncio.sleep(0.05)
        fetcher.send_signal(signal.SIGKILL)
    attempt = ["flock", "--nonblock", str(mirror._root / "7.lock"), "true"]
    assert subprocess.run(attempt, check=False, timeout=10).returncode == 1
    server.delay = 0
    server.released.set()
    await _fetch(mirror, server, repository.base)


async def test_objects_are_readable_by_the_box_and_mirrors_by_nobody_else(
    mirror: Mirror, server: GitServer, repository: Repository
) -> None:
    before = os.umask(0o077)
    try:
        path = await _fetch(mirror, server, repository.base)
    finally:
        os.umask(before)
    assert mirror._root.stat().st_mode & 0o077 == 0
    for file in [path / "objects", *(path / "objects").rglob("*")]:
        wanted = 0o005 if file.is_dir() else 0o004
        assert file.stat().st_mode & wanted == wanted, file
