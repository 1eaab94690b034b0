"""A real viewer, and the real OpenTelemetry SDK that exports to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Tracer

from patchwright_traces.app import Settings
from patchwright_traces.recording import Limits
from patchwright_traces.testing import running_viewer


@pytest.fixture
def limits() -> Limits:
    """Small enough to be reached."""
    return Limits(traces=60, spans_per_trace=12_000)


@pytest.fixture
def viewer(tmp_path: Path, limits: Limits) -> Iterator[httpx.Client]:
    """A client of a viewer that runs on a free port."""
    with (
        running_viewer(Settings(tmp_path / "traces.db", limits)) as address,
        httpx.Client(base_url=address, timeout=30) as client,
    ):
        yield client


@pytest.fixture
def tracer(viewer: httpx.Client) -> Iterator[Callable[[str], Tracer]]:
    """Makes a tracer of a service; its spans are exported as soon as each one ends."""
    providers: list[TracerProvider] = []

    def of_service(name: str) -> Tracer:
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        exporter = OTLPSpanExporter(f"{viewer.base_url}/v1/traces", timeout=10)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        providers.append(provider)
        return provider.get_tracer(f"{name}.tracer")

    yield of_service
    for provider in providers:
        provider.shutdown()
