"""Starts a box's process and waits until its program has confined itself."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import SubprocessStreamProtocol
from collections.abc import Sequence

from patchwright_runner.sandbox import boot
from patchwright_runner.sandbox.connection import Connection
from patchwright_runner.sandbox.protocol import BoxLost

_END_SECONDS = 3.0
_BUFFER_BYTES = 1 << 20


class Launch:
    """One child process that is, or leads to, a box."""

    def __init__(
        self, process: asyncio.subprocess.Process, transport: asyncio.SubprocessTransport
    ) -> None:
        self.connection = Connection(process)
        self._process = process
        self._transport = transport

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environment: dict[str, str],
        descriptors: Sequence[int] = (),
    ) -> Launch:
        """A session of its own, so that Ctrl-C in a terminal reaches the runner alone."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(limit=_BUFFER_BYTES, loop=loop),
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            pass_fds=descriptors,
            start_new_session=True,
        )
        return cls(asyncio.subprocess.Process(transport, protocol, loop), transport)

    async def greet(self, configuration: dict[str, object], seconds: float) -> None:
        """Send the program and wait for its answer; raises BoxLost."""
        try:
            async with asyncio.timeout(seconds):
                await self.connection.greet(boot.program(configuration))
        except TimeoutError as error:
            raise BoxLost(f"The sandbox did not start within {seconds:.0f} s.") from error

    async def end(self) -> bool:
        """Wait for the process, kill it if need be; whether it ended by itself.

        Asyncio's wait goes on while anyone holds the other ends of the pipes, which a box
        that hangs does until its backend removes it: closing the transport ends that, and
        kills the process.
        """
        try:
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            self._transport.close()
            await self._process.wait()
            return False
        return True
