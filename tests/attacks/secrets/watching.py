"""What exists for a moment only, noted down all the time: processes, and Docker's containers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from harness.stack import RunningStack

from .places import ARGUMENTS, BOX_ENVIRONMENT, ENVIRONMENTS, INSPECT, Place

PAUSE = 0.1
"""Seconds between two looks."""


class Watch(threading.Thread):
    """Looks at the stack's processes and boxes until it is stopped."""

    def __init__(self, stack: RunningStack) -> None:
        super().__init__(name="watch", daemon=True)
        self.places: dict[tuple[str, str, bytes], Place] = {}
        self.services: set[str] = set()
        """Whose environment was read, or is closed even to its own user."""
        self._stack = stack
        self._ended = threading.Event()
        port = stack.at.nats_url.rpartition(":")[2]
        self._label = f"label=patchwright.runner=local-{port}"
        self._inspected: set[str] = set()

    def run(self) -> None:
        while not self._ended.wait(PAUSE):
            with contextlib.suppress(psutil.Error):
                self._look_at_processes()
            if self._stack.at.sandbox == "docker":
                self._look_at_containers()

    def stop(self) -> None:
        self._ended.set()
        self.join(30)

    def _add(self, kind: str, name: str, data: bytes) -> None:
        self.places.setdefault((kind, name, data), Place(kind, name, data))

    def _look_at_processes(self) -> None:
        supervisor = psutil.Process(self._stack.at.pid)
        for process in (supervisor, *supervisor.children(recursive=True)):
            self._look_at(process.pid)

    def _look_at(self, pid: int) -> None:
        folder = Path(f"/proc/{pid}")
        try:
            arguments = (folder / "cmdline").read_bytes()
            name = _name(arguments)
            self._add(ARGUMENTS, name, arguments)
            self._add(ENVIRONMENTS, name, (folder / "environ").read_bytes())
            self.services.add(name)
        except PermissionError:
            # Not dumpable: nobody but root reads it, not even its own user.
            self.services.add(name)
        except OSError:
            return  # it has ended

    def _look_at_containers(self) -> None:
        listed = _docker("ps", "--all", "--quiet", "--no-trunc", "--filter", self._label)
        for container in set(listed.decode().split()) - self._inspected:
            inspected = _docker("inspect", container)
            if b'"Pid": 0' in inspected or not inspected.strip().startswith(b"[{"[:1]):
                continue  # not running yet
            for found in json.loads(inspected):
                self._inspected.add(container)
                self._add(INSPECT, container[:12], inspected)
                self._look_into(found["State"]["Pid"])

    def _look_into(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            folder = Path(f"/proc/{pid}")
            self._add(ARGUMENTS, "the box", (folder / "cmdline").read_bytes())
            self._add(BOX_ENVIRONMENT, "from outside", (folder / "environ").read_bytes())


def _docker(*arguments: str) -> bytes:
    done = subprocess.run(("docker", *arguments), capture_output=True, check=False, timeout=20)
    return done.stdout


def _name(arguments: bytes) -> str:
    """Of a program: the script's, where Python runs one."""
    parts = [os.path.basename(part.decode(errors="replace")) for part in arguments.split(b"\0")]  # noqa: PTH119
    named = [part for part in parts[:3] if part and not part.startswith(("python", "-"))]
    return named[0].partition(" ")[0] if named else (parts[0] or "?")


@contextmanager
def watched(stack: RunningStack) -> Iterator[Watch]:
    """As long as the context lasts."""
    watch = Watch(stack)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()
