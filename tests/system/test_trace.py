"""One id tells the story: a single trace from the webhook to the pull request."""

from __future__ import annotations

from typing import Any

import pytest_asyncio

from harness.stack import RunningStack
from patchwright_local.demo import BODY, TITLE

Spans = list[dict[str, Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spans(stack: RunningStack) -> Spans:
    number = await stack.ask(TITLE, BODY)
    await stack.settled(number)
    return await stack.trace(number)


def _named(spans: Spans, name: str) -> dict[str, Any]:
    return next(span for span in spans if span["operationName"] == name)


def _line(spans: Spans, span: dict[str, Any]) -> list[str]:
    """`service: name` of a span and all above it, the root first."""
    by_id = {s["spanID"]: s for s in spans}
    line: list[str] = []
    at: dict[str, Any] | None = span
    while at is not None:
        line.insert(0, f"{at['service']}: {at['operationName']}")
        at = by_id.get(at["parent"])
    return line


def test_pull_request_hangs_below_the_webhook_through_every_hop(spans: Spans) -> None:
    assert _line(spans, _named(spans, "open pull request")) == [
        "ingest: receive webhook",
        "ingest: publish github",
        "triage: process triage-delivery-received",
        "triage: publish job.requested",
        "triage: process triage-job-requested",
        "triage: publish job.readied",
        "runner: process runner-job-readied",
        "runner: publish change.produced",
        "publisher: process publisher-change-produced",
        "publisher: show result",
        "publisher: open pull request",
    ]


def test_trace_has_one_root_and_no_orphans(spans: Spans) -> None:
    ids = {span["spanID"] for span in spans}

    roots = [span["operationName"] for span in spans if span["parent"] not in ids]

    assert roots == ["receive webhook"]


def test_agent_turns_and_tool_calls_hang_below_the_runner(spans: Spans) -> None:
    agent = _named(spans, "run agent")

    below = [s["operationName"] for s in spans if s["parent"] == agent["spanID"]]

    assert _line(spans, agent)[-2] == "runner: process runner-job-readied"
    assert below.count("model turn") == 6
    assert below.count("call tool") >= 6


def test_vault_answers_below_whoever_asked(spans: Spans) -> None:
    for span in spans:
        if span["operationName"] == "answer token":
            assert span["service"] == "vault"
            asker = _line(spans, span)[-2].partition(":")[0]
            assert asker in ("triage", "runner", "publisher")


def test_job_id_is_on_every_span_that_knows_the_job(spans: Spans) -> None:
    for span in spans:
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        if span["service"] in ("runner", "publisher"):
            assert tags["patchwright.job.id"].endswith("-issue-1"), span["operationName"]


def test_time_in_the_queue_is_the_gap_between_publish_and_process(spans: Spans) -> None:
    by_id = {span["spanID"]: span for span in spans}
    for span in spans:
        if span["operationName"].startswith("process "):
            sent = by_id[span["parent"]]
            assert sent["operationName"].startswith("publish ")
            assert span["startTime"] >= sent["startTime"]
