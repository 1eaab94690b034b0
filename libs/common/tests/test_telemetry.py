"""One trace from publish to handler, the job's id on all of it, and logs that are lines."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from harness.nats import NatsServer
from patchwright_common import telemetry
from patchwright_common.bus import Bus
from patchwright_common.errors import Permanent, Retry
from patchwright_common.events import JobReadied
from patchwright_common.flow import JOB_READIED
from patchwright_common.messaging import Delivery

from .handling import DEAD, JOB, READIED, Script, by_pulling, messages, ready, settled

PUBLISH, PROCESS = "publish job.readied", "process runner-job-readied"


def named(spans: InMemorySpanExporter, name: str) -> Sequence[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def test_consumers_span_is_a_child_of_the_publish_that_caused_it(
    nats: NatsServer, bus: Bus, spans: InMemorySpanExporter
) -> None:
    async with by_pulling(bus, READIED, Script(None)):
        with telemetry.span("earlier"):
            await bus.emit(JOB_READIED, JobReadied(job_id="7-1-i-9"), step="")
            await bus.emit(JOB_READIED, JobReadied(job_id=JOB), step="")
        await settled(bus, READIED)
        await asyncio.sleep(0.1)
    [earlier], sent = named(spans, "earlier"), named(spans, PUBLISH)
    processed = {str((s.attributes or {})[telemetry.JOB_ID]): s for s in named(spans, PROCESS)}
    assert earlier.context is not None
    assert set(processed) == {"7-1-i-9", JOB}
    for published, job_id in zip(sent, ("7-1-i-9", JOB), strict=True):
        child = processed[job_id]
        assert child.parent is not None
        assert published.context is not None
        assert published.parent is not None
        assert published.parent.span_id == earlier.context.span_id
        assert child.parent.span_id == published.context.span_id
        assert child.context is not None
        assert child.context.trace_id == earlier.context.trace_id
        assert (published.kind, child.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)


async def test_spans_of_a_handler_carry_the_job(
    nats: NatsServer, bus: Bus, spans: InMemorySpanExporter
) -> None:
    async def work(delivery: Delivery) -> None:
        with telemetry.span("run agent"):
            await asyncio.sleep(0)

    async with by_pulling(bus, READIED, Script(work)):
        await ready(bus)
        await settled(bus, READIED)
    [agent], [process] = named(spans, "run agent"), named(spans, PROCESS)
    assert agent.attributes is not None
    assert agent.attributes[telemetry.JOB_ID] == JOB
    assert process.attributes is not None
    assert process.attributes[telemetry.DELIVERED] == 1
    assert process.attributes["messaging.destination.name"] == f"pw.evt.job.readied.{JOB}"
    assert process.status.status_code == StatusCode.UNSET


def test_span_that_is_told_afterwards_has_the_length_that_it_had(
    spans: InMemorySpanExporter,
) -> None:
    with telemetry.job(JOB), telemetry.span("run agent"):
        telemetry.told("call tool", 1.5, failed=True, attributes={"a": 1})
    [agent], [call] = named(spans, "run agent"), named(spans, "call tool")
    assert (call.end_time or 0) - (call.start_time or 0) == 1_500_000_000
    assert call.status.status_code == StatusCode.ERROR
    assert dict(call.attributes or {}) == {"a": 1, telemetry.JOB_ID: JOB}
    assert call.parent is not None
    assert agent.context is not None
    assert call.parent.span_id == agent.context.span_id


async def test_each_redelivery_hangs_off_the_same_publish(
    nats: NatsServer, bus: Bus, spans: InMemorySpanExporter
) -> None:
    async with by_pulling(bus, READIED, Script(Retry("away", after=0.01), None)):
        await ready(bus)
        await settled(bus, READIED)
    first, second = named(spans, PROCESS)
    assert first.parent is not None
    assert second.parent is not None
    assert first.parent.span_id == second.parent.span_id


async def test_giving_up_marks_the_span_and_stays_in_the_trace(
    nats: NatsServer, bus: Bus, spans: InMemorySpanExporter
) -> None:
    async with by_pulling(bus, READIED, Script(Permanent("No commit."))):
        await ready(bus)
        await settled(bus, READIED)
    [process], [told] = named(spans, PROCESS), named(spans, "publish job.failed")
    assert process.context is not None
    assert (process.status.status_code, process.status.description) == (
        StatusCode.ERROR,
        "No commit.",
    )
    assert told.parent is not None
    assert told.parent.span_id == process.context.span_id
    [letter] = await messages(bus, DEAD)
    assert letter.headers is not None
    assert letter.headers["Patchwright-Trace"] == f"{process.context.trace_id:032x}"
    assert f"{process.context.trace_id:032x}" in letter.headers["traceparent"]


async def test_message_without_a_trace_begins_one(
    nats: NatsServer, bus: Bus, spans: InMemorySpanExporter
) -> None:
    async with by_pulling(bus, READIED, Script(None)):
        await bus.js.publish(f"pw.evt.job.readied.{JOB}", b"{}", headers={"traceparent": "junk"})
        await settled(bus, READIED)
    [process] = named(spans, PROCESS)
    assert process.parent is None


def test_context_survives_headers_in_any_case(spans: InMemorySpanExporter) -> None:
    with telemetry.span("one"):
        headers = {name.title(): value for name, value in telemetry.inject().items()}
    with telemetry.span("two", parent=telemetry.extract(headers)):
        pass
    [one], [two] = named(spans, "one"), named(spans, "two")
    assert one.context is not None
    assert two.parent is not None
    assert two.parent.span_id == one.context.span_id
    assert telemetry.trace_id() == ""


def test_job_of_an_inner_block_ends_with_it(spans: InMemorySpanExporter) -> None:
    with telemetry.span("outer"), telemetry.job(JOB):
        with telemetry.span("inner"), telemetry.job("8-1-i-1"):
            pass
        with telemetry.span("after"):
            pass
    jobs = {s.name: (s.attributes or {})[telemetry.JOB_ID] for s in spans.get_finished_spans()}
    assert jobs == {"inner": "8-1-i-1", "after": JOB, "outer": JOB}


# --- in a process of its own, because the set-up is one for a process's whole life ----------

SAYING = r"""
import json, logging, sys
from patchwright_common import telemetry

provider = telemetry.set_up("runner", export=sys.argv[1] == "export")
log = logging.getLogger("x")
log.info("before")
with telemetry.span("work"), telemetry.job("7-1-i-1"):
    log.info("two\nlines \u2028 \x1b[31m \ud800 é")
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        log.exception("it %s", "failed")
    print(json.dumps({"trace": telemetry.trace_id()}))
logging.getLogger("httpx").info("noise")
logging.getLogger("x").debug("noise")
provider.shutdown()
"""


async def say(mode: str, **environment: str) -> tuple[list[str], str]:
    """The log lines of a process, and the trace id that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SAYING, mode,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return err.decode().split("\n")[:-1], json.loads(out)["trace"]


@pytest.mark.parametrize("environment", [{}, {"LC_ALL": "C"}], ids=["any", "ASCII terminal"])
async def test_every_log_line_is_one_json_object(environment: dict[str, str]) -> None:
    lines, trace_id = await say("quiet", **environment)
    before, two, failed = (json.loads(line) for line in lines)
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert before["text"] == "before"
    assert "job" not in before
    assert "trace" not in before
    assert two["text"] == "two\nlines \u2028 \x1b[31m \ud800 é"
    assert (two["job"], two["trace"], two["service"]) == (JOB, trace_id, "runner")
    assert (failed["level"], failed["text"]) == ("error", "it failed")
    assert failed["error"].endswith("ValueError: broken\nin two")
    assert len(two["time"]) == len("2026-01-01T00:00:00.000Z")


async def test_trace_has_an_id_even_when_nothing_is_exported() -> None:
    _, trace_id = await say("quiet")
    assert len(trace_id) == 32
    assert int(trace_id, 16) > 0


async def test_absent_collector_neither_breaks_nor_delays_the_end() -> None:
    began = asyncio.get_running_loop().time()
    lines, _ = await say("export", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert asyncio.get_running_loop().time() - began < 15
    assert all(json.loads(line) for line in lines)


@given(st.text(), st.text(alphabet='\r\n\x85\u2028"{}\\%'))
def test_no_text_can_begin_a_log_line(text: str, breaks: str) -> None:
    formatter = telemetry._Lines("x")
    record = logging.LogRecord("x", 20, "", 0, "%s", (text + breaks,), None)
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert json.loads(line)["text"] == text + breaks
