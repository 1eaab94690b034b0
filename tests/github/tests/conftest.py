"""One stand-in process for the whole run; each test makes a scene of its own in it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from standin_github.client import StandinGitHub
from standin_github.main import READY
from standin_github.scene import Scene, make_scene


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("github")
    process = subprocess.Popen(
        [sys.executable, "-m", "standin_github.main", "--data", str(data)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(READY)
    yield line.removeprefix(READY).strip()
    process.terminate()
    process.wait(timeout=10)
    process.stdout.close()


@pytest.fixture
async def github(address: str) -> AsyncIterator[StandinGitHub]:
    async with StandinGitHub(address) as client:
        yield client
        await client.clear_faults()


@pytest.fixture
async def scene(github: StandinGitHub) -> Scene:
    return await make_scene(github)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        yield client


@dataclass(slots=True)
class Received:
    """One webhook as it came over the wire."""

    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """Where webhooks go: answers `status` after `delay` seconds, and keeps what came."""

    url: str = ""
    status: int = 202
    delay: float = 0.0
    received: list[Received] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def named(self, event: str) -> list[Received]:
        return [r for r in self.received if r.headers["X-GitHub-Event"] == event]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.received.append(Received(dict(self.headers), body))
            kept.released.wait(kept.delay)
            self.send_response(kept.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the base class names it so
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_port}/webhooks"
    yield kept
    kept.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    output: str


Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def git(tmp_path: Path) -> Run:
    """Run git in a folder of the test's own, as a person without any configuration."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }

    async def run(*arguments: str, folder: Path = tmp_path, **more: str) -> Outcome:
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            cwd=folder,
            env=environment | more,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
        return Outcome(process.returncode or 0, output.decode(errors="replace"))

    return run


def with_token(address: str, token: str) -> str:
    return address.replace("http://", f"http://x-access-token:{token}@")


@pytest.fixture
def clone(git: Run, tmp_path: Path) -> Callable[[Scene, str], Awaitable[Path]]:
    """Clone the scene's repository with a token, and give the work tree."""

    async def run(scene: Scene, token: str) -> Path:
        tree = tmp_path / "tree"
        done = await git("clone", "-q", with_token(scene.repository.clone_url, token), str(tree))
        assert done.status == 0, done.output
        return tree

    return run
