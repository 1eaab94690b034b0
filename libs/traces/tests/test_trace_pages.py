"""The pages for people, over HTTP."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

MakeTracer = Callable[[str], Tracer]

SECOND = 10**9
SCRIPT = "<script>alert(1)</script>"


def address(span: Span) -> str:
    return f"/trace/{trace.format_trace_id(span.get_span_context().trace_id)}"


def anchor(span: Span) -> str:
    return f"span-{trace.format_span_id(span.get_span_context().span_id)}"


def make_span(
    tracer: Tracer,
    name: str,
    *,
    parent: Span | None = None,
    at: float = 0,
    lasts: float = 1,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: dict[str, str] | None = None,
) -> Span:
    start = time.time_ns() + round((at - 100) * SECOND)
    context = trace.set_span_in_context(parent) if parent else None
    span = tracer.start_span(name, context, kind, attributes, start_time=start)
    span.end(start + round(lasts * SECOND))
    return span


def listed(viewer: httpx.Client, query: str = "") -> list[str]:
    page = viewer.get("/", params={"q": query}).raise_for_status().text
    return re.findall(r'<a href="/trace/[0-9a-f]{32}"[^>]*>(.*?)</a>', page)


def test_an_empty_list_says_what_to_do(viewer: httpx.Client) -> None:
    page = viewer.get("/").raise_for_status().text

    assert "No traces yet" in page
    assert "just demo" in page
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={viewer.base_url}" in page.replace("/\n", "\n")


def test_the_list_shows_the_newest_trace_first(viewer: httpx.Client, tracer: MakeTracer) -> None:
    ingest = tracer("ingest")
    make_span(ingest, "older", at=0, attributes={"patchwright.job.id": "1-7-1"})
    newer = make_span(ingest, "newer", at=50)
    make_span(tracer("runner"), "run", parent=newer, at=51)

    page = viewer.get("/").text

    assert listed(viewer) == ["newer", "older"]
    assert "1-7-1" in page
    assert page.count(">ingest<") == 2
    assert page.count(">runner<") == 1


@pytest.mark.parametrize("path", ["list", "trace"])
def test_script_in_a_span_stays_text(viewer: httpx.Client, tracer: MakeTracer, path: str) -> None:
    with tracer(f"svc{SCRIPT}").start_as_current_span(f"name{SCRIPT}") as span:
        span.set_attribute(f"key{SCRIPT}", f'"><img src=x onerror=alert(1)>{SCRIPT}')
        span.set_attribute("patchwright.job.id", f"job'\"{SCRIPT}")
        span.add_event(f"event{SCRIPT}", {"a": SCRIPT})
        span.set_status(Status(StatusCode.ERROR, f"status{SCRIPT}"))

    page = viewer.get("/" if path == "list" else address(span)).text

    assert "name&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<img src=x" not in page


def test_a_search_is_echoed_as_text(viewer: httpx.Client) -> None:
    page = viewer.get("/", params={"q": f'"{SCRIPT}'}).text

    assert "Nothing matches" in page
    assert "<script>" not in page


@pytest.mark.parametrize("path", ["/", "/trace/00", "/nowhere", "/static/traces.js"])
def test_nothing_from_elsewhere_may_run(viewer: httpx.Client, path: str) -> None:
    answer = viewer.get(path)

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_pages_need_nothing_that_the_policy_forbids(
    viewer: httpx.Client, tracer: MakeTracer
) -> None:
    page = viewer.get(address(make_span(tracer("ingest"), "receive webhook"))).text

    assert not re.search(r"\sstyle=|<style|\son\w+=", page)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    for asset in re.findall(r"/static/[^\"]+", page):
        assert viewer.get(asset).status_code == 200


def test_a_waterfall_shows_errors_links_and_events(
    viewer: httpx.Client, tracer: MakeTracer
) -> None:
    runner = tracer("runner")
    earlier = make_span(runner, "first attempt")
    with runner.start_as_current_span("run job", links=[Link(earlier.get_span_context())]) as run:
        run.add_event("turn done", {"tokens": 12})
        with runner.start_as_current_span("execute tool") as tool:
            tool.set_status(Status(StatusCode.ERROR, "exit code 1"))

    page = viewer.get(address(run)).text

    failed = re.search(rf'<details id="{anchor(tool)}" class="([^"]*)"', page)
    passed = re.search(rf'<details id="{anchor(run)}" class="([^"]*)"', page)
    assert failed
    assert "failed" in failed[1].split()
    assert passed
    assert "failed" not in passed[1].split()
    assert "exit code 1" in page
    assert f'href="{address(earlier)}#{anchor(earlier)}"' in page
    assert "turn done" in page
    assert f'href="#{anchor(tool)}" title="Go to the first error">1<' in page


def test_a_waterfall_shows_the_wait_in_a_queue(viewer: httpx.Client, tracer: MakeTracer) -> None:
    send = make_span(tracer("ingest"), "publish", lasts=1, kind=SpanKind.PRODUCER)
    make_span(tracer("runner"), "run job", parent=send, at=4, kind=SpanKind.CONSUMER)

    page = viewer.get(address(send)).text

    assert 'class="wait"' in page
    assert re.search(r"waited 3\.0\d s in a queue", page)


def test_a_missing_parent_is_said_until_it_arrives(
    viewer: httpx.Client, tracer: MakeTracer
) -> None:
    runner = tracer("runner")
    agent = runner.start_span("run agent")
    make_span(runner, "chat", parent=agent)

    before = viewer.get(address(agent)).text
    agent.end()
    after = viewer.get(address(agent)).text

    assert "parent missing" in before
    assert "parent missing" not in after
    assert "<h1>chat</h1>" in before
    assert "<h1>run agent</h1>" in after


def test_an_unknown_trace_waits_and_then_appears(viewer: httpx.Client, tracer: MakeTracer) -> None:
    span = tracer("ingest").start_span("receive webhook")

    before = viewer.get(address(span))
    span.end()
    after = viewer.get(address(span), headers={"If-None-Match": before.headers["etag"]})

    assert before.status_code == 404
    assert "not here (yet)" in before.text
    assert after.status_code == 200


def test_a_page_that_did_not_change_is_304(viewer: httpx.Client, tracer: MakeTracer) -> None:
    ingest = tracer("ingest")
    span = make_span(ingest, "receive webhook")
    pages = ("/", address(span))
    tags = {page: viewer.get(page).headers["etag"] for page in pages}

    def statuses() -> list[int]:
        return [
            viewer.get(page, headers={"If-None-Match": tags[page]}).status_code for page in pages
        ]

    assert statuses() == [304, 304]
    make_span(ingest, "another trace")
    assert statuses() == [200, 304]
    make_span(ingest, "publish", parent=span)
    assert statuses() == [200, 200]


def test_a_search_finds_ids_services_and_attributes(
    viewer: httpx.Client, tracer: MakeTracer
) -> None:
    hook = make_span(tracer("ingest"), "webhook", attributes={"patchwright.job.id": "77-9"})
    make_span(tracer("publisher"), "push", parent=hook, attributes={"branch": "100%_sure"})
    make_span(tracer("vault"), "mint", attributes={"purpose": "clone"})
    trace_id = address(hook).rpartition("/")[2]

    assert listed(viewer, trace_id) == ["webhook"]
    assert listed(viewer, trace_id[:9].upper()) == ["webhook"]
    assert listed(viewer, "77-9") == ["webhook"]
    assert listed(viewer, "purpose=clone") == ["mint"]
    assert listed(viewer, "publisher WEBHOOK") == ["webhook"], "each word somewhere in the trace"
    assert listed(viewer, "publisher clone") == []
    assert listed(viewer, "100%_s") == ["webhook"]
    assert listed(viewer, "1%s") == [], "a percent sign is no wildcard"


def test_a_long_list_has_pages(viewer: httpx.Client, tracer: MakeTracer) -> None:
    ingest = tracer("ingest")
    for number in range(53):
        make_span(ingest, f"trace {number}", at=number)

    first, second = viewer.get("/").text, viewer.get("/?page=2").text

    assert "53 traces" in first
    assert "page 1 of 2" in first
    assert 'rel="next"' in first
    assert 'rel="prev"' not in first
    assert 'rel="prev"' in second
    assert ">trace 0<" in second
    assert ">trace 3<" not in second
    for odd in ("0", "-1", "x", "9" * 30):
        assert viewer.get("/", params={"page": odd}).status_code == 200


def test_two_thousand_spans_are_drawn_in_reasonable_time(
    viewer: httpx.Client, tracer: MakeTracer
) -> None:
    runner = tracer("runner")
    root = make_span(runner, "run agent")
    for number in range(2_000):
        make_span(runner, "chat", parent=root, at=number / 2_000, attributes={"turn": str(number)})

    started = time.monotonic()
    page = viewer.get(address(root)).text

    assert time.monotonic() - started < 10  # 0.5 s where nothing else runs; not by the square
    assert page.count("<details id=") == 2_001


def test_a_huge_attribute_is_cut_on_the_page_only(viewer: httpx.Client, tracer: MakeTracer) -> None:
    span = make_span(tracer("runner"), "chat", attributes={"prompt": "x" * 100_000})

    page = viewer.get(address(span))

    assert "96,000 more characters" in page.text
    assert len(page.content) < 30_000
    found = viewer.get(address(span).replace("/trace/", "/api/traces/")).text
    assert "x" * 100_000 in found
