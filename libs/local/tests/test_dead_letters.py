"""`just dlq`, as an operator types it, on letters that the delivery rules wrote."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.claims import Claims, Outcome
from patchwright_common.errors import Permanent
from patchwright_common.flow import (
    BODY_REFERENCE,
    PUBLISHER_JOB_REQUESTED,
    PW_DELIVERIES,
    RUNNER_JOB_READIED,
    TRIAGE_DELIVERY_RECEIVED,
    VAULT_DELIVERY_RECEIVED,
    VAULT_JOB_FINISHED,
)
from patchwright_common.requests import OPERATOR
from patchwright_ingest.attempts import Attempts
from patchwright_local.dead_letters import DeadLetters, Way, read, way

from .letters import BODY, JOB, consuming, count, deliver, held, letter, request, settled
from .operating import Said, Terminal

DLQ = "from patchwright_local.dlq import app; app()"
"""Without all the other commands of `patchwright`, which take seconds to import."""


@pytest.fixture
def terminal(nats: NatsServer, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, nats.environment(OPERATOR))


async def dlq(terminal: Terminal, *words: str, stdin: str = "") -> Said:
    return await terminal.run(sys.executable, "-c", DLQ, *words, stdin=stdin)


async def tried(bus: Bus, attempts: list[list[str]]) -> None:
    """Triage's record of the deliveries behind each attempt."""
    claims = await Claims.open(bus.js)
    record = Attempts(deliveries=tuple(tuple(one) for one in attempts))
    await claims.change("trigger.7-1-issue", Attempts, lambda _: record)


async def ended(bus: Bus, kind: str, url: str = "https://x/1") -> None:
    claims = await Claims.open(bus.js)
    outcome = Outcome.model_validate(
        {"kind": kind, "sequence": 1, "reported_at": datetime.now(UTC), "url": url}
    )
    await claims.decide(JOB, outcome)


async def failed_job(bus: Bus) -> int:
    """A job that the runner gave up; its dead letter's number."""
    await deliver(bus)
    await request(bus)
    async with consuming(bus, RUNNER_JOB_READIED):
        number = await letter(bus, RUNNER_JOB_READIED)
    await tried(bus, [["d-1"]])
    await ended(bus, "failure")
    return number


# --- looking ---------------------------------------------------------------------------


async def test_no_dead_letters_is_said(terminal: Terminal) -> None:
    assert (await dlq(terminal, "list")).out == "No dead letters.\n"


async def test_list_has_a_line_for_each_and_steers_no_terminal(
    terminal: Terminal, bus: Bus
) -> None:
    await deliver(bus)
    await request(bus)
    async with consuming(bus, TRIAGE_DELIVERY_RECEIVED):
        await letter(bus, TRIAGE_DELIVERY_RECEIVED)
    async with consuming(bus, RUNNER_JOB_READIED):
        await letter(bus, RUNNER_JOB_READIED)
    said = await dlq(terminal, "list")
    title, first, second = said.out.splitlines()
    assert title.split() == ["seq", "when", "consumer", "job", "tries", "reason"]
    assert first.split()[0] == "1"
    assert first.split()[3:6] == ["triage-delivery-received", "-", "1"]
    assert second.split()[3:6] == ["runner-job-readied", JOB, "1"]
    assert r"The disk is \x1b[31mfull." in first
    assert "\x1b" not in said.all


async def test_show_has_reason_trace_headers_and_body(terminal: Terminal, bus: Bus) -> None:
    await deliver(bus)
    async with consuming(bus, TRIAGE_DELIVERY_RECEIVED):
        number = await letter(bus, TRIAGE_DELIVERY_RECEIVED)
    found = read(await bus.js.get_msg("PW_DLQ", seq=number))
    said = (await dlq(terminal, "show", str(number))).out
    for words in ("x-github-delivery: d-1", '"action": "labeled"', "sent again as it was"):
        assert words in said
    assert f"trace     {found.trace_id}\n" in said
    linked = Terminal(
        terminal.folder,
        terminal.environment | {"PATCHWRIGHT_TRACE_URL": "https://traces/{trace_id}"},
    )
    assert f"https://traces/{found.trace_id}\n" in (await dlq(linked, "show", str(number))).out


@pytest.mark.parametrize("command", [("show", "9"), ("redrive", "9"), ("drop", "9", "--yes")])
async def test_number_that_is_none_is_one_line(
    terminal: Terminal, command: tuple[str, ...]
) -> None:
    said = await dlq(terminal, *command)
    assert (said.code, said.err) == (1, "PW_DLQ holds no message 9.\n")


async def test_nats_that_is_away_is_one_line(nats: NatsServer, terminal: Terminal) -> None:
    await nats.stop()
    said = await dlq(terminal, "list")
    assert said.code == 1
    assert "just up" in said.err
    assert len(said.err.splitlines()) == 1


# --- redriving -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consumer", "event"),
    [(TRIAGE_DELIVERY_RECEIVED, "issues"), (VAULT_DELIVERY_RECEIVED, "installation")],
)
async def test_delivery_is_sent_again_as_it_was(
    terminal: Terminal, bus: Bus, consumer: object, event: str
) -> None:
    assert consumer in (TRIAGE_DELIVERY_RECEIVED, VAULT_DELIVERY_RECEIVED)
    await deliver(bus, event=event)
    async with consuming(bus, consumer) as handler:
        number = await letter(bus, consumer)
        handler.broken = False
        said = await dlq(terminal, "redrive", str(number))
        assert said.code == 0, said.err
        await settled(bus, consumer)
    [again] = handler.handled
    assert (again.body, again.headers["x-github-delivery"]) == (BODY, "d-1")
    assert again.headers["x-github-event"] == event
    assert "patchwright-replay" not in again.headers
    assert not await held(bus, number)


async def test_large_body_is_sent_again_by_its_reference(terminal: Terminal, bus: Bus) -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    await bus.put(PW_DELIVERIES, BODY)
    await deliver(bus, body=b"", **{BODY_REFERENCE: digest})
    async with consuming(bus, TRIAGE_DELIVERY_RECEIVED) as handler:
        number = await letter(bus, TRIAGE_DELIVERY_RECEIVED)
        await bus.js.purge_stream("PW_GITHUB")
        handler.broken = False
        assert (await dlq(terminal, "redrive", str(number))).code == 0
        await settled(bus, TRIAGE_DELIVERY_RECEIVED)
    assert [h.headers[BODY_REFERENCE.lower()] for h in handler.handled] == [digest]


async def test_body_without_room_in_the_letter_comes_from_its_stream(
    terminal: Terminal, bus: Bus
) -> None:
    large = b"x" * (bus.client.max_payload - 700)
    await deliver(bus, body=large)
    async with consuming(bus, TRIAGE_DELIVERY_RECEIVED) as handler:
        number = await letter(bus, TRIAGE_DELIVERY_RECEIVED)
        assert read(await bus.js.get_msg("PW_DLQ", seq=number)).body == b""
        handler.broken = False
        assert (await dlq(terminal, "redrive", str(number))).code == 0
        await settled(bus, TRIAGE_DELIVERY_RECEIVED)
        assert [h.body for h in handler.handled] == [large]
        await deliver(bus, "d-2", body=large)
        handler.broken = True
        await deliver(bus, "d-3", body=large)
        number = await letter(bus, TRIAGE_DELIVERY_RECEIVED)
    await bus.js.purge_stream("PW_GITHUB")
    said = await dlq(terminal, "redrive", str(number))
    assert said.code == 1
    assert "too large" in said.err
    assert "Nothing was sent and nothing deleted." in said.err
    assert await held(bus, number)


async def test_courtesy_is_sent_again_as_it_was(terminal: Terminal, bus: Bus) -> None:
    await request(bus)
    async with consuming(bus, PUBLISHER_JOB_REQUESTED) as handler:
        number = await letter(bus, PUBLISHER_JOB_REQUESTED)
        handler.broken = False
        assert (await dlq(terminal, "redrive", str(number))).code == 0
        await settled(bus, PUBLISHER_JOB_REQUESTED)
    [again] = handler.handled
    assert again.subject == f"pw.evt.job.requested.{JOB}"
    assert json.loads(again.body)["job_id"] == JOB


async def test_failed_job_is_asked_for_again_as_a_new_attempt(terminal: Terminal, bus: Bus) -> None:
    number = await failed_job(bus)
    await deliver(bus, "d-2")
    said = await dlq(terminal, "redrive", str(number))
    assert said.code == 0, said.err
    assert await count(bus, "PW_GITHUB") == 3
    again = await bus.js.get_msg("PW_GITHUB", seq=3)
    assert again.headers is not None
    assert (again.subject, again.data) == ("pw.github.issues.labeled.7", BODY)
    assert again.headers["x-github-delivery"] == "d-1"
    assert again.headers["patchwright-replay"].startswith(f"redrive-{number}-")
    assert "traceparent" not in again.headers
    assert not await held(bus, number)


async def test_attempt_that_was_itself_a_replay_is_found_by_that(
    terminal: Terminal, bus: Bus
) -> None:
    await deliver(bus, "d-1")
    await deliver(bus, "d-1", patchwright_replay="again-1")  # refused as a repetition
    await bus.js.publish(
        "pw.github.issues.labeled.7", b"{}",
        headers={"x-github-delivery": "d-0", "Patchwright-Replay": "again-1"},
    )  # fmt: skip
    await request(bus, "7-1-issue-2", "again-1")
    async with consuming(bus, RUNNER_JOB_READIED):
        number = await letter(bus, RUNNER_JOB_READIED)
    await tried(bus, [["d-1"], ["again-1"]])
    said = await dlq(terminal, "redrive", str(number))
    assert said.code == 0, said.err
    again = await bus.js.get_msg("PW_GITHUB", seq=3)
    assert again.data == b"{}"
    assert again.headers is not None
    replays = [v for k, v in again.headers.items() if k.lower() == "patchwright-replay"]
    assert replays == [again.headers["patchwright-replay"]]
    assert replays[0].startswith("redrive-")


@pytest.mark.parametrize("way_name", ["AGAIN", "ANEW"])
async def test_redrive_that_is_killed_before_it_deletes_can_be_repeated(
    terminal: Terminal, nats: NatsServer, bus: Bus, way_name: str
) -> None:
    if way_name == "ANEW":
        number = await failed_job(bus)
    else:
        await deliver(bus)
        async with consuming(bus, TRIAGE_DELIVERY_RECEIVED):
            number = await letter(bus, TRIAGE_DELIVERY_RECEIVED)
    async with nats.known_as(OPERATOR) as operator:
        letters = DeadLetters(operator.client)
        found = await letters.get(number)
        assert way(found) is Way[way_name]
        await (letters._anew(found) if way_name == "ANEW" else letters._again(found))
    assert await held(bus, number)
    stored = await count(bus, "PW_GITHUB")
    said = await dlq(terminal, "redrive", str(number))
    assert said.code == 0, said.err
    assert await count(bus, "PW_GITHUB") == stored == 2
    assert not await held(bus, number)


async def test_redrive_after_triage_took_the_first_one_sends_nothing(
    terminal: Terminal, nats: NatsServer, bus: Bus
) -> None:
    """Also when the server has forgotten the message id: triage remembers."""
    number = await failed_job(bus)
    async with nats.known_as(OPERATOR) as operator:
        name = (await DeadLetters(operator.client).get(number)).name
    await tried(bus, [["d-1"], [name]])
    said = await dlq(terminal, "redrive", str(number))
    assert "asked for again already, as job 7-1-issue-2" in said.out
    assert await count(bus, "PW_GITHUB") == 1
    assert not await held(bus, number)


async def test_job_that_was_asked_for_again_since_is_left_alone(
    terminal: Terminal, bus: Bus
) -> None:
    number = await failed_job(bus)
    await tried(bus, [["d-1"], ["d-9"]])
    said = await dlq(terminal, "redrive", str(number))
    assert said.code == 1
    assert "as job 7-1-issue-2" in said.err
    assert await count(bus, "PW_GITHUB") == 1
    assert await held(bus, number)


async def test_job_with_another_result_is_left_alone(terminal: Terminal, bus: Bus) -> None:
    await deliver(bus)
    await request(bus)
    async with consuming(bus, RUNNER_JOB_READIED):
        number = await letter(bus, RUNNER_JOB_READIED)
    await ended(bus, "pull_request", "https://x/pull/2")
    said = await dlq(terminal, "redrive", str(number))
    assert said.code == 1
    assert "https://x/pull/2" in said.err
    assert await held(bus, number)


async def test_job_whose_delivery_is_gone_says_what_to_do(terminal: Terminal, bus: Bus) -> None:
    number = await failed_job(bus)
    await bus.js.purge_stream("PW_GITHUB")
    said = await dlq(terminal, "redrive", str(number))
    assert said.code == 1
    assert "set its label again" in said.err
    assert await held(bus, number)


async def test_letter_of_a_consumer_that_is_no_more_is_left_alone(
    terminal: Terminal, bus: Bus
) -> None:
    await bus.js.publish("pw.dlq.runner.old.thing.none", b"", headers={"Patchwright-Subject": "x"})
    said = await dlq(terminal, "redrive", "1")
    assert said.code == 1
    assert "runner-old-thing" in said.err
    with pytest.raises(Permanent):
        way(read(await bus.js.get_msg("PW_DLQ", seq=1)))


def test_every_consumer_has_its_way() -> None:
    """House-keeping is sent again even where it names a job: the job has its result."""
    assert VAULT_JOB_FINISHED.policy.tells_user is False
    assert PUBLISHER_JOB_REQUESTED.policy.tells_user is False
    assert RUNNER_JOB_READIED.policy.tells_user is True


# --- forgetting ------------------------------------------------------------------------


async def test_drop_asks_and_without_a_yes_nothing_goes(terminal: Terminal, bus: Bus) -> None:
    number = await failed_job(bus)
    said = await dlq(terminal, "drop", str(number), stdin="n\n")
    assert said.code == 1
    assert f"Forget {number}: runner-job-readied {JOB}?" in said.out
    assert await held(bus, number)
    said = await dlq(terminal, "drop", str(number), stdin="y\n")
    assert said.code == 0
    assert not await held(bus, number)


async def test_drop_with_yes_does_not_ask(terminal: Terminal, bus: Bus) -> None:
    number = await failed_job(bus)
    said = await dlq(terminal, "drop", "--yes", str(number))
    assert said.out == f"{number}: forgotten\n"
    assert not await held(bus, number)
