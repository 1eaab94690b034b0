"""A job that is taken over goes on after its last turn, with the tree as it was then."""

from __future__ import annotations

import zlib

import pytest

from patchwright_common.claims import Claims, Progress
from patchwright_common.errors import Overtaken, Permanent, Retry
from patchwright_common.flow import PW_CHECKPOINTS
from patchwright_runner import checkpoints
from patchwright_runner.agent.protocol import Checkpoint, Observer, Turn, Usage
from patchwright_runner.checkpoints import Moment, read, written
from patchwright_runner.ownership import CRASH_LIMIT, Ownership
from patchwright_runner.sandbox.protocol import Backend, Entry, Limits, Sandbox

from .runner_at_work import JOB, Bench

TALK = [{"role": "user", "content": "Do it."}, {"role": "assistant", "content": "Yes."}]
TREE = (
    Entry("gone", None),
    Entry("bin/tool", "100755", b"#!/bin/sh\n"),
    Entry("empty", "100644"),
    Entry("link", "120000", b"bin/tool"),
    Entry("naïve\u2028name", "100644", bytes(range(256))),
)


def turn(number: int) -> Turn:
    return Turn(number, Usage(10, 1, dollars=0.125), (), 0.1, TALK * number)


class Died(BaseException):
    """As when the process ends: nobody catches it, and no end is recorded."""


async def test_next_attempt_goes_on_after_the_last_turn(bench: Bench, backend: Backend) -> None:
    bench.backend = backend

    async def two_turns(observer: Observer, box: Sandbox) -> None:
        await box.run("echo one > made.txt; rm deleted.txt; chmod +x kept.txt", timeout=60)
        await observer.turn_finished(turn(1))
        await box.run("echo two >> made.txt; mkdir -p a/b; ln -s ../../kept.txt a/b/l", timeout=60)
        await observer.turn_finished(turn(2))
        await box.run("echo lost >> made.txt", timeout=60)
        raise Retry("the model is away")

    shown = []

    async def look(_observer: Observer, box: Sandbox) -> None:
        command = "cat made.txt; ls -l kept.txt | cut -c1-10; readlink a/b/l; git status --short"
        shown.append((await box.run(command, timeout=60)).output)

    await bench.request()
    bench.paid = turn(1).usage + turn(2).usage
    with pytest.raises(Retry):
        await bench.work(two_turns)
    await bench.work(look)

    assert bench.resumed == [None, Checkpoint(2, TALK * 2)]
    assert shown[0].startswith("one\ntwo\n-rwxr-xr-x\n../../kept.txt\n D deleted.txt\n")
    change = await bench.change()
    assert change is not None
    assert {(file.path, file.status) for file in change.files} == {
        ("a/b/l", "A"),
        ("deleted.txt", "D"),
        ("kept.txt", "M"),
        ("made.txt", "A"),
    }
    assert (change.spent.turns, change.spent.dollars) == (3, 0.5)


async def test_another_agent_begins_anew(bench: Bench) -> None:
    async def turn_and_retry(observer: Observer, box: Sandbox) -> None:
        await observer.turn_finished(turn(1))
        raise Retry("the model is away")

    await bench.request()
    with pytest.raises(Retry):
        await bench.work(turn_and_retry)
    bench.kind = "another"
    await bench.work()
    assert bench.resumed == [None, None]


async def test_overtaken_runner_leaves_no_checkpoint(bench: Bench) -> None:
    claim = await bench.claims.take(JOB, "first")
    await bench.claims.take(JOB, "second")
    with pytest.raises(Overtaken):
        await keep(bench, claim.epoch, 1)
    assert await checkpoints.newest(bench.bus, bench.claims, JOB, Limits()) is None


async def keep(bench: Bench, epoch: int, number: int) -> None:
    moment = Moment("scripted", Checkpoint(number, TALK), TREE)
    await checkpoints.keep(bench.bus, bench.claims, JOB, epoch, moment)


async def test_newest_checkpoint_outlives_its_epoch(bench: Bench) -> None:
    first = await bench.claims.take(JOB, "first")
    await keep(bench, first.epoch, 1)
    await keep(bench, first.epoch, 2)
    await bench.claims.take(JOB, "second")
    moment = await checkpoints.newest(bench.bus, bench.claims, JOB, Limits())
    assert moment == Moment("scripted", Checkpoint(2, TALK), TREE)


@pytest.mark.parametrize(
    "stored",
    [b"no zlib", zlib.compress(b"no json"), zlib.compress(b"{}"), zlib.compress(bytes(10**8))],
    ids=["not packed", "not JSON", "no conversation", "a bomb"],
)
async def test_checkpoint_that_is_damaged_costs_the_work_and_not_the_job(
    bench: Bench, stored: bytes
) -> None:
    claim = await bench.claims.take(JOB, "first")
    digest = await bench.bus.put(PW_CHECKPOINTS, stored)
    tree = await bench.bus.put(PW_CHECKPOINTS, zlib.compress(written(TREE)))
    made = Progress(epoch=1, turn=1, agent="scripted", transcript_sha256=digest, tree_sha256=tree)
    await bench.claims.progress(JOB, claim.epoch, made)
    assert await checkpoints.newest(bench.bus, bench.claims, JOB, Limits()) is None
    await bench.request()
    await bench.work()
    assert bench.resumed == [None]


async def test_checkpoint_that_is_gone_costs_the_work_and_not_the_job(bench: Bench) -> None:
    claim = await bench.claims.take(JOB, "first")
    gone = "0" * 64
    made = Progress(epoch=1, turn=1, agent="scripted", transcript_sha256=gone, tree_sha256=gone)
    await bench.claims.progress(JOB, claim.epoch, made)
    assert await checkpoints.newest(bench.bus, bench.claims, JOB, Limits()) is None


def test_tree_that_is_written_is_read_the_same() -> None:
    assert read(written(TREE), Limits()) == TREE
    assert read(written(()), Limits()) == ()
    assert written(TREE) == written(TREE)


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", ".git/config", "a/../../b", ""])
def test_stored_path_is_checked_as_if_a_box_had_reported_it(path: str) -> None:
    with pytest.raises(Permanent):
        read(written((Entry(path, "100644", b"x"),)), Limits())


@pytest.mark.parametrize("data", [b"", b"[]x", b'[["a", "100644", 9]]\nshort', b"[1]\n"])
def test_stored_tree_that_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises((Permanent, ValueError, TypeError)):
        assert read(data, Limits()) is None


async def test_unchanged_tree_is_stored_once(bench: Bench) -> None:
    claim = await bench.claims.take(JOB, "first")
    await keep(bench, claim.epoch, 1)
    before = await bench.bus.js.stream_info(f"OBJ_{PW_CHECKPOINTS.name}")
    await keep(bench, claim.epoch, 2)
    after = await bench.bus.js.stream_info(f"OBJ_{PW_CHECKPOINTS.name}")
    assert before.state.messages == after.state.messages


async def test_turn_of_a_program_that_still_runs_in_the_box_is_told_and_not_kept(
    bench: Bench,
) -> None:
    async def busy(observer: Observer, _box: Sandbox) -> None:
        await observer.turn_finished(Turn(1, Usage(), (), 0.1, TALK, box_is_busy=True))
        raise Retry("later")

    await bench.request()
    with pytest.raises(Retry):
        await bench.work(busy)
    claim = await bench.claims.claim(JOB)
    assert claim is not None
    assert claim.progress is None


async def crashed(claims: Claims) -> int:
    """A runner takes the job and is never heard of again."""
    return (await Ownership.take(claims, JOB, "mortal")).epoch


async def test_crashes_count_from_the_last_turn_that_was_kept(bench: Bench) -> None:
    for number in range(1, 2 * CRASH_LIMIT):
        await keep(bench, await crashed(bench.claims), number)
    for _ in range(CRASH_LIMIT - 1):
        await crashed(bench.claims)
    with pytest.raises(Permanent, match="cut off"):
        await crashed(bench.claims)
