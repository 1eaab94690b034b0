"""Starts a box's process and waits until its program has confined itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from patchwright_runner.sandbox import boot
from patchwright_runner.sandbox.connection import Connection
from patchwright_runner.sandbox.protocol import BoxLost

_END_SECONDS = 3.0
_BUFFER_BYTES = 1 << 20


class Launch:
    """One child process that is, or leads to, a box."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.connection = Connection(process)
        self._process = process

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environment: dict[str, str],
        descriptors: Sequence[int] = (),
    ) -> Launch:
        """A session of its own, so that Ctrl-C in a terminal reaches the runner alone."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            pass_fds=descriptors,
            start_new_session=True,
            limit=_BUFFER_BYTES,
        )
        return cls(process)

    async def greet(self, configuration: dict[str, object], seconds: float) -> None:
        """Send the program and wait for its answer; raises BoxLost."""
        try:
            async with asyncio.timeout(seconds):
                await self.connection.greet(boot.program(configuration))
        except TimeoutError as error:
            raise BoxLost(f"The sandbox did not start within {seconds:.0f} s.") from error

    async def end(self) -> bool:
        """Wait for the process, kill it if need be; whether it ended by itself."""
        try:
            await asyncio.wait_for(self._process.wait(), _END_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            return False
        return True
