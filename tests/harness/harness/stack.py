"""The whole local stack, started by its own command, on free ports and in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import nats.errors
import psutil
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from harness.missed import Missed
from harness.stored import messages_of
from patchwright_common.errors import Permanent
from patchwright_common.requests import OPERATOR
from patchwright_ingest.trigger import LABEL
from patchwright_local import state
from patchwright_local.connection import connected
from patchwright_local.demo_app import REPOSITORY
from patchwright_runner.settings import RunnerSettings, pick_backend
from standin_github.client import StandinGitHub

START_TIMEOUT = 90.0
FREE_PORTS = {
    f"PATCHWRIGHT_{name}_PORT": "0" for name in ("NATS", "INGEST", "GITHUB", "MODEL", "TRACES")
}

ONE_PERSON = {
    "PATCHWRIGHT_REQUESTS_PER_SENDER": "0",
    "PATCHWRIGHT_JOBS_PER_REPOSITORY": "64",
    "PATCHWRIGHT_JOBS_PER_INSTALLATION": "64",
}
"""In tests one person asks for everything, in one repository."""


class RunningStack:
    """What a test does with a stack: ask as a person, look at GitHub, kill services."""

    def __init__(self, stack: state.Stack, folder: state.Folder) -> None:
        self.at = stack
        self.folder = folder
        self.token = str(json.loads((folder.root / "demo.json").read_text())["person_token"])
        self.repository = REPOSITORY

    def github(self) -> StandinGitHub:
        """The stand-in's client; use it as a context."""
        return StandinGitHub(self.at.github_url)

    async def ask(self, title: str, body: str = "", *, label: bool = True) -> int:
        """Open an issue, with the label that makes it a request; its number.

        Waits for ingest, because GitHub sends a webhook once.
        """
        await self.ready()
        labels = [LABEL] if label else []
        async with self.github() as github:
            issue = await github.open_issue(
                self.repository, title, body, token=self.token, labels=labels
            )
        return int(issue["number"])

    async def comments(self, number: int) -> list[dict[str, Any]]:
        """The App's comments on an issue."""
        async with self.github() as github:
            found = await github.comments(self.repository, number)
        return [c for c in found if c["user"].endswith("[bot]")]

    async def pulls(self, number: int) -> list[dict[str, Any]]:
        """Pull requests whose branch belongs to a job of this issue."""
        async with self.github() as github:
            found = await github.pulls(self.repository)
        return [p for p in found if p["head_ref"].startswith(f"patchwright/{number}-")]

    async def events(self, number: int) -> list[tuple[int, str]]:
        """Sequence and subject of every stored event about an issue's jobs, oldest first."""
        async with self._jetstream() as js:
            return [
                (message.seq or 0, message.subject or "")
                async for message in messages_of(js, "PW_EVENTS")
                if f"-{number}-" in (message.subject or "")
            ]

    async def until(
        self, number: int, event: str, *, count: int = 1, timeout: float = 60.0
    ) -> dict[str, Any]:
        """The newest event of that kind (`job.finished`) about an issue, once there are `count`."""
        deadline = time.monotonic() + timeout
        async with self._jetstream() as js:
            while True:
                subjects = await _subjects(js, f"pw.evt.{event}.*", f"-{number}-")
                if sum(subjects.values()) >= count:
                    found = [await js.get_last_msg("PW_EVENTS", subject) for subject in subjects]
                    newest = max(found, key=lambda message: message.seq or 0)
                    decoded: dict[str, Any] = json.loads(newest.data or b"")
                    return decoded
                if time.monotonic() > deadline:
                    there = sorted(await _subjects(js, "pw.evt.>", f"-{number}-"))
                    raise AssertionError(f"no {event} for issue {number} in time, only {there}")
                await asyncio.sleep(0.05)

    def nats(self, identity: str = OPERATOR) -> AbstractAsyncContextManager[Client]:
        """A connection as one of the stack's identities."""
        # Tests kill the server, and look the next moment.
        return connected(self.at.nats_url, self.at.nkey(identity), identity=identity, attempts=10)

    @asynccontextmanager
    async def _jetstream(self) -> AsyncIterator[JetStreamContext]:
        async with self.nats() as client:
            yield client.jetstream(timeout=10)

    async def settled(self, number: int, *, timeout: float = 60.0) -> dict[str, Any]:
        """The issue's `job.finished`, and then a moment in which nothing more may happen."""
        finished = await self.until(number, "job.finished", timeout=timeout)
        await asyncio.sleep(1.0)
        return finished

    async def trace(self, number: int) -> list[dict[str, Any]]:
        """The spans of the issue's trace in Jaeger's JSON, with `service` and `parent` added."""
        finished = await self.until(number, "job.finished")
        async with self._jetstream() as js:
            subject = f"pw.evt.job.finished.{finished['job_id']}"
            message = await js.get_last_msg("PW_EVENTS", subject)
        trace_id = (message.headers or {})["traceparent"].split("-")[1]
        await asyncio.sleep(1.0)  # the exporters' batches
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{self.at.trace_url}/api/traces/{trace_id}")
        [trace] = answer.raise_for_status().json()["data"]
        for span in trace["spans"]:
            span["service"] = trace["processes"][span["processID"]]["serviceName"]
            span["parent"] = next((r["spanID"] for r in span["references"]), None)
        return list(trace["spans"])

    async def redeliver(self, delivery_id: int) -> None:
        """Ask GitHub to send a delivery again, as the App itself can."""
        made = json.loads((self.folder.root / "demo.json").read_text())
        now = int(time.time())
        claims = {"iat": now - 60, "exp": now + 300, "iss": made["app_id"]}
        token = jwt.encode(claims, made["private_key"], algorithm="RS256")
        async with self.github() as github:
            await github.api("POST", f"/app/hook/deliveries/{delivery_id}/attempts", token=token)

    @asynccontextmanager
    async def missed(self) -> AsyncIterator[Missed]:
        """The deliveries that ingest did not take."""
        missed = Missed(f"{self.at.github_url}/api/v3", self.folder.root / "demo.json")
        try:
            yield missed
        finally:
            await missed.aclose()

    @asynccontextmanager
    async def nothing_missed(self, pause: float = 1.0) -> AsyncIterator[None]:
        """Meanwhile somebody looks after what ingest does not take."""

        async def look() -> None:
            async with self.missed() as missed:
                while True:
                    await missed.again()
                    await asyncio.sleep(pause)

        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking

    def processes(self) -> dict[str, psutil.Process]:
        """The supervisor's children by service name; a server of a NATS cluster by its own."""
        found = {}
        for child in psutil.Process(self.at.pid).children():
            try:
                command = child.cmdline()
            except psutil.Error:
                continue  # it has just ended
            for part in command[:2]:
                name = Path(part).name
                if name.startswith(("patchwright-", "nats-server", "standin-")):
                    if "--name" in command:
                        name = command[command.index("--name") + 1]
                    found[name.removeprefix("patchwright-")] = child
        return found

    def kill(self, service: str) -> None:
        """SIGKILL; the supervisor starts it again."""
        os.kill(self.processes()[service].pid, signal.SIGKILL)

    @asynccontextmanager
    async def down(self, service: str) -> AsyncIterator[None]:
        """Meanwhile it is not there: the one that is started again is held before it serves.

        NATS is up so fast that it may be held a moment later: silent then, and not gone.
        """
        killed = self.processes()[service]
        killed.kill()
        async with asyncio.timeout(15):
            while (held := self.processes().get(service)) in (None, killed):
                await asyncio.sleep(0.005)
        held.suspend()
        try:
            yield
        finally:
            held.resume()

    async def ready(self, *, timeout: float = 30.0) -> None:
        """Return when webhooks are taken in."""
        url = self.at.webhook_url.replace("/webhooks/github", "/readyz")
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(timeout):
            while True:
                try:
                    if (await http.get(url)).is_success:
                        return
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.05)

    def log(self) -> str:
        """All that the services said."""
        return "\n".join(path.read_text() for path in sorted(self.folder.logs.glob("*.log")))


async def _subjects(js: JetStreamContext, pattern: str, part: str) -> dict[str, int]:
    try:
        info = await js.stream_info("PW_EVENTS", subjects_filter=pattern)
    except (nats.errors.Error, TimeoutError):
        return {}  # it may be down because a test killed it
    found = info.state.subjects or {}
    return {subject: count for subject, count in found.items() if part in subject}


@contextmanager
def running_stack(
    root: Path, sandbox: str, *, program: tuple[str, ...] = (), **environment: str
) -> Iterator[RunningStack]:
    """`patchwright up` as a process; stopped by SIGTERM at the end.

    `program` is another one than `patchwright` that takes the same arguments.
    """
    folder = state.Folder(root / "home")
    patchwright = (str(Path(sys.executable).parent / "patchwright"),)
    command = (*(program or patchwright), "up", f"--sandbox={sandbox}")
    home = {"PATCHWRIGHT_HOME": str(folder.root), "HOME": str(root), "PATH": os.environ["PATH"]}
    log = root / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=home | FREE_PORTS | ONE_PERSON | environment,
            stdout=output,
            stderr=output,
            cwd=root,
        )
    try:
        yield RunningStack(_wait(process, folder, log), folder)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _wait(process: subprocess.Popen[bytes], folder: state.Folder, log: Path) -> state.Stack:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        stack = state.running(folder)
        if stack:
            return stack
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the stack did not come up:\n{log.read_text()[-4000:]}")


async def require(sandbox: str) -> None:
    """A missing sandbox skips on a person's machine and fails where CI promised it."""
    try:
        await pick_backend(RunnerSettings(sandbox=sandbox), os.environ)
    except Permanent as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(missing.reason)
        pytest.skip(missing.reason)
