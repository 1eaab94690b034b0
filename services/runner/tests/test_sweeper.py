"""A job that nobody drives any more is driven again, and no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from patchwright_common.bus import Bus
from patchwright_common.claims import Claim, Claims, Outcome
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
from patchwright_runner.sweeper import Sweeper

JOB = "1-2-issue-1"


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


async def test_lost_job_is_made_ready_again_and_once_only(bus: Bus, sweeper: Sweeper) -> None:
    assert await sweeper.sweep() == [JOB]
    assert await sweeper.sweep() == []
    assert await _times_readied(bus) == 2


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
