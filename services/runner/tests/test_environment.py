"""Kept environments: the same box in less time, from the same repository's default branch only."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.boxes import LIMITS, MIB
from harness.repositories import Repository
from patchwright_runner.environment import EnvironmentCache, Recipe, recipe
from patchwright_runner.sandbox.docker import DockerBackend, DockerSettings
from patchwright_runner.sandbox.inside import packing
from patchwright_runner.sandbox.pool import Pool
from patchwright_runner.sandbox.protocol import Backend, BoxLost, BoxSpec, Sandbox, ToolError
from patchwright_runner.sandbox.remote import RemoteBox

RECIPE = Recipe(7, "test", ("make deps",), (("requirements.txt", "0" * 40),))
SET_UP = """
mkdir -p build/deep ~/.cache/tool locked
echo dependency > build/deep/made.txt && chmod 640 build/deep/made.txt
ln -s ../build/deep build/link && ln build/deep/made.txt build/hard
echo '#!/bin/sh' > build/run && chmod 755 build/run
echo cached > ~/.cache/tool/entry
echo inside > locked/file && chmod 555 locked
touch -d '2020-02-02 00:00:00 UTC' build/run
mkfifo build/fifo
echo by the set-up >> kept.txt
"""
STATE = """
stat -c '%A %n' build/deep/made.txt build/run locked && stat -c %Y build/run
cat build/link/made.txt build/hard locked/file ~/.cache/tool/entry kept.txt
ls -A build; git status --porcelain
"""

ONE = pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
"""Where the backend makes no difference."""


@pytest.fixture
def cache(tmp_path: Path) -> EnvironmentCache:
    return EnvironmentCache(tmp_path / "environments", disk_bytes=64 * MIB)


@pytest.fixture
def spec(repository: Repository) -> BoxSpec:
    return BoxSpec("job-1", mirror=repository.bare, limits=LIMITS)


async def _prepared(
    cache: EnvironmentCache, box: RemoteBox, base: str, wanted: Recipe = RECIPE, **more: bool
) -> bool:
    async def set_up() -> None:
        result = await box.run(SET_UP, timeout=60)
        assert result.exit_code == 0, result.output

    options = {"of_default_branch": True, **more}
    return await cache.prepared(box, wanted, base=base, set_up=set_up, **options)


def _kept(cache: EnvironmentCache) -> list[Path]:
    return sorted(cache._root.glob("*"))


async def _fresh(backend: Backend, spec: BoxSpec, base: str) -> RemoteBox:
    box = await backend.start(spec)
    await box.checkout(base)
    assert isinstance(box, RemoteBox)
    return box


@pytest.fixture
async def second(
    backend: Backend, spec: BoxSpec, repository: Repository
) -> AsyncIterator[RemoteBox]:
    """Another box of the same repository, for another job."""
    async with await _fresh(backend, spec, repository.base) as box:
        yield box


async def test_later_box_finds_what_the_set_up_left(
    cache: EnvironmentCache, worktree: RemoteBox, second: RemoteBox, repository: Repository
) -> None:
    assert await _prepared(cache, worktree, repository.base) is False
    assert await _prepared(cache, second, repository.base) is True
    first_state = await worktree.run(STATE, timeout=30)
    second_state = await second.run(STATE, timeout=30)
    assert first_state.exit_code == second_state.exit_code == 0
    assert second_state.output == first_state.output.replace("fifo\n", "")
    assert "by the set-up" not in second_state.output
    assert [path.stat().st_mode & 0o077 for path in (cache._root, *_kept(cache))] == [0, 0]


async def test_box_that_waited_holds_the_environment_and_takes_a_newer_base(
    backend: Backend,
    cache: EnvironmentCache,
    worktree: RemoteBox,
    spec: BoxSpec,
    repository: Repository,
) -> None:
    await _prepared(cache, worktree, repository.base)
    pool = Pool(backend, size=1)
    wanted = replace(spec, prepared=RECIPE.digest)

    async def restore(box: Sandbox) -> None:
        assert isinstance(box, RemoteBox)
        await cache.restored(box, RECIPE)

    pool.prepare(wanted, repository.base, restore)
    await pool.settled()
    (repository.path / "build").mkdir()
    (repository.path / ".gitignore").unlink()
    newer = repository.commit("build/run", "tracked by now\n")
    async with await pool.start(wanted) as box:
        await box.checkout(newer)
        assert await _prepared(cache, box, newer) is True
        assert not box.used
        result = await box.run("cat build/deep/made.txt build/run", timeout=30)
        assert result.output == "dependency\ntracked by now\n"
    async with await pool.start(spec) as box:
        assert box.prepared == ""
    await pool.aclose()


@ONE
async def test_box_whose_environment_is_in_the_way_of_a_newer_base_is_given_up(
    backend: Backend, cache: EnvironmentCache, spec: BoxSpec, repository: Repository
) -> None:
    async with await _fresh(backend, spec, repository.base) as first:
        await _prepared(cache, first, repository.base)
    (repository.path / "locked").mkdir()
    newer = repository.commit("locked/other", "nobody can write here\n")
    async with await _fresh(backend, spec, repository.base) as box:
        assert await cache.restored(box, RECIPE)
        with pytest.raises(BoxLost, match="locked/other"):
            await box.checkout(newer)


@ONE
async def test_set_up_that_fails_leaves_nothing(
    cache: EnvironmentCache, worktree: RemoteBox, repository: Repository
) -> None:
    async def set_up() -> None:
        raise RuntimeError("npm is not there")

    with pytest.raises(RuntimeError, match="npm"):
        await cache.prepared(
            worktree, RECIPE, base=repository.base, of_default_branch=True, set_up=set_up
        )
    assert _kept(cache) == []


async def test_environment_of_one_repository_is_not_used_by_another(
    cache: EnvironmentCache, worktree: RemoteBox, second: RemoteBox, repository: Repository
) -> None:
    await _prepared(cache, worktree, repository.base)
    for other in (
        replace(RECIPE, repository_id=8),
        replace(RECIPE, made_by="another image"),
        replace(RECIPE, commands=("make other",)),
        replace(RECIPE, files=(("requirements.txt", "1" * 40),)),
    ):
        assert await cache.restored(second, other) is False
    assert (await second.run("ls build", timeout=30)).exit_code != 0


async def test_agent_cannot_leave_an_environment_for_later_jobs(
    cache: EnvironmentCache,
    worktree: RemoteBox,
    repository: Repository,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await worktree.run("mkdir build; echo evil > build/evil", timeout=30)
    await _prepared(cache, worktree, repository.base)
    assert _kept(cache) == []
    assert "something else had run in its box" in caplog.text


@ONE
async def test_branch_that_is_not_the_default_cannot_leave_an_environment(
    cache: EnvironmentCache, worktree: RemoteBox, repository: Repository
) -> None:
    await _prepared(cache, worktree, repository.base, of_default_branch=False)
    assert _kept(cache) == []


async def test_poisoned_environment_on_the_disk_is_thrown_away(
    cache: EnvironmentCache,
    worktree: RemoteBox,
    second: RemoteBox,
    repository: Repository,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _prepared(cache, worktree, repository.base)
    [path] = _kept(cache)
    path.write_bytes(path.read_bytes().replace(b"dependency", b"poisonpill"))
    assert await _prepared(cache, second, repository.base) is False
    assert "changed on the disk" in caplog.text
    assert (await second.run("cat build/deep/made.txt", timeout=30)).output == "dependency\n"
    assert b"poisonpill" not in _kept(cache)[0].read_bytes()


@ONE
async def test_environment_that_is_a_bomb_is_not_kept(
    tmp_path: Path,
    worktree: RemoteBox,
    repository: Repository,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = EnvironmentCache(tmp_path / "small", disk_bytes=64 * MIB, entry_bytes=MIB)

    async def set_up() -> None:
        await worktree.run("truncate -s 20M sparse; head -c 3M /dev/zero > zeros", timeout=30)

    await cache.prepared(
        worktree, RECIPE, base=repository.base, of_default_branch=True, set_up=set_up
    )
    assert _kept(cache) == []
    assert "larger than what is kept" in caplog.text
    assert (await worktree.run("echo well", timeout=30)).output == "well\n"


@ONE
async def test_least_used_environment_makes_room(
    cache: EnvironmentCache, worktree: RemoteBox, repository: Repository
) -> None:
    await _prepared(cache, worktree, repository.base)
    [first] = _kept(cache)
    small = EnvironmentCache(cache._root, disk_bytes=first.stat().st_size * 3 // 2)
    await small._keep(worktree, replace(RECIPE, repository_id=8))
    [second] = _kept(cache)
    assert first != second


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode = kind, link, 0o755
    return member


HOSTILE = {
    "parent": _tar((_member("workspace/../evil"), b"evil")),
    "absolute": _tar((_member("/tmp/evil"), b"evil")),
    "unknown_root": _tar((_member("tmp/evil"), b"evil")),
    "empty_part": _tar((_member("workspace//tmp/evil"), b"evil")),
    "link_then_through": _tar(
        (_member("workspace/out", tarfile.SYMTYPE, "../tmp"), b""),
        (_member("workspace/out/evil"), b"evil"),
    ),
    "link_of_the_repository": _tar((_member("workspace/link/evil"), b"evil")),
    "hard_link": _tar((_member("workspace/evil", tarfile.LNKTYPE, "/etc/passwd"), b"")),
    "device": _tar((_member("workspace/evil", tarfile.BLKTYPE), b"")),
    "fifo": _tar((_member("workspace/evil", tarfile.FIFOTYPE), b"")),
    "git_hook": _tar((_member("workspace/.git/hooks/post-checkout"), b"evil")),
    "git_nested": _tar((_member("workspace/folder/.GIT/config"), b"evil")),
    "garbage": b"evil" * 1000,
}


async def _once(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), MIB):
        yield data[at : at + MIB]


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_tar_is_refused_before_it_writes(tmp_path: Path, data: bytes) -> None:
    """The same code as in a box, where all of the disk can be looked at afterwards."""
    roots = {name: str(tmp_path / name) for name in ("workspace", "home")}
    for root in roots.values():
        Path(root).mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "workspace" / "link").symlink_to(tmp_path / "tmp")
    pieces = iter([data])
    with pytest.raises(packing.Unpackable, match="kept set-up"):
        packing.unpack(roots, packing.Source(lambda: next(pieces, b"")))
    left = {path.name for path in tmp_path.rglob("*") if not path.is_dir()}
    assert left <= {"link", "out"}


async def test_box_refuses_a_hostile_tar_and_lives(worktree: RemoteBox) -> None:
    with pytest.raises(ToolError, match="kept set-up"):
        await worktree.unpack(_once(HOSTILE["link_then_through"]))
    assert (await worktree.run("ls /tmp", timeout=30)).output == ""


@ONE
async def test_tar_does_not_overwrite_a_tracked_file(worktree: RemoteBox) -> None:
    await worktree.unpack(_once(_tar((_member("workspace/kept.txt"), b"evil\n"))))
    assert (await worktree.run("cat kept.txt", timeout=30)).output == "kept\n"


async def test_tar_that_fills_the_workspace_is_refused_and_the_box_lives(
    worktree: RemoteBox,
) -> None:
    large = _tar((_member("workspace/large"), bytes(2 * LIMITS.workspace_bytes)))
    with pytest.raises(ToolError, match="No space"):
        await worktree.unpack(_once(large))
    assert (await worktree.run("echo well", timeout=30)).output == "well\n"


@ONE
async def test_restoring_that_is_broken_off_does_not_disturb_the_box(worktree: RemoteBox) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield _tar((_member("workspace/large"), bytes(MIB)))[: MIB // 2]
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="disk"):
        await worktree.unpack(broken())
    assert (await worktree.run("echo well", timeout=30)).output == "well\n"


@ONE
async def test_environment_that_the_box_refuses_costs_the_box_and_not_the_next_one(
    cache: EnvironmentCache, worktree: RemoteBox, second: RemoteBox, repository: Repository
) -> None:
    await _prepared(cache, worktree, repository.base)
    await second.run("ln -s /tmp build", timeout=30)
    with pytest.raises(BoxLost, match="could not be restored"):
        await cache.restored(second, RECIPE)
    assert _kept(cache) == []


async def test_recipe_names_the_set_up_files_of_the_base(repository: Repository) -> None:
    base = repository.commit("requirements-dev.txt", "pytest\n")

    async def made(base: str, *files: str) -> Recipe:
        chosen = {"files": files} if files else {}
        return await recipe(
            repository.bare, base, repository_id=7, made_by="x", commands=["make"], **chosen
        )

    first = await made(base)
    assert [path for path, _ in first.files] == ["requirements-dev.txt"]
    unrelated = repository.commit("kept.txt", "other\n")
    assert (await made(unrelated)).digest == first.digest
    related = repository.commit("requirements-dev.txt", "pytest>=9\n")
    assert (await made(related)).digest != first.digest
    named = await made(related, "folder/*.txt", "tool.sh")
    assert [path for path, _ in named.files] == ["folder/inner.txt", "tool.sh"]


async def test_backend_is_the_same_until_its_programs_change(backend: Backend) -> None:
    identity = await backend.identity()
    assert identity.startswith(backend.name)
    assert await backend.identity() == identity
    assert await Pool(backend, size=0).identity() == identity


async def test_image_that_is_missing_makes_no_environments() -> None:
    with pytest.raises(BoxLost):
        await DockerBackend("test", DockerSettings(image="patchwright-none:0")).identity()
