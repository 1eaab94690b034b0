"""A real nats-server with JetStream on a free port, which a test may kill, pause and restart."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from nats.aio.client import Client

from harness import signals
from patchwright_common import topology
from patchwright_common.bus import Bus
from patchwright_common.permissions import inbox, render
from patchwright_common.requests import IDENTITIES
from patchwright_local.identities import Identities

START_TIMEOUT = 10.0
TESTER = "tester"
"""A user besides the real identities, who may do everything."""
DURABLE = "jetstream { max_file_store: 64GB, sync_interval: always }"
"""As it is deployed."""
QUICK = "jetstream { max_file_store: 64GB }"
"""Tests kill the server, which loses nothing of this either; none cuts the power."""


class NatsServer:
    """One server; its data stays in `folder` across restarts.

    It knows the services' identities and their permissions; `url` is a tester's way in.
    """

    def __init__(self, folder: Path, jetstream: str = QUICK) -> None:
        self._jetstream = jetstream
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"nats://127.0.0.1:{self.port}"
        self.url = f"nats://{TESTER}:{TESTER}@127.0.0.1:{self.port}"
        self._folder = folder
        self.identities = Identities(folder / "identities")
        self.identities.make()
        self._process: asyncio.subprocess.Process | None = None

    def environment(self, identity: str) -> dict[str, str]:
        """What a program needs to be known as that identity."""
        return {
            "PATCHWRIGHT_NATS_URL": self.address,
            "PATCHWRIGHT_NATS_NKEY_FILE": str(self.identities.seed(identity)),
        }

    @asynccontextmanager
    async def known_as(self, identity: str) -> AsyncIterator[Bus]:
        """A connection with the permissions of that identity and no more."""
        client = await nats.connect(
            self.address,
            nkeys_seed=str(self.identities.seed(identity)),
            inbox_prefix=inbox(identity),
            error_cb=_ignore,
        )
        try:
            yield Bus(client)
        finally:
            await client.close()

    def said(self) -> str:
        """The server's log."""
        return self._log.read_text()

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    def _configure(self) -> Path:
        keys = {name: self.identities.public_key(name) for name in IDENTITIES}
        tester = f"  {{ user: {TESTER}, password: {TESTER} }}\n]\n"
        users = render(keys).removesuffix("]\n") + tester
        path = self._folder / "server.conf"
        path.write_text(f"{self._jetstream}\nauthorization {{\n{users}}}\n")
        return path

    async def start(self) -> None:
        """Return when it takes connections."""
        program = Path(sys.executable).parent / "nats-server"
        configuration = self._configure()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(program),
                *("--config", str(configuration)),
                *("--addr", "127.0.0.1", "--port", str(self.port)),
                *("--store_dir", str(self._folder)),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
            )
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError as error:
                    if self._process.returncode is not None:
                        raise RuntimeError(self.said()) from error
                    await asyncio.sleep(0.01)
                    continue
                writer.close()
                return

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill it; what JetStream has acknowledged is on disk."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(number)
            await process.wait()

    def pause(self) -> None:
        """It stays connected and answers nothing."""
        signals.pause(self._pid())

    def wake(self) -> None:
        """End a pause."""
        signals.wake(self._pid())

    def _pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid


@asynccontextmanager
async def nats_server(folder: Path, jetstream: str = QUICK) -> AsyncIterator[NatsServer]:
    """A running server whose streams, buckets and consumers match `flow.py`."""
    server = NatsServer(folder, jetstream)
    await server.start()
    try:
        async with connected(server.url) as client:
            await topology.ensure(client.jetstream(timeout=10))
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A connection that keeps reconnecting, as the services' own do."""
    client = await nats.connect(
        url, connect_timeout=2, reconnect_time_wait=0.1, max_reconnect_attempts=-1,
        error_cb=_ignore,
    )  # fmt: skip
    try:
        yield client
    finally:
        await client.close()


async def _ignore(_error: Exception) -> None:
    """nats-py prints every lost connection otherwise, and tests lose them on purpose."""


@asynccontextmanager
async def bus(url: str) -> AsyncIterator[Bus]:
    """A `Bus` of its own connection."""
    async with connected(url) as client:
        yield Bus(client)
