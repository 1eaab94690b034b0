"""Real programs through the egress proxy, as they come to it in the box: by a port on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import os
import shutil
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from patchwright_runner.egress import Ended, proxied

from .egress_parts import LOOPBACK, MIRROR, PATIENCE, Authority, Origin, Tape, way


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"), MIRROR)


@asynccontextmanager
async def door(path: Path) -> AsyncIterator[int]:
    """A port that leads to the socket at `path`, in place of the one in the box."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other, to = await asyncio.open_unix_connection(path)
        await asyncio.gather(_copy(reader, to), _copy(other, writer))

    server = await asyncio.start_server(pass_on, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def run(*command: str, environment: dict[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], **environment},
    )
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


def wheel() -> bytes:
    """A package of one line."""
    files = {
        "tiny.py": b"ANSWER = 42\n",
        "tiny-1.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1\n",
        "tiny-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{_digest(data)},{len(data)}\n" for name, data in files.items())
    files["tiny-1.dist-info/RECORD"] = f"{record}tiny-1.dist-info/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def _digest(data: bytes) -> str:
    return f"sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')}"


async def test_pip_installs_from_an_allowed_index_alone(
    authority: Authority, tmp_path: Path
) -> None:
    name = "tiny-1-py3-none-any.whl"
    index = {"/tiny/": f'<a href="/{name}">{name}</a>'.encode(), f"/{name}": wheel()}
    tape = Tape()
    async with (
        Origin(index).serving(authority.server) as origin,
        way(f"{MIRROR}:{origin.port}", tape=tape) as proxy,
        door(proxy.path) as port,
    ):

        def install(host: str) -> tuple[str, ...]:
            target = ("install", "--target", str(tmp_path / "installed"), "--no-cache-dir")
            index = (
                "--index-url",
                f"https://{host}:{origin.port}/",
                "--retries",
                "0",
                "-vv",
                "tiny",
            )
            return (sys.executable, "-m", "pip", "--isolated", *target, *index, "tiny")

        environment = {**proxied(port), "SSL_CERT_FILE": str(authority.file)}
        pip_certificates = ("--cert", str(authority.file))
        code, output = await run(*install(MIRROR), *pip_certificates, environment=environment)
        assert code == 0, output
        code, output = await run(
            *install("evil.example"), *pip_certificates, environment=environment
        )
        assert code != 0
        assert f"evil.example:{origin.port} is not on this job's list of allowed hosts" in output
    assert (tmp_path / "installed" / "tiny.py").read_text() == "ANSWER = 42\n"
    (ended,) = tape.of(Ended)
    assert [contact.host for contact in ended.allowed] == [MIRROR]
    assert {refused.host for refused in ended.refused} == {"evil.example"}


async def test_curl_is_told_why_a_host_is_refused(authority: Authority) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    async with (
        Origin({"/": b"hello"}).serving(authority.server) as origin,
        way(f"{MIRROR}:{origin.port}") as proxy,
        door(proxy.path) as port,
    ):
        certificate = ("--cacert", str(authority.file))
        good = f"https://{MIRROR}:{origin.port}/"
        code, output = await run("curl", "-s", *certificate, good, environment=proxied(port))
        assert (code, output) == (0, "hello")
        code, output = await run("curl", "-sv", "https://evil.example/", environment=proxied(port))
        assert code != 0
        assert "evil.example is not on this job's list of allowed hosts" in output


async def test_python_client_fetches_many_documents_at_once(authority: Authority) -> None:
    documents = {f"/{number}": os.urandom(100_000) for number in range(20)}
    async with (
        Origin(documents).serving(authority.server) as origin,
        way(f"{MIRROR}:{origin.port}") as proxy,
        door(proxy.path) as port,
        httpx.AsyncClient(
            proxy=f"http://{LOOPBACK}:{port}",
            verify=authority.client,
            base_url=f"https://{MIRROR}:{origin.port}",
            timeout=PATIENCE,
        ) as http,
    ):
        answers = await asyncio.gather(*(http.get(path) for path in documents))
        assert [answer.content for answer in answers] == list(documents.values())
