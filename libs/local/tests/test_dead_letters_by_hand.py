"""The documented commands, run as they stand in the documentation, by the real NATS CLI."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.nats import NatsServer
from patchwright_common.bus import Bus
from patchwright_common.events import JobFinished
from patchwright_common.flow import (
    BODY_REFERENCE,
    JOB_FINISHED,
    RUNNER_JOB_READIED,
    TRIAGE_DELIVERY_RECEIVED,
)
from patchwright_common.requests import OPERATOR

from .letters import BODY, consuming, count, deliver, held, letter, request, settled

ROOT = Path(__file__).parents[3]
DEAD_LETTERS = ROOT / "docs" / "dead-letters.md"
README = ROOT / "README.md"
INSTALL = ROOT / "tests" / "install-tools"
ADDRESS = "nats://127.0.0.1:4222"
KEY = ".patchwright/identities/operator.nk"


def blocks(page: Path, *, after: str) -> list[str]:
    """The shell commands below that heading."""
    text = page.read_text().split(after, 1)[1]
    return re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


WHERE, LOOK, AGAIN, FIND, ANEW, FORGET = blocks(DEAD_LETTERS, after="## With the plain NATS CLI")
[REPLAY] = blocks(README, after="### Replay with the plain NATS CLI")


@dataclass
class Terminal:
    """A shell with a terminal, in which the CLI is found."""

    nats: NatsServer
    cli: Path
    folder: Path

    async def type(self, *commands: str, **variables: str) -> str:
        """All that is shown. Fails when a command does."""
        script = "\n".join(commands).replace(ADDRESS, self.nats.address)
        script = script.replace(KEY, str(self.nats.identities.seed(OPERATOR)))
        environment = {
            "PATH": f"{self.cli.parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TERM": "dumb",
            **variables,
        }
        own, theirs = os.openpty()
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            cwd=self.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown = asyncio.create_task(asyncio.to_thread(_shown, own))
        try:
            code = await asyncio.wait_for(process.wait(), 60)
        finally:
            if process.returncode is None:
                process.kill()
            text = await shown
        assert code == 0, text
        return text


def _shown(terminal: int) -> str:
    data = b""
    try:
        while piece := os.read(terminal, 65536):
            data += piece
    except OSError:
        pass  # the other side is closed
    finally:
        os.close(terminal)
    return re.sub(r"\x1b\[[0-9;]*m", "", data.decode(errors="replace"))


@pytest.fixture(scope="session")
def cli() -> Path:
    """The NATS CLI. No package brings it: without a Go toolchain this cannot be tried."""
    go = shutil.which("go")
    folders = [str(Path.home() / "go" / "bin")]
    if go:
        asked = subprocess.run(
            (go, "env", "GOBIN", "GOPATH"), capture_output=True, text=True, check=True
        )
        gobin, gopath = asked.stdout.splitlines()
        folders += [gobin, f"{gopath}/bin"]
    found = shutil.which("nats", path=":".join([*folders, os.environ["PATH"]]))
    if found:
        return Path(found)
    if go:
        pytest.fail("The NATS CLI is missing, and Go is there to install it: tests/install-tools")
    pytest.skip("NOT TRIED: there is no NATS CLI and no Go toolchain to install it")


@pytest.fixture
def terminal(nats: NatsServer, cli: Path, tmp_path: Path) -> Terminal:
    return Terminal(nats, cli, tmp_path)


async def test_letters_are_looked_at(terminal: Terminal, bus: Bus) -> None:
    await deliver(bus)
    async with consuming(bus, TRIAGE_DELIVERY_RECEIVED):
        number = await letter(bus, TRIAGE_DELIVERY_RECEIVED)
    shown = await terminal.type(WHERE, LOOK, SEQ=str(number))
    assert shown.count("pw.dlq.triage.delivery.received.none") >= 3
    assert shown.count("Patchwright-Subject: pw.github.issues.labeled.7") == 2


@pytest.mark.parametrize("large", [False, True])
async def test_delivery_is_sent_again_as_it_was(terminal: Terminal, bus: Bus, large: bool) -> None:
    """Byte for byte, though its text looks like one of the CLI's templates."""
    body, more = (b"", {BODY_REFERENCE: "ab" * 32}) if large else (BODY, {})
    await deliver(bus, body=body, **more)
    async with consuming(bus, TRIAGE_DELIVERY_RECEIVED) as handler:
        number = await letter(bus, TRIAGE_DELIVERY_RECEIVED)
        handler.broken = False
        await terminal.type(WHERE, AGAIN, SEQ=str(number))
        await settled(bus, TRIAGE_DELIVERY_RECEIVED)
    [again] = handler.handled
    assert (again.body, again.headers["x-github-delivery"]) == (body, "d-1")
    assert again.headers.get(BODY_REFERENCE.lower()) == more.get(BODY_REFERENCE)
    assert "patchwright-reason" not in again.headers
    assert not await held(bus, number)


async def test_sending_again_that_is_cut_off_can_be_repeated(terminal: Terminal, bus: Bus) -> None:
    await deliver(bus)
    async with consuming(bus, TRIAGE_DELIVERY_RECEIVED):
        number = await letter(bus, TRIAGE_DELIVERY_RECEIVED)
    *sending, deleting = AGAIN.strip().splitlines()
    assert "rmm" in deleting
    await terminal.type(WHERE, *sending, SEQ=str(number))
    assert await held(bus, number)
    await terminal.type(WHERE, AGAIN, SEQ=str(number))
    assert await count(bus, "PW_GITHUB") == 2
    assert not await held(bus, number)


async def test_failed_job_is_asked_for_again(terminal: Terminal, bus: Bus) -> None:
    wanted = await deliver(bus)
    await request(bus)
    async with consuming(bus, RUNNER_JOB_READIED):
        number = await letter(bus, RUNNER_JOB_READIED)
    shown = await terminal.type(WHERE, FIND, SEQ=str(number))
    assert '"delivery_id": "d-1"' in shown
    assert '"repository": 7' in shown
    await terminal.type(WHERE, ANEW, SEQ=str(number), NUMBER=str(wanted))
    again = await bus.js.get_msg("PW_GITHUB", seq=wanted + 1)
    assert (again.subject, again.data) == ("pw.github.issues.labeled.7", BODY)
    assert again.headers == {"Patchwright-Replay": f"redrive-{number}"}
    assert not await held(bus, number)


async def test_letter_is_forgotten(terminal: Terminal, bus: Bus) -> None:
    await deliver(bus)
    async with consuming(bus, TRIAGE_DELIVERY_RECEIVED):
        number = await letter(bus, TRIAGE_DELIVERY_RECEIVED)
    await terminal.type(WHERE, FORGET, SEQ=str(number))
    assert not await held(bus, number)
    assert await count(bus, "PW_GITHUB") == 1


async def test_replay_of_the_readme_sends_the_very_bytes(terminal: Terminal, bus: Bus) -> None:
    await deliver(bus, "d-1")
    await deliver(bus, "d-2")
    job = "1008-1-issue-1"
    finished = JobFinished(job_id=job, result="answer", url="https://x/1")
    await bus.emit(JOB_FINISHED, finished, step="finished")
    shown = await terminal.type(REPLAY)
    assert "https://x/1" in shown
    again = [await bus.js.get_msg("PW_GITHUB", seq=sequence) for sequence in (3, 4)]
    assert [message.data for message in again] == [BODY, BODY]
    assert [message.headers for message in again] == [
        {"x-github-delivery": "d-2"},
        {"Patchwright-Replay": "again-1"},
    ]


def test_one_version_of_the_cli_is_named_everywhere(cli: Path) -> None:
    [pinned] = re.findall(r"^nats_cli=(\S+)$", INSTALL.read_text(), re.MULTILINE)
    for page in (DEAD_LETTERS, README):
        assert re.findall(r"natscli/nats@([^\s`)]+)", page.read_text()) == [pinned]
    told = subprocess.run((str(cli), "--version"), capture_output=True, text=True, check=True)
    assert (told.stdout + told.stderr).strip() == pinned
