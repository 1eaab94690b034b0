"""Starts a program of this environment as a real process and waits for its ready line."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

START_TIMEOUT = 30.0


class Program:
    """A process with its output so far in `lines`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def line(self, pattern: str, *, timeout: float = START_TIMEOUT) -> re.Match[str]:
        """The first line that matches, now or soon. Raises AssertionError with the output."""
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            for line in self.lines:
                if found := re.search(pattern, line):
                    return found
            ended = self._reader.done()
            if ended or asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"no line {pattern!r} in:\n" + "\n".join(self.lines))
            await asyncio.sleep(0.01)

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout: float = 20.0) -> int:
        """Signal it and return its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), timeout)
        await self._reader
        return code

    async def _read(self) -> None:
        if self.process.stdout is None:
            raise RuntimeError("started without a pipe")
        async for raw in self.process.stdout:
            self.lines.append(raw.decode(errors="replace").rstrip("\n"))


@asynccontextmanager
async def program(
    name: str, *arguments: str, environment: dict[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[Program]:
    """Run it; killed at the end if it is still there. The environment is clean but for PATH."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / name),
        *arguments,
        env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **(environment or {})},
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**22,
    )
    running = Program(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await running._reader


@asynccontextmanager
async def github_standin(data: Path) -> AsyncIterator[str]:
    """The GitHub stand-in's address."""
    async with program("standin-github", "--data", str(data)) as running:
        yield (await running.line(r"listening on (\S+)"))[1]


@asynccontextmanager
async def model_standin(key: str) -> AsyncIterator[str]:
    """The scripted model's address; `key` is the only one that it takes."""
    async with program("standin-model", "--key", key) as running:
        yield (await running.line(r"ready at (\S+)"))[1]


@asynccontextmanager
async def github_elsewhere(data: Path) -> AsyncIterator[str]:
    """Under `localhost`: to a browser that is another site than 127.0.0.1, as GitHub is."""
    port = free_port()
    address = f"http://localhost:{port}"
    arguments = ("--data", str(data), "--port", str(port), "--public-url", address)
    async with program("standin-github", *arguments) as running:
        await running.line(r"listening on (\S+)")
        yield address


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
