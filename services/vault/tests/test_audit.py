"""Who got what, and who was refused, is an event in the trace of whoever asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.js.errors import NotFoundError
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from patchwright_common import flow, telemetry
from patchwright_common.credentials import Request, TokenRequest
from patchwright_common.wire import Keypair
from patchwright_vault.jobs import STRAGGLER

from .serving import MODEL_KEY, WEBHOOK_SECRET, Serving, request

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def last(vault: Serving, kind: str, job_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The newest event of that kind about the job, and its headers."""
    message = await vault.bus.js.get_last_msg("PW_EVENTS", f"pw.evt.grant.{kind}.{job_id}")
    return json.loads(message.data or b""), dict(message.headers or {})


async def count(vault: Serving, kind: str) -> int:
    subjects = f"pw.evt.grant.{kind}.>"
    info = await vault.bus.js.stream_info("PW_EVENTS", subjects_filter=subjects)
    return sum((info.state.subjects or {}).values())


async def test_grant_says_who_got_what_for_which_job(vault: Serving, ours: TokenRequest) -> None:
    token = await vault.token("publisher", ours)
    event, _ = await last(vault, "given", ours.job_id)
    assert (event["caller"], event["verb"]) == ("publisher", "token")
    assert event["job_id"] == ours.job_id
    assert event["repository_id"] == ours.repository_id
    assert event["permissions"]["contents"] == "write"
    assert hashlib.sha256(token.encode()).hexdigest().startswith(event["fingerprint"])
    assert len(event["fingerprint"]) == 12


async def test_event_belongs_to_the_trace_in_which_was_asked(
    vault: Serving, ours: TokenRequest, spans: InMemorySpanExporter
) -> None:
    with telemetry.span("work on a job"):
        trace_id = telemetry.trace_id()
        await vault.token("runner", ours)
        refused = await vault.ask("runner", "webhook-secret", job_id=ours.job_id)
    assert refused.permanent
    assert spans.get_finished_spans()
    for kind in ("given", "refused"):
        _, headers = await last(vault, kind, ours.job_id)
        assert headers["traceparent"].split("-")[1] == trace_id


async def test_every_hand_out_is_an_event_also_of_what_is_remembered(
    vault: Serving, ours: TokenRequest
) -> None:
    before = await count(vault, "given")
    for _ in range(3):
        await vault.token("runner", ours)
    await vault.ask("ingest", "webhook-secret")
    await vault.ask("runner", "model-key")
    assert await count(vault, "given") == before + 5


async def test_nonce_that_is_used_twice_hides_nothing(vault: Serving, ours: TokenRequest) -> None:
    """The stream drops messages whose id it knows: the id may not be the asker's."""
    before = await count(vault, "given")
    asked = Request(key=Keypair().public.hex(), nonce="n" * 16, job_id=ours.job_id)
    for _ in range(2):
        data = asked.model_dump_json().encode()
        assert await vault.bus.request("pw.rpc.vault.runner.model-key", data)
    assert await count(vault, "given") == before + 2


async def test_refusal_says_who_wanted_what_and_why_not(vault: Serving, ours: TokenRequest) -> None:
    [other] = await vault.install("other")
    wrong = other.model_copy(update={"job_id": ours.job_id})
    assert (await vault.ask("publisher", "token", wrong)).permanent
    event, _ = await last(vault, "refused", ours.job_id)
    assert (event["caller"], event["verb"]) == ("publisher", "token")
    assert event["repository_id"] == other.repository_id
    assert "another repository" in event["reason"]


async def test_failure_that_may_pass_is_no_event(vault: Serving, ours: TokenRequest) -> None:
    given, refused = await count(vault, "given"), await count(vault, "refused")
    path = f"/app/installations/{ours.installation_id}/access_tokens"
    await vault.github.fault("POST", path, status=502)
    assert (await vault.ask("runner", "token", ours)).error
    assert (await count(vault, "given"), await count(vault, "refused")) == (given, refused)


async def test_public_facts_are_given_without_an_event(vault: Serving) -> None:
    before = await count(vault, "given")
    assert (await vault.ask("triage", "app")).value
    assert (await vault.ask("setup", "key")).value
    await vault.ask("ingest", "webhook-secret")
    # The set-up's key is no secret either, but who looks around there is worth an event.
    assert await count(vault, "given") == before + 2


async def test_grant_without_a_job_is_filed_under_none(vault: Serving, ours: TokenRequest) -> None:
    await vault.token("triage", ours.model_copy(update={"job_id": ""}))
    event, _ = await last(vault, "given", "none")
    assert event["caller"] == "triage"


# --- purpose, job, repository ----------------------------------------------------------


@pytest.mark.parametrize("caller", ["runner", "publisher"])
async def test_who_works_on_jobs_must_name_one(
    vault: Serving, ours: TokenRequest, caller: str
) -> None:
    reply = await vault.ask(caller, "token", ours.model_copy(update={"job_id": ""}))
    assert reply.permanent
    assert "for which job" in reply.error
    assert await vault.minted(ours) == 0


@pytest.mark.parametrize("caller", ["triage", "runner", "publisher"])
async def test_job_without_a_record_gets_nothing(
    vault: Serving, ours: TokenRequest, caller: str
) -> None:
    invented = ours.model_copy(update={"job_id": "7-1-issue-1"})
    reply = await vault.ask(caller, "token", invented)
    assert reply.permanent
    assert "no record" in reply.error
    assert await vault.minted(ours) == 0


@pytest.mark.parametrize("caller", ["triage", "runner", "publisher"])
async def test_job_gets_no_token_for_another_repository_or_installation(
    vault: Serving, caller: str
) -> None:
    one, sibling = await vault.install("one", "sibling")
    [stranger] = await vault.install("stranger")
    for other in (sibling, stranger):
        wrong = other.model_copy(update={"job_id": one.job_id})
        reply = await vault.ask(caller, "token", wrong)
        assert reply.permanent
        assert "another repository" in reply.error
        assert await vault.minted(other) == 0
    half = one.model_copy(update={"installation_id": stranger.installation_id})
    assert (await vault.ask(caller, "token", half)).permanent


async def test_request_that_names_two_jobs_is_refused(vault: Serving, ours: TokenRequest) -> None:
    """The audit has the envelope's; the words inside must not be about another one."""
    other = await vault.job(ours)
    assert (await vault.ask("runner", "token", ours, job_id=other.job_id)).permanent
    assert (await vault.ask("runner", "token", ours, job_id="")).permanent
    mark = request(job_id=ours.job_id)
    assert (await vault.ask("publisher", "mark", mark, job_id=other.job_id)).permanent
    assert (await vault.ask("publisher", "mark", mark, job_id=ours.job_id)).value


async def test_comments_are_signed_for_known_jobs_only(vault: Serving) -> None:
    reply = await vault.ask("publisher", "mark", request(job_id="7-9"), job_id="7-9")
    assert reply.permanent
    assert "no record" in reply.error


async def test_model_key_is_given_for_known_jobs_only(vault: Serving, ours: TokenRequest) -> None:
    assert (await vault.ask("runner", "model-key", job_id="7-9")).permanent
    assert (await vault.ask("runner", "model-key", job_id=ours.job_id)).value == MODEL_KEY


async def test_first_record_of_a_job_is_the_one_that_counts(
    vault: Serving, ours: TokenRequest
) -> None:
    """Whoever may write to the stream cannot move a job to another repository afterwards."""
    [other] = await vault.install("other")
    subject = f"pw.evt.job.requested.{ours.job_id}"
    first = json.loads((await vault.bus.js.get_last_msg("PW_EVENTS", subject)).data or b"")
    first["repository"] |= {"id": other.repository_id, "installation_id": other.installation_id}
    await vault.bus.js.publish(subject, json.dumps(first).encode())
    wrong = other.model_copy(update={"job_id": ours.job_id})
    assert (await vault.ask("publisher", "token", wrong)).permanent
    assert await vault.token("publisher", ours)


async def test_job_that_ended_long_ago_gets_no_token(vault: Serving, ours: TokenRequest) -> None:
    """A stolen identity would get every repository that had a job in the last year."""
    await vault.report(ours.job_id, at=datetime.now(UTC) - STRAGGLER - timedelta(seconds=1))
    for caller in ("publisher", "runner", "triage"):
        reply = await vault.ask(caller, "token", ours)
        assert reply.permanent
        assert "has ended" in reply.error
        event, _ = await last(vault, "refused", ours.job_id)
        assert (event["caller"], event["repository_id"]) == (caller, ours.repository_id)
    assert await vault.minted(ours) == 0


async def test_straggler_of_a_job_that_has_just_ended_gets_its_token(
    vault: Serving, ours: TokenRequest
) -> None:
    """What was at the job's result already may still be at it."""
    at_it = timedelta(seconds=flow.PUBLISHER_CHANGE_PRODUCED.time_limit - 10)
    await vault.report(ours.job_id, at=datetime.now(UTC) - at_it)
    assert await vault.token("publisher", ours)


async def test_handlers_of_results_end_before_stragglers_are_refused() -> None:
    longest = max(consumer.time_limit for consumer in flow.consumers("publisher"))
    assert timedelta(seconds=longest) <= STRAGGLER


LOW_ORDER = ("00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f")


@pytest.mark.parametrize("key", LOW_ORDER)
async def test_request_whose_answer_could_not_be_sealed_is_granted_nothing(
    vault: Serving, ours: TokenRequest, key: str
) -> None:
    before = await count(vault, "given")
    asked = Request(key=key, nonce="n" * 16, job_id=ours.job_id).model_dump_json().encode()
    assert await vault.bus.request("pw.rpc.vault.runner.model-key", asked) == b""
    assert await count(vault, "given") == before
    assert "Traceback" not in "\n".join(vault.vault.lines)


# --- the last ones: they take the stream away ------------------------------------------


async def test_no_event_holds_a_value(vault: Serving, ours: TokenRequest) -> None:
    token = await vault.token("runner", ours)
    body = bytearray()
    for sequence in range(1, (await vault.bus.js.stream_info("PW_EVENTS")).state.last_seq + 1):
        try:
            body += (await vault.bus.js.get_msg("PW_EVENTS", seq=sequence)).data or b""
        except NotFoundError:
            continue
    for secret in (token, MODEL_KEY, WEBHOOK_SECRET):
        assert secret.encode() not in body
    assert b"ghs_" not in body


async def test_nothing_is_granted_when_it_cannot_be_recorded(
    vault: Serving, ours: TokenRequest
) -> None:
    assert await vault.token("runner", ours)  # it is at hand
    info = await vault.bus.js.stream_info("PW_EVENTS")
    config = info.config
    full, config.max_msgs = config.max_msgs, info.state.messages
    await vault.bus.js.update_stream(config)
    try:
        started = time.monotonic()
        for caller, verb, body in (
            ("runner", "token", ours),
            ("ingest", "webhook-secret", "{}"),
            ("runner", "model-key", "{}"),
            ("runner", "webhook-secret", "{}"),
        ):
            reply = await vault.ask(caller, verb, body)
            assert reply.error
            assert not reply.permanent  # a refusal that is not recorded is none either
            assert reply.value is None
        assert time.monotonic() - started < 20
    finally:
        config.max_msgs = full
        await vault.bus.js.update_stream(config)
    await asyncio.sleep(0.1)
    assert await vault.token("runner", ours)
