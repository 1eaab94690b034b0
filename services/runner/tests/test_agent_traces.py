"""The spans that tell an agent's story."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from patchwright_common.errors import Permanent
from patchwright_common.telemetry import JOB_ID, job
from standin_model.scripting import bash, issue_with_script

from .agent_at_work import stage


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def test_run_holds_its_turns_and_tool_calls(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    script = issue_with_script({"tools": [bash("ls"), bash("false")]}, {"text": "Done."})
    async with stage(tmp_path) as acting:
        with job("job-1"):
            result = await acting.work(script)

    (run,) = named(spans, "run agent")
    turns, calls = named(spans, "model turn"), named(spans, "call tool")
    assert [len(turns), len(calls)] == [2, 2]
    assert {s.parent.span_id for s in turns + calls if s.parent} == {run.context.span_id}
    assert {s.attributes[JOB_ID] for s in [run, *turns, *calls] if s.attributes} == {"job-1"}
    assert run.attributes is not None
    assert run.attributes["patchwright.agent.turns"] == 2
    assert run.attributes["patchwright.cost.dollars"] == result.usage.dollars
    assert turns[0].attributes is not None
    assert turns[0].attributes["gen_ai.request.model"] == "claude-opus-5-5"
    assert turns[0].attributes["gen_ai.response.finish_reasons"] == ("tool_use",)
    assert calls[0].attributes is not None
    assert calls[0].attributes["gen_ai.tool.name"] == "bash"
    assert [call.status.status_code for call in calls] == [StatusCode.UNSET, StatusCode.ERROR]
    assert calls[1].status.description == "exit code 1"


async def test_spans_hold_neither_output_nor_key(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    long = "x" * 1000
    script = issue_with_script({"tools": [bash(f"echo $((6*7))-{long}")]}, {"text": "Done."})
    async with stage(tmp_path) as acting:
        await acting.work(script)
        told = "".join(span.to_json() for span in spans.get_finished_spans())

    assert "42-" not in told
    assert long not in told
    assert acting.key not in told
    assert "echo $((6*7))-xxx" in told


async def test_failed_run_is_marked_as_failed(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    async with stage(tmp_path) as acting:
        with pytest.raises(Permanent):
            await acting.work("scenario: refusal")

    (run,) = named(spans, "run agent")
    assert run.status.status_code is StatusCode.ERROR


async def test_trace_headers_do_not_go_to_the_model(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    async with stage(tmp_path) as acting:
        await acting.work(issue_with_script({"text": "Hi."}))
        (request,) = await acting.requests()

    assert "traceparent" not in request["headers"]
