"""A job that nobody drives any more is driven again, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from patchwright_common.bus import TIMEOUT, Bus
from patchwright_common.claims import Cancel, Claim, Claims, Outcome
from patchwright_common.events import (
    AnswerProduced,
    ChangeProduced,
    Event,
    JobFailed,
    JobReadied,
    Spent,
)
from patchwright_common.flow import (
    ANSWER_PRODUCED,
    CHANGE_PRODUCED,
    JOB_FAILED,
    JOB_READIED,
    RUNNER_JOB_READIED,
    Route,
)
from patchwright_runner.ownership import HEARTBEAT
from patchwright_runner.sweeper import PAUSE, PROMISE, SILENCE, Sweeper

JOB = "1-2-issue-1"
LONG = "1-1-issue-1"


@pytest.fixture
async def claims(bus: Bus) -> Claims:
    return await Claims.open(bus.js)


@pytest.fixture
async def sweeper(bus: Bus, claims: Claims) -> Sweeper:
    """Its job was claimed and its message acknowledged; then the runner died."""
    await _readied(bus, JOB, acknowledge=True)
    await claims.take(JOB, "dies")
    return Sweeper(bus, claims, silence=0.0)


async def _readied(bus: Bus, job_id: str, *, acknowledge: bool) -> None:
    await bus.emit(JOB_READIED, JobReadied(job_id=job_id), step="", once=True)
    subscription = await bus.js.pull_subscribe_bind(
        durable=RUNNER_JOB_READIED.name, stream=JOB_READIED.stream.name
    )
    [message] = await subscription.fetch(1, timeout=5)
    if acknowledge:
        await message.ack_sync()


async def _times_readied(bus: Bus) -> int:
    subject = JOB_READIED.subject(JOB)
    info = await bus.js.stream_info(JOB_READIED.stream.name, subjects_filter=subject)
    return int((info.state.subjects or {})[subject])


def _change(epoch: int) -> ChangeProduced:
    return ChangeProduced(
        job_id=JOB, epoch=epoch, bundle_sha256="0" * 64, bundle_bytes=1, commit="1" * 40,
        base="2" * 40, files=(), summary="", model="", spent=Spent(),
    )  # fmt: skip


async def test_job_that_a_person_stopped_is_not_lost(claims: Claims, sweeper: Sweeper) -> None:
    await claims.cancel(JOB, Cancel(by="ada", cause="stopped", at=datetime.now(UTC)))
    assert await sweeper.sweep() == []


async def test_lost_job_is_made_ready_again_and_once_only(bus: Bus, sweeper: Sweeper) -> None:
    assert await sweeper.sweep() == [JOB]
    assert await sweeper.sweep() == []
    assert await _times_readied(bus) == 2


def test_sweeper_keeps_its_promise_by_its_own_figures() -> None:
    """A heartbeat just before the end, a sweep just before the silence is long enough."""
    asks = 2 * TIMEOUT
    assert SILENCE + PAUSE + asks <= PROMISE
    assert RUNNER_JOB_READIED.ack_wait + 3 * HEARTBEAT < SILENCE


async def test_lost_job_is_made_ready_again_in_time(bus: Bus, claims: Claims) -> None:
    await _readied(bus, JOB, acknowledge=True)
    await claims.take(JOB, "dies")
    loop = asyncio.get_running_loop()
    died = loop.time()
    async with Sweeper(bus, claims, silence=0.6).beside(pause=0.3):
        while await _times_readied(bus) < 2:
            assert loop.time() - died < 0.6 + 0.3 + 1.0
            await asyncio.sleep(0.01)
        assert loop.time() - died >= 0.6
        await asyncio.sleep(0.7)
    assert await _times_readied(bus) == 2


async def test_job_behind_a_long_one_is_not_lost_for_as_long(bus: Bus, claims: Claims) -> None:
    """The broker tells only up to where everything is acknowledged."""
    await _readied(bus, LONG, acknowledge=False)
    await _readied(bus, JOB, acknowledge=True)
    await claims.take(JOB, "dies")
    sweeper = Sweeper(bus, claims, silence=0.0)
    assert await sweeper.sweep() == []  # nobody is free, so the broker may still have it
    async with _free_runner(bus):
        assert await sweeper.sweep() == [JOB]


async def test_job_that_rests_behind_a_long_one_is_left_alone(bus: Bus, claims: Claims) -> None:
    await _readied(bus, LONG, acknowledge=False)
    await _readied(bus, JOB, acknowledge=False)
    await claims.take(JOB, "failed for now")
    await claims.beat(JOB, 1, retrying=True)
    async with _free_runner(bus):
        assert await Sweeper(bus, claims, silence=0.0).sweep() == []


@asynccontextmanager
async def _free_runner(bus: Bus) -> AsyncIterator[None]:
    """It waits for a message and gets none."""
    subscription = await bus.js.pull_subscribe_bind(
        durable=RUNNER_JOB_READIED.name, stream=JOB_READIED.stream.name
    )
    waiting = asyncio.create_task(subscription.fetch(1, timeout=30))
    while not (await subscription.consumer_info()).num_waiting:
        await asyncio.sleep(0.01)
    yield
    waiting.cancel()


async def test_clock_that_is_behind_takes_no_job_from_whoever_works_on_it(
    bus: Bus, claims: Claims
) -> None:
    """Heartbeats are told by the runner's clock and read by the sweeper's."""
    await _readied(bus, JOB, acknowledge=False)
    claim = await claims.take(JOB, "works")
    late = claim.model_copy(update={"beaten_at": claim.beaten_at - timedelta(minutes=2)})
    await claims.change(f"claim.{JOB}", Claim, lambda _: late)

    assert await Sweeper(bus, claims).sweep() == []
    assert await _times_readied(bus) == 1


async def test_two_sweepers_make_a_job_ready_once(
    bus: Bus, claims: Claims, sweeper: Sweeper
) -> None:
    await sweeper.sweep()
    await Sweeper(bus, claims, silence=0.0).sweep()

    assert await _times_readied(bus) == 2


async def test_job_whose_change_was_dropped_with_its_epoch_is_lost(
    bus: Bus, claims: Claims, sweeper: Sweeper
) -> None:
    await bus.emit(CHANGE_PRODUCED, _change(1), step="change")
    await claims.take(JOB, "takes over and dies")

    assert await sweeper.sweep() == [JOB]


async def test_job_with_a_heartbeat_is_left_alone(bus: Bus, claims: Claims) -> None:
    await _readied(bus, JOB, acknowledge=True)
    await claims.take(JOB, "alive")

    assert await Sweeper(bus, claims).sweep() == []


async def test_job_that_waits_for_its_next_attempt_is_left_alone(bus: Bus, claims: Claims) -> None:
    await _readied(bus, JOB, acknowledge=False)
    await claims.take(JOB, "failed for now")

    assert await Sweeper(bus, claims, silence=0.0).sweep() == []


async def test_job_with_an_unreadable_record_does_not_keep_the_others_from_being_swept(
    bus: Bus, sweeper: Sweeper
) -> None:
    await (await bus.js.key_value("PW_CLAIMS")).put("claim.1-1-issue-1", b'{"type": "answer"}')

    assert await sweeper.sweep() == [JOB]


async def test_answer_of_the_servers_on_a_jobs_subject_is_no_event(
    bus: Bus, sweeper: Sweeper
) -> None:
    """Every service can let the server write its answers anywhere."""
    for route in (CHANGE_PRODUCED, ANSWER_PRODUCED):
        await bus.js.publish(route.subject(JOB), b'{"type": "io.nats.jetstream.api.v1.error"}')

    assert await sweeper.sweep() == [JOB]


async def test_whatever_goes_wrong_it_sweeps_again(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    async def sweep() -> list[str]:
        calls.append(1)
        raise ValueError("nobody foresaw this")

    monkeypatch.setattr(sweeper, "sweep", sweep)
    async with sweeper.beside(pause=0.01), asyncio.timeout(10):
        while len(calls) < 3:
            await asyncio.sleep(0.01)


async def test_decided_job_is_left_alone(claims: Claims, sweeper: Sweeper) -> None:
    await claims.decide(JOB, Outcome(kind="answer", sequence=1, reported_at=datetime.now(UTC)))

    assert await sweeper.sweep() == []


@pytest.mark.parametrize(
    ("route", "event"),
    [
        (CHANGE_PRODUCED, _change(1)),
        (
            ANSWER_PRODUCED,
            AnswerProduced(job_id=JOB, epoch=1, answer="", model="", spent=Spent()),
        ),
        (JOB_FAILED, JobFailed(job_id=JOB, stage="runner-job-readied", reason="no")),
    ],
)
async def test_job_that_waits_for_the_publisher_is_left_alone(
    bus: Bus, sweeper: Sweeper, route: Route, event: Event
) -> None:
    await bus.emit(route, event, step="final")

    assert await sweeper.sweep() == []
