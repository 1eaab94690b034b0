"""Runs the stack's processes: starts them in order, shows their lines, restarts, stops all.

Honcho was tried on paper: it stops everything when one process ends, while a local
stack should behave like a deployed one, where a service that dies is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT = 30.0
"""Seconds from start to the line that says ready."""
STOP_TIMEOUT = 15.0
"""Seconds between SIGTERM and SIGKILL."""
RESTART_DELAYS = (0.2, 1.0, 3.0, 10.0)
"""Seconds before a process that ended by itself is started again; the last one repeats."""
STEADY = 30.0
"""Seconds after which an earlier end is forgotten."""
_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """The stack cannot run; the message says what to do, in a line for the operator."""


@dataclass(frozen=True)
class Process:
    """A program of the stack. `ready` is what one of its lines holds when it serves.

    Empty for one that nobody waits for.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(repr=False)
    ready: str


Show = Callable[[str, str], None]
"""Takes a process's name and one line of its output."""


class Running:
    """One process, kept alive until it is stopped."""

    def __init__(self, process: Process, show: Show, logs: Path) -> None:
        self.process = process
        self.pid: int | None = None
        self._show = show
        self._log = logs / f"{process.name}.log"
        self._child: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it is ready. Raises `StartError` with its last line."""
        self._keeper = asyncio.create_task(self._keep())
        waiting = asyncio.create_task(self._ready.wait())
        done, _ = await asyncio.wait(
            (waiting, self._keeper), timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
        )
        waiting.cancel()
        if self._keeper in done:
            await self._keeper
        if not done:
            raise StartError(f"{self.process.name} did not get ready; its log is {self._log}")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL to its whole process group."""
        self._stopping = True
        child = self._child
        if child is not None and child.returncode is None:
            _signal(child.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(child.wait(), STOP_TIMEOUT)
            except TimeoutError:
                self._show(self.process.name, "did not stop in time and is killed")
        if child is not None:
            _signal(child.pid, signal.SIGKILL)
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError, StartError):
                await self._keeper

    async def _keep(self) -> None:
        failures = 0
        while not self._stopping:
            began = time.monotonic()
            last = await self._run()
            if self._stopping:
                return
            if not self._ready.is_set():
                raise StartError(f"{self.process.name} did not start: {last}")
            if time.monotonic() - began > STEADY:
                failures = 0
            delay = RESTART_DELAYS[min(failures, len(RESTART_DELAYS) - 1)]
            failures += 1
            self._show(self.process.name, f"ended; starting it again in {delay:g} s")
            await asyncio.sleep(delay)

    async def _run(self) -> str:
        """Run it to its end and return its last line."""
        child = await asyncio.create_subprocess_exec(
            *self.process.command,
            env=self.process.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
            limit=2**20,
        )
        self._child, self.pid = child, child.pid
        if not self.process.ready:
            self._ready.set()
        last = ""
        try:
            with self._log.open("a") as log:
                async for line in _lines(child):
                    last = line
                    log.write(line + "\n")
                    log.flush()
                    if self.process.ready in line:
                        self._ready.set()
                    self._show(self.process.name, line)
            await child.wait()
        finally:
            _signal(child.pid, signal.SIGKILL)
        return last


class Supervisor:
    """All processes, started in order and stopped in reverse."""

    def __init__(self, show: Show, logs: Path) -> None:
        self._show = show
        self._logs = logs
        self.running: dict[str, Running] = {}

    async def start(self, process: Process) -> None:
        """Start one more and wait until it is ready."""
        self._logs.mkdir(parents=True, exist_ok=True)
        running = Running(process, self._show, self._logs)
        self.running[process.name] = running
        await running.start()

    async def start_together(self, processes: list[Process]) -> None:
        """Start several that do not wait for each other."""
        await asyncio.gather(*(self.start(process) for process in processes))

    async def stop(self) -> None:
        """Stop everything, the newest first; nothing is left behind."""
        for running in reversed(self.running.values()):
            await running.stop()
        self.running.clear()


async def _lines(child: asyncio.subprocess.Process) -> AsyncIterator[str]:
    if child.stdout is None:
        raise AssertionError("started with a pipe")
    while True:
        try:
            raw = await child.stdout.readline()
        except ValueError:
            # Longer than the limit: what was read of it is dropped.
            continue
        if not raw:
            return
        yield raw.decode(errors="replace").rstrip("\n")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def _die_with_parent() -> None:
    """If the supervisor is killed outright, its children still stop (Linux alone has this).

    From their first moment on they leave no core: what they are given may be secret.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
