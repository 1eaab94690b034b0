"""Where the local stack keeps its things, and what a second terminal can know of it."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

from patchwright_common.requests import OPERATOR
from patchwright_local.identities import Identities
from patchwright_local.private import write_private

STOP_TIMEOUT = 60.0
"""Seconds for the whole stack to stop."""


class Folder:
    """`.patchwright` in the checkout: data of the local stack, safe to delete while it is down."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = root / "logs"
        self.state = root / "stack.json"
        self.lock = root / "lock"
        self.channel = root / "channel"
        """The relay's address with which the App was set up; whoever knows it can listen."""
        self.app = root / "app.json"
        """There once a real App was set up in the browser: what is public of it."""

    def make(self) -> None:
        """Create it, for its owner alone: it holds the demo App's key."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def held(self) -> Iterator[None]:
        """For one stack alone: two would write into the same store. Raises `BlockingIOError`.

        The kernel frees it with its holder.
        """
        with self.lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def vault_key(self, states: Path) -> Path:
        """Where the vault's key is: in `states`, apart from what it opens and from the checkout.

        People copy, archive and share checkouts. One that lies in here already stays.
        """
        beside, own = self.root / "vault.key", self.root / "id"
        if beside.exists():
            return beside
        if not own.exists():
            write_private(own, secrets.token_hex(8) + "\n")
        return states / f"{own.read_text().strip()}.key"

    def sub(self, name: str) -> Path:
        """A folder inside it."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path


class Stack(BaseModel):
    """`stack.json`: the running stack, as its supervisor wrote it. Holds no secret."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: float
    """The supervisor's start in seconds since the epoch: a pid alone may be somebody else's."""
    sandbox: str
    nats_url: str
    nats_keys: Path
    """The folder with the seed files by which people and services are known to NATS."""
    webhook_url: str
    github_url: str
    """Empty when the stack works for a real GitHub."""
    model: str
    scripted: bool
    trace_url: str

    def nkey(self, identity: str = OPERATOR) -> Path:
        """The seed file of an identity."""
        return Identities(self.nats_keys).seed(identity)

    def is_running(self) -> bool:
        """Whether that very process is there."""
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) < 1)
        except psutil.Error:
            return False

    def stop(self) -> None:
        """Ask the supervisor to stop everything and wait. Raises `TimeoutError`."""
        if self.is_running():
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while self.is_running():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.05)


def running(folder: Folder) -> Stack | None:
    """The stack that runs from this folder, if one does."""
    try:
        stack = Stack.model_validate_json(folder.state.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return stack if stack.is_running() else None


def write(folder: Folder, stack: Stack) -> None:
    """Replace the file at once, so that nobody reads half of it."""
    temporary = folder.state.with_suffix(".new")
    temporary.write_text(stack.model_dump_json(indent=2))
    temporary.replace(folder.state)
