"""Traces and logs: one place for set-up, attribute names and the context in headers.

Attribute names follow OpenTelemetry's semantic conventions where they exist
(https://opentelemetry.io/docs/specs/semconv/: messaging, gen_ai, vcs); the rest
begins with `patchwright.`. Export is configured by the standard `OTEL_*`
variables, which the SDK's exporter reads itself.
"""

from __future__ import annotations

import contextvars
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

JOB_ID = "patchwright.job.id"
EPOCH = "patchwright.job.epoch"
DELIVERY_ID = "patchwright.delivery.id"
RESULT = "patchwright.result"
REASON = "patchwright.reason"
SANDBOX = "patchwright.sandbox.backend"
DELIVERED = "patchwright.delivered"
REPOSITORY = "vcs.repository.name"
CHANGE_URL = "vcs.change.url"
MESSAGING_SYSTEM = "messaging.system"
MESSAGING_DESTINATION = "messaging.destination.name"
MESSAGING_CONSUMER = "messaging.consumer.group.name"
MESSAGING_OPERATION = "messaging.operation.type"

tracer = trace.get_tracer("patchwright")
"""A proxy: it costs nothing and finds the provider that `set_up` installs."""

_job: contextvars.ContextVar[str] = contextvars.ContextVar("patchwright_job", default="")


def set_up(service: str, *, export: bool, level: str = "INFO") -> TracerProvider:
    """Install the tracer provider and the log format for this process.

    `export` sends spans to where the `OTEL_EXPORTER_OTLP_*` variables point. Without
    it spans still have ids, so that comments and logs can name the trace.
    """
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if export:
        # A quarter of a service's time to start, for those who want spans.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        exporter = OTLPSpanExporter(timeout=5)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=200))
    trace.set_tracer_provider(provider)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in (
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "anthropic",
        "docker",
        "urllib3",
        "nats",
        "faststream",
        "uvicorn",
    ):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # nats-py warns of old servers whenever keys are listed, whatever the server.
    logging.getLogger("nats.js.kv").setLevel(logging.ERROR)
    # Whoever waits says for what; stamina would say it again, without the reason.
    logging.getLogger("stamina").setLevel(logging.ERROR)
    return provider


@contextmanager
def job(job_id: str) -> Iterator[None]:
    """Put the job's id on every span made and every line logged inside."""
    token = _job.set(job_id)
    span = trace.get_current_span()
    if job_id:
        span.set_attribute(JOB_ID, job_id)
    try:
        yield
    finally:
        _job.reset(token)


@contextmanager
def span(
    name: str,
    *,
    kind: trace.SpanKind = trace.SpanKind.INTERNAL,
    parent: Context | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Iterator[trace.Span]:
    """A span named by a verb phrase, carrying the current job's id."""
    values = dict(attributes or {})
    if _job.get():
        values.setdefault(JOB_ID, _job.get())
    with tracer.start_as_current_span(name, context=parent, kind=kind, attributes=values) as made:
        yield made


def told(
    name: str, seconds: float, *, failed: bool = False, attributes: Mapping[str, Any] | None = None
) -> None:
    """A span that ends now and took so long, for what we only hear of afterwards."""
    values = dict(attributes or {})
    if _job.get():
        values.setdefault(JOB_ID, _job.get())
    now = time.time_ns()
    began = now - round(seconds * 1_000_000_000)
    made = tracer.start_span(name, attributes=values, start_time=began)
    if failed:
        made.set_status(trace.Status(trace.StatusCode.ERROR))
    made.end(now)


def inject() -> dict[str, str]:
    """Headers that carry the current trace context (W3C `traceparent`)."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def extract(headers: Mapping[str, str] | None) -> Context:
    """The context that `inject` put into `headers`."""
    return propagate.extract({k.lower(): v for k, v in (headers or {}).items()})


def fail(reason: str) -> None:
    """Mark the current span as failed, for errors that are handled and not raised."""
    trace.get_current_span().set_status(trace.Status(trace.StatusCode.ERROR, reason))


def note(name: str, value: str | float) -> None:
    """Set an attribute on the current span."""
    trace.get_current_span().set_attribute(name, value)


def trace_id() -> str:
    """The current trace's id in hex, or empty outside of any span."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


class _Lines(logging.Formatter):
    """One JSON object a line: time (UTC), level, service, text, job, trace."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "text": record.getMessage(),
        }
        if _job.get():
            line["job"] = _job.get()
        if trace_id():
            line["trace"] = trace_id()
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self.formatException(record.exc_info)
        # ASCII, so that no text from outside can begin a line or steer a terminal.
        return json.dumps(line)
