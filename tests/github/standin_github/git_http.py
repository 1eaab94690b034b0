"""git's smart protocol: `git http-backend` run as CGI behind GitHub's rules on who may what."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from standin_github.access import READ_CONTENTS, WRITE_CONTENTS, require
from standin_github.auth import Anonymous, Caller, InstallationCaller, UserCaller, identify
from standin_github.errors import ApiError
from standin_github.hub import Hub
from standin_github.records import Account, Repository
from standin_github.refs import refs_moved

CHUNK = 65536
IN_MEMORY = 8_000_000
"""Bytes of a push; a larger one waits in a file."""
BACKEND_TIMEOUT = 600.0
"""Seconds for a whole clone or push."""
CHALLENGE = {"WWW-Authenticate": 'Basic realm="GitHub"'}


@dataclass(frozen=True, slots=True)
class GitCall:
    """One request of a git client, allowed already."""

    hub: Hub
    request: Request
    caller: Caller
    repository: Repository
    service: str


async def info_refs(request: Request) -> Response:
    return await _serve(request, request.query_params.get("service", ""), "/info/refs")


async def upload_pack(request: Request) -> Response:
    return await _serve(request, "git-upload-pack", "/git-upload-pack")


async def receive_pack(request: Request) -> Response:
    return await _serve(request, "git-receive-pack", "/git-receive-pack")


async def _serve(request: Request, service: str, path: str) -> Response:
    hub: Hub = request.app.state.hub
    try:
        call = _allowed(hub, request, service)
    except ApiError as error:
        return _refusal(error)
    if path == "/git-receive-pack":
        return await _push(call, path)
    return await _answer(await Backend.start(call, path, request.stream()))


def _allowed(hub: Hub, request: Request, service: str) -> GitCall:
    """Raises ApiError; without credentials the client is asked for them first."""
    if service not in {"git-upload-pack", "git-receive-pack"}:
        raise ApiError(403, "Please upgrade your git client.")
    caller = identify(hub.state, request.headers.get("authorization"))
    request.scope["standin.actor"] = caller.name
    name = request.path_params["repo"].removesuffix(".git")
    repository = hub.state.repository(request.path_params["owner"], name)
    pushing = service == "git-receive-pack"
    if isinstance(caller, Anonymous) and (pushing or repository is None or repository.private):
        raise ApiError(401, "Authentication required")
    if repository is None:
        raise ApiError(404, "Repository not found.")
    require(hub.state, caller, repository, WRITE_CONTENTS if pushing else READ_CONTENTS)
    return GitCall(hub, request, caller, repository, service)


def _refusal(error: ApiError) -> Response:
    """In plain text, which git shows as `remote: …`."""
    messages = {
        401: "Invalid username or token. Password authentication is not supported.",
        403: "Write access to repository not granted.",
        404: "Repository not found.",
    }
    headers = CHALLENGE if error.status == 401 else None
    return PlainTextResponse(messages.get(error.status, error.message), error.status, headers)


async def _push(call: GitCall, path: str) -> Response:
    """The answer waits until the push is logged, so that nobody sees one before the other.

    The body is taken in whole before the lock: a client that is paused in the middle of its push
    holds up nobody else's.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as body:
        try:
            async for chunk in call.request.stream():
                body.write(chunk)
        except ClientDisconnect:
            return PlainTextResponse("The push ended early.", 400)
        body.seek(0)
        return await _push_whole(call, path, _chunks(body))


async def _push_whole(call: GitCall, path: str, source: AsyncIterator[bytes]) -> Response:
    hub, repository = call.hub, call.repository
    async with hub.ref_locks[repository.id]:
        before = await hub.git.refs(repository.id, "refs/")
        backend = await Backend.start(call, path, source)
        body = b"".join([chunk async for chunk in backend.body()])
        await backend.end()
        after = await hub.git.refs(repository.id, "refs/")
        await refs_moved(hub, repository, _account(call.caller), before, after)
    return Response(body, backend.status, backend.headers)


async def _chunks(body: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := body.read(CHUNK):
        yield chunk


def _account(caller: Caller) -> Account:
    if isinstance(caller, InstallationCaller):
        return caller.bot
    if isinstance(caller, UserCaller):
        return caller.account
    raise ApiError(401, "Authentication required")


async def _answer(backend: Backend) -> Response:
    return StreamingResponse(
        backend.body(), backend.status, backend.headers, background=BackgroundTask(backend.end)
    )


class Backend:
    """One run of `git http-backend`, fed from the request while its answer is read."""

    def __init__(self, process: asyncio.subprocess.Process, source: AsyncIterator[bytes]) -> None:
        self._process = process
        self._feeder = asyncio.create_task(self._feed(source))
        self.status = 200
        self.headers: dict[str, str] = {}

    @classmethod
    async def start(cls, call: GitCall, path: str, source: AsyncIterator[bytes]) -> Backend:
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            env=call.hub.git.environment() | _cgi(call, path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        backend = cls(process, source)
        await backend._read_headers()
        return backend

    async def _feed(self, source: AsyncIterator[bytes]) -> None:
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("git http-backend was started without a pipe")
        # git may stop reading early, and the client may go away: git's answer tells, not the pipe.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ClientDisconnect):
            async for chunk in source:
                stdin.write(chunk)
                await stdin.drain()
        stdin.close()

    async def _read_headers(self) -> None:
        output = self._output()
        async with asyncio.timeout(BACKEND_TIMEOUT):
            while line := (await output.readline()).decode().strip():
                name, _, value = line.partition(": ")
                if name.lower() == "status":
                    self.status = int(value.split(" ", 1)[0])
                else:
                    self.headers[name.lower()] = value

    async def body(self) -> AsyncIterator[bytes]:
        output = self._output()
        async with asyncio.timeout(BACKEND_TIMEOUT):
            while chunk := await output.read(CHUNK):
                yield chunk

    def _output(self) -> asyncio.StreamReader:
        if self._process.stdout is None:
            raise RuntimeError("git http-backend was started without a pipe")
        return self._process.stdout

    async def end(self) -> None:
        """Nothing is left behind, even when the client went away in the middle."""
        self._feeder.cancel()
        await asyncio.gather(self._feeder, return_exceptions=True)
        if self._process.returncode is None:
            try:
                async with asyncio.timeout(1.0):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


def _cgi(call: GitCall, path: str) -> dict[str, str]:
    """RFC 3875, as far as git reads it; without a length it reads to the end (chunked bodies)."""
    request = call.request
    variables = {
        "GIT_PROJECT_ROOT": str(call.hub.git.root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{call.repository.id}.git{path}",
        "QUERY_STRING": request.url.query,
        "REQUEST_METHOD": request.method,
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "REMOTE_USER": call.caller.name,
        "REMOTE_ADDR": "127.0.0.1",
        "STANDIN_WORKFLOWS": _forbidden_to(call.caller),
    }
    passed = {
        "content-length": "CONTENT_LENGTH",
        "content-encoding": "HTTP_CONTENT_ENCODING",
        "git-protocol": "HTTP_GIT_PROTOCOL",
    }
    for header, variable in passed.items():
        if header in request.headers:
            variables[variable] = request.headers[header]
    return variables


def _forbidden_to(caller: Caller) -> str:
    """Empty for whoever may write workflow files; a person's tokens here carry every scope."""
    if isinstance(caller, InstallationCaller) and "workflows" not in caller.token.permissions:
        return "a GitHub App"
    return ""


REPOSITORY = "/{owner}/{repo}"
ROUTES = [
    Route(f"{REPOSITORY}/info/refs", info_refs),
    Route(f"{REPOSITORY}/git-upload-pack", upload_pack, methods=["POST"]),
    Route(f"{REPOSITORY}/git-receive-pack", receive_pack, methods=["POST"]),
]
