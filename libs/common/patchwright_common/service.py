"""Starting and stopping a service: connection, checks, signals, one exit path."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import stamina
from faststream.nats import NatsBroker
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from patchwright_common import flow, telemetry, topology
from patchwright_common.beside import cancel_until_done
from patchwright_common.bus import AWAY, Bus
from patchwright_common.errors import Permanent, Retry
from patchwright_common.permissions import inbox
from patchwright_common.pull import STOP_TIMEOUT, PullLoop
from patchwright_common.storage import Gauge

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4
_SERVER = r"((nats|tls|wss?)://)?[^\s,/]+/?"


class ServiceSettings(BaseSettings):
    """What every service reads from its environment, in `main.py` and nowhere else."""

    model_config = SettingsConfigDict(
        env_prefix="PATCHWRIGHT_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    nats_url: str = Field(
        default="nats://127.0.0.1:4222",
        pattern=rf"^{_SERVER}(\s*,\s*{_SERVER})*$",
        description="Where NATS listens; several by commas.",
    )
    nats_nkey_file: Path | None = Field(
        default=None, description="This service's own key at NATS: a seed file, mode 0600."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        default="INFO", description="The least that is logged."
    )
    otel_exporter_otlp_endpoint: str = Field(
        default="",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Where spans go (OTLP over HTTP); empty: nowhere.",
    )
    otel_exporter_otlp_traces_endpoint: str = Field(
        default="",
        validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        description="The same for traces alone, as a full URL.",
    )

    @property
    def nats_urls(self) -> list[str]:
        """Each server's address."""
        return [url.strip() for url in self.nats_url.split(",")]


@dataclass(frozen=True)
class Service:
    """A connected service. FastStream serves its requests, `consume` its events."""

    broker: NatsBroker
    bus: Bus
    gauge: Gauge

    async def consume(self, *loops: PullLoop) -> None:
        """Run the loops until SIGTERM or SIGINT; then hand back what is unfinished."""
        pulling = {asyncio.create_task(loop.run()) for loop in loops}
        stopping = asyncio.create_task(until_stopped())
        # Whoever reads the next line may send a signal at once: let the task listen for it.
        await asyncio.sleep(0)
        log.info("ready")
        try:
            await asyncio.wait({stopping, *pulling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await cancel_until_done(*pulling, patience=STOP_TIMEOUT / 3, times=3)
        for task in pulling:
            # One whose handlers do not end in time is left to the end of the process.
            if task.done() and not task.cancelled():
                task.result()


@contextlib.asynccontextmanager
async def connected(name: str, settings: ServiceSettings) -> AsyncIterator[Service]:
    """Connect, check the topology, and close in order. Waits for NATS as long as it takes."""
    seed = seed_file(settings.nats_nkey_file)
    export = bool(
        settings.otel_exporter_otlp_endpoint or settings.otel_exporter_otlp_traces_endpoint
    )
    provider = telemetry.set_up(name, export=export, level=settings.log_level)
    ended = asyncio.Event()

    async def closed() -> None:
        if not ended.is_set():
            _end()

    broker = NatsBroker(
        settings.nats_urls,
        name=f"patchwright-{name}",
        inbox_prefix=inbox(name),
        nkeys_seed=seed,
        connect_timeout=2,
        # A connection that died without a word is noticed after two silent pings.
        ping_interval=10,
        reconnect_time_wait=1,
        max_reconnect_attempts=-1,
        allow_reconnect=True,
        graceful_timeout=10.0,
        # A drained pull subscription waits for messages that nobody takes any more (nats-py
        # does not count the server's status messages as taken): no use in waiting long.
        drain_timeout=1,
        logger=logging.getLogger("faststream.broker"),
        error_cb=_log_absence,
        closed_cb=closed,
    )
    try:
        async for attempt in stamina.retry_context(
            on=_not_ready, attempts=None, timeout=None, wait_initial=0.1, wait_max=2.0
        ):
            with attempt:
                client = await broker.connect()
                bus = Bus(client)
                await topology.check(bus.js, name)
        gauge = Gauge(bus.js, flow.watched(name))
        async with gauge.beside():
            yield Service(broker, bus, gauge)
        if client.is_closed:
            raise Retry("NATS closed the connection and takes no new one.")
    finally:
        ended.set()
        try:
            await broker.stop()
        except* AWAY as away:
            log.warning("NATS is away, so nothing could be handed back: %s", away.exceptions)
        finally:
            await asyncio.to_thread(provider.shutdown)


def _end() -> None:
    """End the process when the connection is lost for good: a revoked user, a protocol error.

    nats-py reconnects after everything else.
    """
    log.critical("NATS closed the connection and takes no new one: stopping")
    signal.raise_signal(signal.SIGTERM)


async def _log_absence(error: Exception) -> None:
    """FastStream logs NATS's own errors, but is silent while nobody listens.

    A subject that is refused would otherwise show as an answer that never comes.
    """
    if isinstance(error, OSError):
        log.warning("waiting for NATS: %s", error)
    elif "permissions violation" in str(error).lower():
        log.error("NATS refused, see deploy/nats: %s", error)


def seed_file(path: Path | None) -> str | None:
    """Raises `Permanent` for one that cannot be read, or that others may read."""
    if path is None or path == Path():
        return None
    try:
        with path.expanduser().open() as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise Permanent(f"The key file for NATS is open to others: chmod 600 {path}")
    except OSError as error:
        raise Permanent(
            f"The key file for NATS, {path}, cannot be used: {error.strerror}."
        ) from None
    return str(path.expanduser())


def _not_ready(error: Exception) -> bool:
    if isinstance(error, (*AWAY, Retry)):
        log.warning("waiting for NATS: %s", error or type(error).__name__)
        return True
    return False


def run(serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a service to its end; a mistake of the operator is one line and exit code 1.

    So is a NATS that went away while the service started: its supervisor tries again.
    """
    keep_memory_private()
    try:
        asyncio.run(serve())
    except Permanent as error:
        sys.exit(f"{error.reason} {error.advice}".strip())
    except Retry as error:
        sys.exit(error.reason)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # stopped before it was ready
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        sys.exit("These settings do not fit: " + "; ".join(lines))


def keep_memory_private() -> None:
    """Secrets are in memory: no crash leaves an image of it, and no other process reads it.

    The limit alone does not stop a `core_pattern` that is a program; a process that is not
    dumpable gives it nothing, and its `/proc` entries belong to root (Linux alone has this).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0) != 0:
        log.warning("the kernel lets others of this user read the memory of this process")


async def until_stopped() -> None:
    """Return at SIGTERM or SIGINT, so that `async with` can put everything away."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
