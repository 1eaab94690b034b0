"""Fixtures for every suite."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from harness.nats import NatsServer, bus, nats_server
from patchwright_common.bus import Bus
from standin_github.client import StandinGitHub
from standin_github.main import READY


@pytest.fixture(name="nats")
async def _nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A real server of the test's own."""
    async with nats_server(tmp_path / "nats") as server:
        yield server


@pytest.fixture(name="bus")
async def _bus(nats: NatsServer) -> AsyncIterator[Bus]:
    """A connection to it."""
    async with bus(nats.url) as connection:
        yield connection


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The GitHub stand-in that a worker's tests share."""
    data = tmp_path_factory.mktemp("github")
    with subprocess.Popen(
        [sys.executable, "-m", "standin_github.main", "--data", str(data)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(READY)
        yield line.removeprefix(READY).strip()
        process.terminate()


@pytest.fixture
async def github(address: str) -> AsyncIterator[StandinGitHub]:
    """Its client; disturbances end with the test."""
    async with StandinGitHub(address) as control:
        yield control
        await control.clear_faults()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Spans of this process; OpenTelemetry allows one provider for its whole life."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()
