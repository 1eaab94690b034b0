"""The whole stack with two runners and two publishers, supervised by this process itself."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import psutil

from harness.stack import ONE_PERSON, RunningStack
from patchwright_local import state
from patchwright_local.processes import Process
from patchwright_local.settings import LocalSettings
from patchwright_local.stack import LocalStack, Options

Nodes = Literal["1", "3"]
Sandbox = Literal["auto", "docker", "bubblewrap"]
SECOND = ("runner", "publisher")
"""Services of which there are two."""


class CrewStack(LocalStack):
    """`instead` are other commands for some services: broken ones, to see that it is noticed."""

    instead: Mapping[str, tuple[str, ...]] = {}

    async def _vault(self) -> Process:
        process = await super()._vault()
        return replace(process, command=self.instead.get("vault", process.command))

    def _services(self, sandbox: str) -> list[Process]:
        made = []
        for process in super()._services(sandbox):
            command = self.instead.get(process.name, process.command)
            made.append(replace(process, command=command))
            if process.name in SECOND:
                made.append(self._second(replace(process, command=command)))
        return made

    def _second(self, process: Process) -> Process:
        """As on another machine: nothing is shared but NATS and GitHub."""
        name = f"{process.name}-2"
        command = self.instead.get(name, process.command)
        environment = dict(process.environment)
        if process.name == "runner":
            environment |= {
                "PATCHWRIGHT_RUNNER_ID": f"{environment['PATCHWRIGHT_RUNNER_ID']}-2",
                "PATCHWRIGHT_DATA": str(self._folder.sub("runner-2")),
            }
        return replace(process, name=name, command=command, environment=environment)


class Crew:
    """The running stack, and what may be done to its processes."""

    def __init__(self, stack: CrewStack, at: RunningStack, root: Path) -> None:
        self._stack = stack
        self.at = at
        self.root = root
        self.sessions: set[int] = set()
        """Process ids of everything that was ever started: each leads a session of its own."""

    @property
    def runner_ids(self) -> tuple[str, ...]:
        """As they name their boxes."""
        first = f"local-{self._stack.ports.nats}"
        return first, f"{first}-2"

    @property
    def temporary(self) -> Path:
        """Where the services put temporary files."""
        return self.root / "tmp"

    def alive(self, name: str) -> psutil.Process | None:
        """The service's process of this moment."""
        child = self._stack.supervisor.running[name]._child
        if child is None or child.returncode is not None:
            return None
        with contextlib.suppress(psutil.Error):
            return psutil.Process(child.pid)
        return None

    def note_sessions(self) -> None:
        """To be called often enough to see every process."""
        pids = (running.pid for running in self._stack.supervisor.running.values())
        self.sessions |= {pid for pid in pids if pid}

    def wake_all(self) -> None:
        """End every pause."""
        for name in self._stack.supervisor.running:
            if process := self.alive(name):
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """As an operator does."""
        self.wake_all()
        await self._stack.supervisor.stop()


@asynccontextmanager
async def crew(
    root: Path,
    sandbox: Sandbox,
    nodes: Nodes,
    instead: Mapping[str, tuple[str, ...]] | None = None,
) -> AsyncIterator[Crew]:
    """The stack in the folder `root`; stopped at the end, if it still runs."""
    folder = state.Folder(root / "home")
    folder.make()
    (root / "tmp").mkdir(exist_ok=True)
    settings = LocalSettings(
        home=folder.root, sandbox=sandbox, nats_nodes=nodes, nats_port=0, ingest_port=0,
        github_port=0, model_port=0, traces_port=0,
    )  # fmt: skip
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(root),
        "TMPDIR": str(root / "tmp"),
        "PATCHWRIGHT_HOME": str(folder.root),
        **ONE_PERSON,
        "PATCHWRIGHT_JOBS": "3",
        "PATCHWRIGHT_RECOVERY_INTERVAL": "1",
        "PATCHWRIGHT_WARM_BOXES": "1",
    }
    stack = CrewStack(settings, folder, _silent, environment=environment, options=Options())
    stack.instead = instead or {}
    try:
        described = await stack.start()
        made = Crew(stack, RunningStack(described, folder), root)
        made.note_sessions()
        yield made
    finally:
        for running in stack.supervisor.running.values():
            if running.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(running.pid, signal.SIGCONT)
        await stack.supervisor.stop()


def _silent(_name: str, _line: str) -> None:
    """What they say is in their logs."""
