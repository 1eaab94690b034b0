"""A git server over smart HTTP on a free port: the real `git http-backend`, and its failures."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from harness.repositories import ENVIRONMENT


@dataclass
class GitServer:
    """Serves repositories beneath `root`; `status` or `location` is every answer."""

    root: Path
    url: str = ""
    token: str | None = None
    status: int | None = None
    location: str | None = None
    delay: float = 0.0
    requests: list[str] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    """What the LFS server beside it holds, by SHA-256."""
    sent: dict[str, bytes] = field(default_factory=dict)
    """What it sends instead."""
    seen: list[dict[str, str]] = field(default_factory=list)
    """Headers of LFS downloads."""
    released: threading.Event = field(default_factory=threading.Event)

    def address(self, name: str) -> str:
        return f"{self.url}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            self._answer(b"".join(self._chunks()))
        else:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()

    def _answer(self, body: bytes) -> None:
        settings = self.server.settings
        settings.requests.append(self.path)
        if settings.delay:
            settings.released.wait(settings.delay)
        if settings.location is not None:
            self.send_response(302)
            self.send_header("Location", settings.location + self.path)
            self.end_headers()
        elif settings.status is not None:
            self.send_error(settings.status)
        elif self.path.startswith("/store/"):
            self._download(settings)
        elif settings.token is not None and not self._authorized(settings.token):
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._tell(settings, json.loads(body))
        else:
            self._serve(settings.root, body)

    def _download(self, settings: GitServer) -> None:
        settings.seen.append({name.lower(): value for name, value in self.headers.items()})
        oid = self.path.rpartition("/")[2]
        self._send(settings.sent.get(oid, settings.large[oid]), "application/octet-stream")

    def _tell(self, settings: GitServer, asked: dict[str, Any]) -> None:
        """https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md."""
        assert (asked["operation"], len(asked["objects"]) <= 100) == ("download", True)
        objects = []
        for one in asked["objects"]:
            download = {"href": f"{settings.url}/store/{one['oid']}", "header": {"X-Signed": "yes"}}
            missing = {"error": {"code": 404, "message": "Object does not exist"}}
            held = one["oid"] in settings.large
            objects.append({**one, **({"actions": {"download": download}} if held else missing)})
        answer = {"transfer": "basic", "objects": objects}
        self._send(json.dumps(answer).encode(), "application/vnd.git-lfs+json")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _authorized(self, token: str) -> bool:
        expected = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _serve(self, root: Path, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            **ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        command = ["git", "-c", "safe.directory=*", "http-backend"]
        pipes: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
        }
        with subprocess.Popen(command, env=environment, **pipes) as backend:
            assert backend.stdin is not None
            assert backend.stdout is not None
            backend.stdin.write(body)
            backend.stdin.close()
            self._pass_on(backend.stdout)

    def _pass_on(self, answer: IO[bytes]) -> None:
        """As it comes: a pack may be larger than memory."""
        headers = {}
        while line := answer.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        self.send_response(int(headers.pop("Status", "200 OK").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            shutil.copyfileobj(answer, self.wfile, 1 << 20)

    def log_message(self, *_: object) -> None:
        """Silence: pytest shows what matters."""


class _Server(ThreadingHTTPServer):
    settings: GitServer
    daemon_threads = True


@contextmanager
def serve(root: Path) -> Iterator[GitServer]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.settings = GitServer(root, f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.settings
        finally:
            server.settings.released.set()
            server.shutdown()
            thread.join()
