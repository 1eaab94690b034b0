"""Boxes that wait: ready at once, given away once, and clean of everybody else."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from harness.repositories import Repository, git
from patchwright_runner.sandbox.pool import Pool, Waiting, surplus
from patchwright_runner.sandbox.protocol import (
    Availability,
    Backend,
    BoxLost,
    BoxSpec,
    Sandbox,
)
from patchwright_runner.sandbox.remote import RemoteBox

from .conftest import LIMITS

ONE = pytest.mark.parametrize("backend", ["bubblewrap"], indirect=True)
"""Where the backend makes no difference."""


@dataclass
class Counting:
    """A real backend that remembers what it started."""

    backend: Backend
    started: list[RemoteBox] = field(default_factory=list)
    specs: list[BoxSpec] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.backend.name

    async def available(self) -> Availability:
        return await self.backend.available()

    async def start(self, spec: BoxSpec) -> Sandbox:
        box = await self.backend.start(spec)
        self.started.append(cast("RemoteBox", box))
        self.specs.append(spec)
        return box

    async def sweep(self) -> int:
        return await self.backend.sweep()


@pytest.fixture
def counting(backend: Backend) -> Counting:
    return Counting(backend)


@pytest.fixture
async def pool(counting: Counting) -> AsyncIterator[Pool]:
    made = Pool(counting, size=1)
    yield made
    await made.aclose()


@pytest.fixture
def spec(repository: Repository) -> BoxSpec:
    return BoxSpec("job-1", mirror=repository.bare, limits=LIMITS)


async def _prepare(pool: Pool, spec: BoxSpec, base: str) -> None:
    pool.prepare(spec, base)
    await pool.settled()


async def test_job_takes_the_box_that_waited_and_finds_a_fresh_checkout(
    pool: Pool, counting: Counting, spec: BoxSpec, repository: Repository
) -> None:
    await _prepare(pool, spec, repository.base)
    async with await pool.start(replace(spec, job_id="job-2")) as box:
        assert [box] == counting.started
        await box.checkout(repository.base)
        state = "git status --porcelain --ignored; git log --format=%H; cat folder/inner.txt"
        assert (await box.run(state, timeout=30)).output == f"{repository.base}\ninner\n"
        assert [entry async for entry in box.collect(repository.base)] == []


async def test_box_that_waited_is_brought_to_a_newer_base(
    pool: Pool, spec: BoxSpec, repository: Repository
) -> None:
    await _prepare(pool, spec, repository.base)
    git(repository.path, "rm", "--quiet", "-r", "folder")
    (repository.path / "tool.sh").chmod(0o755)
    newer = repository.commit("kept.txt", "newer\n")
    async with await pool.start(spec) as box:
        await box.checkout(newer)
        state = "git status --porcelain --ignored; git rev-parse HEAD; cat kept.txt; ls folder"
        result = await box.run(f"{state}; test -x tool.sh", timeout=30)
        assert result.output.startswith(f"{newer}\nnewer\n")
        assert "No such file" in result.output
        assert result.exit_code == 0
        assert [entry async for entry in box.collect(newer)] == []


@ONE
async def test_box_of_another_repository_or_with_other_limits_is_not_taken(
    pool: Pool, counting: Counting, spec: BoxSpec, repository: Repository, tmp_path: Path
) -> None:
    other = Repository.create(tmp_path / "other")
    await _prepare(pool, spec, repository.base)
    for another in (
        replace(spec, mirror=other.bare),
        replace(spec, limits=replace(LIMITS, cpus=0.5)),
        replace(spec, environment={"A": "b"}),
    ):
        async with await pool.start(another) as box:
            assert box is not counting.started[0]


async def test_box_that_an_agent_touched_is_never_given_to_another_job(
    pool: Pool, counting: Counting, spec: BoxSpec, repository: Repository
) -> None:
    await _prepare(pool, spec, repository.base)
    async with await pool.start(spec) as first:
        await first.checkout(repository.base)
        await first.run("echo evil > kept.txt; echo evil > ~/.bashrc; touch /tmp/evil", timeout=30)
        await _prepare(pool, spec, repository.base)
        async with await pool.start(spec) as second:
            assert second is not first
            seen = "cat kept.txt; ls -A ~ /tmp"
            assert "evil" not in (await second.run(seen, timeout=30)).output
    async with await pool.start(spec) as third:
        assert third not in counting.started[:2]


async def test_checkout_after_an_agent_ran_does_not_believe_the_record_of_the_files(
    worktree: RemoteBox, repository: Repository
) -> None:
    newer = repository.commit("other.txt", "other\n")
    await worktree.run("echo evil > kept.txt", timeout=30)
    await worktree.checkout(newer)
    assert (await worktree.run("cat kept.txt other.txt", timeout=30)).output == "kept\nother\n"


async def test_box_that_died_while_it_waited_is_replaced(
    pool: Pool, counting: Counting, spec: BoxSpec, repository: Repository
) -> None:
    await _prepare(pool, spec, repository.base)
    await counting.started[0].close()
    async with await pool.start(spec) as box:
        assert box is not counting.started[0]
        await box.checkout(repository.base)


@ONE
async def test_box_whose_mirror_was_made_anew_is_replaced(
    pool: Pool, counting: Counting, spec: BoxSpec, repository: Repository
) -> None:
    await _prepare(pool, spec, repository.base)
    # Kept meanwhile, lest the new folder gets the old one's number.
    repository.bare.rename(repository.bare.with_name("old.git"))
    shutil.copytree(repository.bare.with_name("old.git"), repository.bare)
    async with await pool.start(spec) as box:
        assert box is not counting.started[0]
        await box.checkout(repository.base)


@ONE
async def test_no_more_boxes_wait_than_the_pool_may_hold(
    pool: Pool, counting: Counting, spec: BoxSpec, repository: Repository, tmp_path: Path
) -> None:
    other = Repository.create(tmp_path / "other")
    for _ in range(3):
        await _prepare(pool, spec, repository.base)
    assert len(counting.started) == 1
    await _prepare(pool, replace(spec, mirror=other.bare), other.base)
    first, second = counting.started
    with pytest.raises(BoxLost):
        await first.run("true", timeout=30)
    async with await pool.start(replace(spec, mirror=other.bare)) as box:
        assert box is second


@ONE
async def test_box_that_waited_too_long_is_ended_and_leaves_a_job_its_whole_time(
    counting: Counting, spec: BoxSpec, repository: Repository
) -> None:
    pool = Pool(counting, size=1, seconds=0.1)
    await _prepare(pool, spec, repository.base)
    while pool._waiting:
        await asyncio.sleep(0.01)
    await pool.settled()
    async with await pool.start(spec) as box:
        assert box is not counting.started[0]
    assert counting.specs[0].limits.wall_seconds > spec.limits.wall_seconds
    await pool.aclose()


@ONE
async def test_closing_the_pool_leaves_nothing(
    counting: Counting, spec: BoxSpec, repository: Repository
) -> None:
    pool = Pool(counting, size=3)
    await _prepare(pool, spec, repository.base)
    pool.prepare(spec, repository.base)
    await pool.aclose()
    pool.prepare(spec, repository.base)
    await pool.settled()
    for box in counting.started:
        with pytest.raises(BoxLost):
            await box.run("true", timeout=30)


@ONE
async def test_base_that_is_missing_is_logged_and_harms_nobody(
    pool: Pool, spec: BoxSpec, caplog: pytest.LogCaptureFixture
) -> None:
    await _prepare(pool, spec, "0" * 40)
    assert "no box could be made ahead" in caplog.text
    async with await pool.start(spec):
        pass


def _waiting(name: str) -> Waiting:
    spec = BoxSpec("waiting", mirror=Path(name))
    return Waiting(cast("Sandbox", None), spec, "", (0, 0), cast("asyncio.TimerHandle", None))


def test_repository_with_the_most_boxes_loses_its_oldest_first() -> None:
    a, b, c, d = _waiting("a"), _waiting("b"), _waiting("b"), _waiting("c")
    assert surplus([a, b, c], 3) is None
    assert surplus([a, b, c, d], 3) is b
    assert surplus([a, b, d], 2) is a
    assert surplus([a], 0) is a
