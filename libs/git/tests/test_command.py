"""The real git, on repositories and servers that mean no good."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from patchwright_common.errors import Retry
from patchwright_git.command import GitFailed, git

TOKEN = SecretStr("ghs_made_up_for_this_test")
BASIC = base64.b64encode(b"x-access-token:" + TOKEN.get_secret_value().encode()).decode()


class Echo(ThreadingHTTPServer):
    """Answers every request after `delay` seconds with `status` and what it was sent."""

    status = 500
    delay = 0.0
    location = ""
    seen: list[str]
    released: threading.Event


class _Handler(BaseHTTPRequestHandler):
    server: Echo

    def do_GET(self) -> None:
        said = self.headers.get("Authorization", "")
        self.server.seen.append(said)
        self.server.released.wait(self.server.delay)
        self.send_response(self.server.status)
        self.send_header("Content-Type", "text/plain")
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(f"You sent {said} {TOKEN.get_secret_value()}\n".encode())

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo(("127.0.0.1", 0), _Handler) as server:
        server.seen, server.released = [], threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
async def repository(tmp_path: Path) -> Path:
    path = tmp_path / "it.git"
    path.mkdir()
    await git("init", "--quiet", "--bare", "--template=", directory=path)
    return path


def _address(server: Echo) -> str:
    return f"http://127.0.0.1:{server.server_port}/o/r.git"


def _running(directory: Path) -> list[str]:
    """Command lines of processes that work in `directory`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cwd").readlink() == directory:
                found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return [command for command in found if command]


async def test_output_and_input_are_bytes_as_they_are(repository: Path) -> None:
    blob = await git("hash-object", "-w", "--stdin", directory=repository, stdin=b"\0\xff\r\n")
    name = blob.decode().strip()
    assert await git("cat-file", "blob", name, directory=repository) == b"\0\xff\r\n"


async def test_failure_carries_the_code_and_what_git_said(repository: Path) -> None:
    with pytest.raises(GitFailed, match=r"git cat-file ended with 128: .*Not a valid") as caught:
        await git("cat-file", "-p", "nothing", directory=repository)
    assert caught.value.code == 128
    assert "Not a valid object name nothing" in caught.value.said


async def test_token_is_sent_as_a_header_and_shown_to_nobody(repository: Path, echo: Echo) -> None:
    """Not in an argument list, a file, or an error, even when the server says it back."""
    echo.delay = 60
    task = asyncio.create_task(
        git("ls-remote", _address(echo), directory=repository, token=TOKEN, timeout=10)
    )
    while not echo.seen:
        await asyncio.sleep(0.02)
    commands = _running(repository)
    echo.released.set()
    with pytest.raises(GitFailed) as caught:
        await task
    assert echo.seen[0] == f"Basic {BASIC}"
    assert any("remote-http" in command for command in commands)
    said = [*commands, caught.value.said, str(caught.value), repr(caught.value)]
    said += [file.read_text(errors="replace") for file in repository.rglob("*") if file.is_file()]
    assert not [text for text in said if BASIC in text or TOKEN.get_secret_value() in text]
    assert "You sent Basic *** ***" in caught.value.said


async def test_time_limit_is_a_retry_and_leaves_no_process(repository: Path, echo: Echo) -> None:
    echo.delay = 60
    began = time.monotonic()
    with pytest.raises(Retry, match="git ls-remote took over 1 s"):
        await git("ls-remote", _address(echo), directory=repository, timeout=1)
    assert time.monotonic() - began < 5
    assert _running(repository) == []


async def test_cancelled_caller_leaves_no_process(repository: Path, echo: Echo) -> None:
    echo.delay = 60
    task = asyncio.create_task(git("ls-remote", _address(echo), directory=repository))
    while not echo.seen:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _running(repository) == []


async def test_redirect_does_not_carry_the_token_to_another_place(
    repository: Path, echo: Echo
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        echo.status = 302
        port = other.getsockname()[1]
        echo.location = f"http://127.0.0.1:{port}/o/r.git/info/refs?service=git-upload-pack"
        with pytest.raises(GitFailed):
            await git("ls-remote", _address(echo), directory=repository, token=TOKEN, timeout=5)
        assert len(echo.seen) == 1
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.accept()


@pytest.mark.parametrize("address", ["ext::sh -c date", "file:///etc", "/etc", "ssh://h/r"])
async def test_only_http_is_spoken(repository: Path, address: str) -> None:
    with pytest.raises(GitFailed, match=r"transport '\w+' not allowed"):
        await git("fetch", "--", address, "main", directory=repository)


async def test_hooks_and_the_monitor_of_a_repository_do_not_run(
    repository: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "ran"
    hook = repository / "hooks" / "reference-transaction"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
    hook.chmod(0o755)
    blob = await git("hash-object", "-w", "--stdin", directory=repository, stdin=b"x")
    await git("update-ref", "refs/x", blob.decode().strip(), directory=repository)
    assert not trap.exists()


async def test_callers_environment_does_not_reach_git(repository: Path) -> None:
    os.environ["GIT_DIR"] = "/nonexistent"
    os.environ["GIT_TRACE"] = "1"
    try:
        found = await git("rev-parse", "--absolute-git-dir", directory=repository)
    finally:
        del os.environ["GIT_DIR"], os.environ["GIT_TRACE"]
    assert found.decode().strip() == str(repository)


async def test_broken_repository_does_not_lead_to_its_parents_one(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    broken = tmp_path / "broken.git"
    broken.mkdir()
    with pytest.raises(GitFailed, match="not a git repository"):
        await git("rev-parse", "--git-dir", directory=broken)


async def test_settings_reach_git_without_being_arguments(repository: Path) -> None:
    found = await git(
        "config", "--get", "some.thing", directory=repository, settings={"some.thing": "a b"}
    )
    assert found == b"a b\n"


async def test_descriptor_stays_open_in_git_and_its_children(repository: Path, echo: Echo) -> None:
    """So that a lock holds as long as an orphaned git still writes."""
    ours, theirs = socket.socketpair()
    with ours:
        echo.delay = 60
        task = asyncio.create_task(
            git("ls-remote", _address(echo), directory=repository, descriptors=[theirs.fileno()])
        )
        while not echo.seen:
            await asyncio.sleep(0.02)
        theirs.close()
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ours.recv(1) == b""
