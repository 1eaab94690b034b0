"""A real service process: it waits, it stops, and it says what is wrong in one line."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from harness.nats import NatsServer, connected
from harness.programs import Program, program
from patchwright_common import topology
from patchwright_common.bus import Bus

READY = r'"text": "ready"'


@pytest.fixture
async def absent_nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server that was not started yet."""
    server = NatsServer(tmp_path / "nats")
    yield server
    await server.stop()


def triage(nats: NatsServer, **environment: str) -> AbstractAsyncContextManager[Program]:
    known = {"PATCHWRIGHT_GITHUB_API_URL": "http://127.0.0.1:9", "PATCHWRIGHT_APP_SLUG": "x"}
    return program(
        "patchwright-triage", environment=nats.environment("triage") | known | environment
    )


async def stop_within(seconds: float, running: Program, number: signal.Signals) -> int:
    began = time.monotonic()
    code = await running.stop(number)
    assert time.monotonic() - began < seconds
    return code


async def test_service_waits_for_a_nats_that_comes_later_and_says_so(
    absent_nats: NatsServer,
) -> None:
    async with triage(absent_nats) as running:
        await running.line("waiting for NATS: .*Connect call failed")
        await absent_nats.start()
        await running.line(r"triage-delivery-received is missing: run `just topology`")
        async with connected(absent_nats.url) as client:
            await topology.ensure(client.jetstream(timeout=10))
        await running.line(READY)
        assert await stop_within(5, running, signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_service_that_waits_can_be_stopped_without_a_stack_trace(
    absent_nats: NatsServer, number: signal.Signals
) -> None:
    async with triage(absent_nats) as running:
        await running.line("waiting for NATS")
        await stop_within(5, running, number)
        assert "Traceback" not in "\n".join(running.lines)


async def test_service_stops_in_seconds_though_nats_and_the_collector_are_away(
    nats: NatsServer,
) -> None:
    async with triage(nats, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as running:
        await running.line(READY)
        await nats.stop()
        await running.line("waiting for NATS")
        assert await stop_within(15, running, signal.SIGTERM) == 0
        assert "Traceback" not in "\n".join(running.lines)


async def test_service_goes_on_after_nats_was_restarted(nats: NatsServer) -> None:
    async with triage(nats) as running:
        await running.line(READY)
        await nats.stop()
        await running.line("waiting for NATS")
        await nats.start()
        async with connected(nats.url) as client, asyncio.timeout(20):
            js = client.jetstream(timeout=5)
            await js.publish("pw.github.issues.edited.7", b"{}")
            while (await js.consumer_info("PW_GITHUB", "triage-delivery-received")).num_pending:
                await asyncio.sleep(0.1)
        assert await stop_within(12, running, signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("PATCHWRIGHT_LOG_LEVEL", "LOUD", "log_level: "),
        ("PATCHWRIGHT_NATS_URL", "http://nats", "nats_url: "),
        ("PATCHWRIGHT_NATS_URL", "", "nats_url: "),
    ],
)
async def test_mistake_in_the_settings_is_one_line(variable: str, value: str, says: str) -> None:
    async with program("patchwright-triage", environment={variable: value}) as running:
        assert await asyncio.wait_for(running.process.wait(), 20) == 1
        await running.line("These settings do not fit: " + says)
        assert len(running.lines) == 1


async def test_mistake_in_the_settings_does_not_show_the_value() -> None:
    environment = {"PATCHWRIGHT_NATS_URL": "nats ://user:hunter2@nats"}
    async with program("patchwright-triage", environment=environment) as running:
        assert await asyncio.wait_for(running.process.wait(), 20) == 1
        await running.line("nats_url")
        assert "hunter2" not in "\n".join(running.lines)


CLOSING = r"""
import asyncio, sys
from patchwright_common import flow
from patchwright_common.service import ServiceSettings, connected, run
from patchwright_common.pull import PullLoop

async def serve():
    async with connected("triage", ServiceSettings(nats_url=sys.argv[1])) as service:
        async def handle(delivery):
            pass
        loop = PullLoop(service.bus, flow.TRIAGE_DELIVERY_RECEIVED, handle)
        consuming = asyncio.create_task(service.consume(loop))
        await asyncio.sleep(0.1)
        # Larger than the server takes: it closes the connection, as for a revoked user.
        client = service.bus.client
        await client.publish("x", b"x" * (client.max_payload - 9), headers={"a": "b" * 9})
        await consuming

run(serve)
"""


async def test_service_whose_connection_is_closed_for_good_ends_with_an_error(
    nats: NatsServer,
) -> None:
    """It would neither work nor say so; its supervisor starts it anew."""
    async with program("python", "-c", CLOSING, nats.url) as running:
        assert await asyncio.wait_for(running.process.wait(), 30) == 1
        await running.line("NATS closed the connection and takes no new one")
        assert "Traceback" not in "\n".join(running.lines)


DEAF = r"""
import asyncio, sys, time
from nats.js import JetStreamContext
from patchwright_common import flow, pull, service
from patchwright_common.service import ServiceSettings, connected, run

pull.STOP_TIMEOUT = service.STOP_TIMEOUT = 0.5
unsubscribe = JetStreamContext.PullSubscription.unsubscribe

async def slowly(subscription):
    await asyncio.sleep(0.1)
    await unsubscribe(subscription)

JetStreamContext.PullSubscription.unsubscribe = slowly

async def handle(delivery):
    print("at work", flush=True)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            await asyncio.sleep(3)
        except asyncio.CancelledError:
            pass

async def serve():
    async with connected("triage", ServiceSettings(nats_url=sys.argv[1])) as connection:
        loop = pull.PullLoop(connection.bus, flow.TRIAGE_DELIVERY_RECEIVED, handle)
        await connection.consume(loop)

run(serve)
"""


async def test_service_ends_well_though_a_handler_takes_longer_than_it_may(
    nats: NatsServer, bus: Bus
) -> None:
    await bus.js.publish("pw.github.issues.opened.1", b"{}")
    async with program("python", "-c", DEAF, nats.url) as running:
        await running.line("at work")
        running.process.terminate()
        assert await asyncio.wait_for(running.process.wait(), 20) == 0
        assert "Traceback" not in "\n".join(running.lines)
