"""Runs one command at a time in the box and leaves nothing of it behind.

The box's program is process 1 of its own PID namespace, so one signal to "everyone" reaches
daemons, orphans and fork bombs alike, without a race and without their consent.
"""

# os.path and os.open: names that are no UTF-8, flags that pathlib does not have.
# ruff: noqa: PTH123

from __future__ import annotations

import os
import resource
import selectors
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from patchwright_runner.sandbox.inside import privileges

GRACE_SECONDS = 2.0
_CHUNK = 1 << 16
_ERRORS_KEPT = 4096


class Rlimits(NamedTuple):
    """Per-process limits of commands; None leaves the inherited one."""

    files: int
    file_bytes: int
    data_bytes: int | None = None
    processes: int | None = None


class Command(NamedTuple):
    """What to run, and how much of its output to keep."""

    argv: list[str]
    environment: dict[str, str]
    directory: str
    timeout: float
    keep_bytes: int
    rlimits: Rlimits
    stdin: bytes = b""
    split_errors: bool = False
    """Keep standard error out of the output, and only its beginning."""


class Outcome(NamedTuple):
    """How it ended; `dropped` counts the bytes left out between head and tail."""

    head: bytes
    tail: bytes
    dropped: int
    exit_code: int | None
    timed_out: bool
    duration: float
    errors: bytes = b""


class Output:
    """Keeps the first and the last half of what is written to it."""

    def __init__(self, keep: int) -> None:
        self._half = max(keep // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def write(self, data: bytes) -> None:
        """Take more; what falls between head and tail is only counted."""
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:] if room > 0 else data
        excess = len(self._tail) - self._half
        if excess > 0:
            self._dropped += excess
            del self._tail[:excess]

    def parts(self) -> tuple[bytes, bytes, int]:
        """Head, tail, and how many bytes were dropped between them."""
        return bytes(self._head), bytes(self._tail), self._dropped


def kill_everything(number: int) -> None:
    """Signal every process in this PID namespace but ourselves, which must be process 1."""
    if os.getpid() != 1:
        raise RuntimeError("refusing to signal everything outside a PID namespace of our own")
    try:
        os.kill(-1, number)
    except ProcessLookupError:
        return


class Company:
    """What goes on beside a command; this one is nothing."""

    def attend(self, selector: selectors.BaseSelector) -> None:
        """Register what the command's loop shall wait for, with what it shall call as data."""

    def room(self) -> int:
        """How many bytes of output may be read now; at 0 the command is held back."""
        return _CHUNK

    def hear(self, data: bytes) -> None:
        """A piece of the output."""


def run(
    command: Command, watched: int, wanted: Callable[[], bool], company: Company | None = None
) -> Outcome:
    """Run to the end, the time limit, or until `wanted` says no after input on `watched`."""
    began = time.monotonic()
    output = Output(command.keep_bytes)
    reader, writer = os.pipe()
    errors = os.memfd_create("errors")
    pid = _spawn(command, writer, errors if command.split_errors else writer)
    os.close(writer)
    os.set_blocking(reader, False)
    company = company or Company()
    supervisor = _Supervisor(pid, reader, output, began + command.timeout, company)
    try:
        supervisor.wait(watched, wanted)
    finally:
        _sweep(supervisor)
        supervisor.drain()
        os.close(reader)
        complaint = os.pread(errors, _ERRORS_KEPT, 0)
        os.close(errors)
    code = None if supervisor.timed_out else supervisor.status
    duration = time.monotonic() - began
    return Outcome(*output.parts(), code, supervisor.timed_out, duration, complaint)


class _Supervisor:
    """Reads output, reaps whoever ends, watches the clock."""

    def __init__(
        self, pid: int, reader: int, output: Output, deadline: float, company: Company
    ) -> None:
        self.pid = pid
        self.status: int | None = None
        self.timed_out = False
        self._reader = reader
        self._output = output
        self._deadline = deadline
        self._company = company
        self._reading = False
        self._ended = False

    def wait(self, watched: int, wanted: Callable[[], bool]) -> None:
        wake, poke = os.pipe()
        os.set_blocking(poke, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(poke, warn_on_full_buffer=False)
        try:
            with selectors.DefaultSelector() as selector:
                for descriptor in (watched, wake):
                    selector.register(descriptor, selectors.EVENT_READ)
                self._company.attend(selector)
                self._loop(selector, wake, watched, wanted)
        finally:
            signal.set_wakeup_fd(-1)
            os.close(wake)
            os.close(poke)

    def _loop(
        self,
        selector: selectors.BaseSelector,
        wake: int,
        watched: int,
        wanted: Callable[[], bool],
    ) -> None:
        self.reap()
        while self.status is None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                if self.timed_out:
                    return
                self.timed_out = True
                self._deadline += GRACE_SECONDS - left
                kill_everything(signal.SIGTERM)
                continue
            self._watch_output(selector)
            events = selector.select(left)
            ready = {key.fd for key, _ in events}
            for key, mask in events:
                if key.data is not None:
                    key.data(mask)
            if self._reader in ready and not self.read():
                selector.unregister(self._reader)
                self._reading, self._ended = False, True
            if wake in ready:
                os.read(wake, _CHUNK)
                self.reap()
            if watched in ready and not wanted():
                return

    def _watch_output(self, selector: selectors.BaseSelector) -> None:
        wanted = not self._ended and self._company.room() > 0
        if wanted and not self._reading:
            selector.register(self._reader, selectors.EVENT_READ)
        elif self._reading and not wanted:
            selector.unregister(self._reader)
        self._reading = wanted

    def read(self) -> bool:
        """Take one chunk; False when there is none."""
        room = self._company.room()
        try:
            # Without room we are at the end, and what is left goes out all the same.
            data = os.read(self._reader, min(_CHUNK, room) if room > 0 else _CHUNK)
        except BlockingIOError:
            return False
        self._output.write(data)
        self._company.hear(data)
        return bool(data)

    def drain(self) -> None:
        """What was in the pipe when the last writer ended: at most the pipe's size."""
        while self.read():
            pass

    def reap(self) -> bool:
        """Collect the dead, orphans included; False when no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code


def _sweep(supervisor: _Supervisor) -> None:
    """Kill until nobody is left; orphans become our children, so waiting for all suffices."""
    kill_everything(signal.SIGKILL)
    while supervisor.reap():
        time.sleep(0.001)
        kill_everything(signal.SIGKILL)


def _spawn(command: Command, output: int, errors: int) -> int:
    source = os.memfd_create("stdin")
    with open(source, "wb", closefd=False) as file:
        file.write(command.stdin)
    os.lseek(source, 0, os.SEEK_SET)
    pid = os.fork()
    if pid:
        os.close(source)
        return pid
    try:
        _become(command, source, output, errors)
    except BaseException as error:  # noqa: BLE001 - never return into the parent's code
        os.write(2, f"cannot start {command.argv[0]}: {error}\n".encode())
    os._exit(127)


def _become(command: Command, source: int, output: int, errors: int) -> None:
    os.setsid()
    os.dup2(source, 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    _limit(command.rlimits)
    os.chdir(command.directory)
    os.execve(command.argv[0], command.argv, command.environment)  # noqa: S606 - argv is the box's


def _limit(limits: Rlimits) -> None:
    """The first to be killed when memory runs out is a command, not the box's program.

    The kernel lets a process set its score only while it is dumpable, which the box's
    program, and so its fresh child, is not.
    """
    privileges.set_dumpable(True)
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: limits.files,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_DATA: limits.data_bytes,
        resource.RLIMIT_NPROC: limits.processes,
    }
    for kind, value in wanted.items():
        if value is not None:
            hard = resource.getrlimit(kind)[1]
            allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (allowed, allowed))
