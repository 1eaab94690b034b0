"""The first process of a box: takes requests one by one and dies with its owner.

Started by `boot.py`'s few lines of Python with its configuration already read. It ends when
its input does, which the kernel closes with the runner, or at its wall deadline. Signals of
its parent's death do not help: the parent has no right any more to kill another user.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from patchwright_runner.sandbox.inside import (
    doors,
    edit,
    packing,
    privileges,
    process,
    restore,
    seccomp,
    tree,
    wire,
)

SHELL = "/bin/bash"
_GIT = "/usr/bin/git"
_GIT_SECONDS = 240.0
_GIT_OUTPUT = 1 << 30
_PIECE = 1 << 20


class Configuration(NamedTuple):
    """What the runner decides about a box."""

    workspace: str
    environment: dict[str, str]
    wall_seconds: float
    output_bytes: int
    open_files: int
    file_bytes: int
    data_bytes: Any = None
    processes: Any = None
    become: Any = None
    """User and group id to change to, for a box that starts as root; else None."""
    owned: Any = ()
    """Directories to hand to that user first."""


class Spoiled(Exception):
    """Another box would do what this one cannot; the text says what."""


class Box:
    """Answers requests; everything that it starts is gone before the answer."""

    def __init__(self, configuration: Configuration, channel: wire.Channel) -> None:
        self._configuration = configuration
        self._channel = channel
        self._editor = edit.Editor(configuration.workspace)
        self._untouched: str | None = None
        """The commit that the workspace is at, as long as nothing of the agent's has run."""
        self._written: tree.Written | None = None
        self._rlimits = process.Rlimits(
            configuration.open_files,
            configuration.file_bytes,
            configuration.data_bytes,
            configuration.processes,
        )

    def serve(self) -> None:
        """Until the runner closes our input."""
        while True:
            frame = self._channel.receive()
            header = frame.header
            if self._channel.cancelled(header["id"]):
                continue
            try:
                result, payload = self._answer(header, frame.payload)
            except edit.Refusal as error:
                self._fail(header, "tool", str(error))
            except Spoiled as error:
                self._fail(header, "box", str(error))
            except packing.Unpackable as error:
                self._fail(header, "tool", str(error))
            except tree.GitFailed as error:
                self._fail(header, "git", str(error))
            except OSError as error:
                # The agent can repeat a call of a tool; what it did to the tree is final.
                kind = "tool" if header["op"] in ("run", "edit") else "git"
                self._fail(header, kind, f"{error.filename or 'The box'}: {error.strerror}.")
            else:
                self._channel.send({"id": header["id"], "result": result}, payload)

    def _fail(self, header: dict[str, Any], kind: str, text: str) -> None:
        self._channel.send({"id": header["id"], "error": text, "kind": kind})

    def _answer(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        operations: dict[str, Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]]] = {
            "run": self._run,
            "edit": self._edit,
            "checkout": self._checkout,
            "collect": self._collect,
            "restore": self._restore,
            "pack": self._pack,
            "unpack": self._unpack,
        }
        if header["op"] in ("run", "edit", "restore"):
            self._untouched = None
        return operations[header["op"]](header, payload)

    def _run(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        size = len(payload) - header["stdin"]
        command = process.Command(
            [SHELL, "-c", payload[:size].decode("utf-8", "surrogateescape")],
            {**self._configuration.environment, **header["environment"]},
            self._configuration.workspace,
            header["timeout"],
            self._configuration.output_bytes,
            self._rlimits,
            payload[size:],
        )
        number = header["id"]
        company = doors.Beside(
            header["doors"],
            header["heard"],
            lambda about, data: self._channel.send({"id": number, **about}, data),
        )
        try:
            outcome = self._execute(number, command, company)
        finally:
            company.close()
        about = {
            "head": len(outcome.head),
            "dropped": outcome.dropped,
            "exit_code": outcome.exit_code,
            "timed_out": outcome.timed_out,
            "duration": outcome.duration,
        }
        return about, outcome.head + outcome.tail

    def _execute(
        self, request: int, command: process.Command, company: doors.Beside | None = None
    ) -> process.Outcome:
        def wanted() -> bool:
            return self._wanted(request, company)

        return process.run(command, self._channel.source, wanted, company)

    def _wanted(self, request: int, company: doors.Beside | None = None) -> bool:
        self._channel.pump(0)
        if company is not None:
            for frame in self._channel.beside(request):
                company.take(frame.header, frame.payload)
        return not self._channel.cancelled(request)

    def _edit(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        texts = _split(payload.decode(), header["lengths"])
        if header["tool"] == "view":
            answer = self._editor.view(texts[0], header["range"])
        elif header["tool"] == "create":
            answer = self._editor.create(*texts)
        elif header["tool"] == "str_replace":
            answer = self._editor.str_replace(*texts)
        else:
            answer = self._editor.insert(texts[0], header["line"], texts[1])
        return {}, answer.encode("utf-8", "replace")

    def _checkout(self, header: dict[str, Any], _: bytes) -> tuple[dict[str, Any], bytes]:
        git, workspace, base = (
            self._git(header["id"]),
            self._configuration.workspace,
            header["base"],
        )
        before, self._untouched = self._untouched, None
        if before is None:
            tree.checkout(git, workspace, base)
        elif before != base:
            _move(git, workspace, before, base)
        self._untouched = base
        self._written = tree.written(workspace, base)
        return {}, b""

    def _collect(self, header: dict[str, Any], _: bytes) -> tuple[dict[str, Any], bytes]:
        git = self._git(header["id"])
        workspace = self._configuration.workspace
        believed = self._written if header["quick"] else None
        for changed in tree.collect(git, workspace, header["base"], header["most"], believed):
            if not self._wanted(header["id"]):
                break
            item = {"path": changed.path, "mode": changed.mode, "size": changed.size}
            pieces = _pieces(changed.content)
            for place, piece in enumerate(pieces):
                more = place + 1 < len(pieces)
                self._channel.send({"id": header["id"], "item": {**item, "more": more}}, piece)
        return {}, b""

    def _restore(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        workspace = self._configuration.workspace
        restore.restore(workspace, header["path"], header["mode"], payload, header["at"])
        return {}, b""

    def _pack(self, header: dict[str, Any], _: bytes) -> tuple[dict[str, Any], bytes]:
        workspace = self._configuration.workspace
        listed = self._git(header["id"])("ls-files", "-z", "--cached", directory=workspace)
        tracked = {os.fsdecode(name) for name in listed.split(b"\0") if name}

        def send(piece: bytes) -> None:
            if not self._wanted(header["id"]):
                raise packing.Unpackable("Nobody wants it any more.")
            self._channel.send({"id": header["id"], "item": {}}, piece)

        packing.pack(self._roots(), tracked, packing.Sink(send, header["most"]))
        return {}, b""

    def _unpack(self, header: dict[str, Any], _: bytes) -> tuple[dict[str, Any], bytes]:
        def receive() -> bytes:
            self._channel.send({"id": header["id"], "item": {"want": True}})
            frame = self._channel.receive_for(header["id"])
            if frame is None:
                raise packing.Unpackable("Nobody wants it any more.")
            return frame.payload

        packing.unpack(self._roots(), packing.Source(receive))
        return {}, b""

    def _roots(self) -> dict[str, str]:
        home = self._configuration.environment["HOME"]
        return {"workspace": self._configuration.workspace, "home": home}

    def _git(self, request: int) -> tree.Git:
        def git(
            *arguments: str,
            directory: str = "/",
            stdin: bytes = b"",
            environment: dict[str, str] | None = None,
            accept: tuple[int, ...] = (0,),
            seconds: float = _GIT_SECONDS,
        ) -> bytes:
            outcome = self._execute(
                request,
                process.Command(
                    [_GIT, *arguments],
                    {
                        **self._configuration.environment,
                        **tree.git_environment(),
                        **(environment or {}),
                    },
                    directory,
                    seconds,
                    _GIT_OUTPUT,
                    self._rlimits,
                    stdin,
                    split_errors=True,
                ),
            )
            if outcome.exit_code not in accept or outcome.dropped:
                raise tree.GitFailed(_complaint(arguments, outcome))
            return outcome.head + outcome.tail

        return git


def _move(git: tree.Git, workspace: str, before: str, after: str) -> None:
    try:
        tree.move(git, workspace, before, after)
    except tree.GitFailed:
        # A file of the set-up's stands where the other commit has one of its own.
        try:
            tree.checkout(git, workspace, after)
        except tree.GitFailed as error:
            raise Spoiled(str(error)) from error


def _complaint(arguments: tuple[str, ...], outcome: process.Outcome) -> str:
    said = outcome.errors.decode("utf-8", "replace").strip()
    how = "took too long" if outcome.timed_out else f"ended with {outcome.exit_code}"
    return f"git {' '.join(arguments[:3])} {how}: {said}"


def _split(text: str, lengths: list[int]) -> list[str]:
    """Texts travel one after the other: the header says how many characters each has."""
    texts, start = [], 0
    for length in lengths:
        texts.append(text[start : start + length])
        start += length
    return texts


def _pieces(content: bytes) -> list[bytes]:
    return [content[at : at + _PIECE] for at in range(0, len(content), _PIECE)] or [b""]


def _set_deadline(seconds: float) -> None:
    """The agent can send us the alarm's signal but cannot make it come true early."""
    end = time.monotonic() + seconds

    def check(_number: int, _frame: object) -> None:
        if time.monotonic() >= end:
            os.write(2, b"the box reached its wall deadline\n")
            os._exit(3)

    signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, seconds + 0.01)


def main(configuration: dict[str, Any]) -> None:
    """Take over as process 1; never returns."""
    settings = Configuration(**configuration)
    if os.getpid() != 1:
        raise RuntimeError("the box's program must be the first process of a PID namespace")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    os.umask(0o022)
    if settings.become is not None:
        privileges.become_agent(settings.become, list(settings.owned))
    privileges.confine(seccomp.program())
    privileges.verify()
    _set_deadline(settings.wall_seconds)
    channel = wire.Channel(os.dup(0), os.dup(1))
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(quiet, 1)
    channel.send({"id": 0, "result": {"python": platform.python_version()}})
    try:
        Box(settings, channel).serve()
    except wire.Closed:
        sys.stderr.flush()
        os._exit(0)
