"""Doors: the only ways out of a box, each leading to a socket of the runner's for one command."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from patchwright_runner.sandbox.inside.doors import STREAMS, WINDOW
from patchwright_runner.sandbox.remote import RemoteBox

PORT = 8765
SECONDS = 60.0
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def room(serve: Serve) -> AsyncIterator[Path]:
    """Somebody behind a door."""
    serving: set[asyncio.Task[None]] = set()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.close()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "door"
        server = await asyncio.start_unix_server(attend, path)
        try:
            yield path
        finally:
            server.close()
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving)


def python(code: str) -> str:
    """A client in the box, with `s` connected to the door."""
    begin = f"import socket,sys\ns = socket.create_connection(('127.0.0.1', {PORT}))\n"
    return f"python3 - <<'EOF'\n{begin}{code}\nEOF"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def shout_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read()).upper())
    writer.close()


async def test_each_end_may_finish_first(box: RemoteBox) -> None:
    async with room(shout_at_the_end) as path:
        half = "s.sendall(b'hello'); s.shutdown(1); print(s.makefile().read())"
        result = await box.run(python(half), timeout=SECONDS, doors={PORT: path})
    assert (result.output, result.exit_code) == ("HELLO\n", 0)


async def test_what_is_written_arrives_at_once(box: RemoteBox) -> None:
    """Each side writes the next byte only when it has the other's."""
    async with room(echo) as path:
        steps = "for n in range(50):\n s.sendall(b'%d\\n' % n)\n assert int(s.recv(9)) == n\n"
        result = await box.run(python(steps + "print('done')"), timeout=SECONDS, doors={PORT: path})
    assert result.output == "done\n"


async def test_many_megabytes_pass_unchanged(box: RemoteBox) -> None:
    async with room(echo) as path:
        code = (
            "import hashlib,threading,random\n"
            "data = random.Random(7).randbytes(1 << 20)\n"
            "t = threading.Thread(target=lambda: [s.sendall(data) for _ in range(20)])\n"
            "t.start()\n"
            "left, got = 20 << 20, hashlib.sha256()\n"
            "while left:\n"
            "    piece = s.recv(1 << 16); left -= len(piece); got.update(piece)\n"
            "print(got.digest() == hashlib.sha256(data * 20).digest())\n"
        )
        result = await box.run(python(code), timeout=SECONDS, doors={PORT: path})
    assert result.output == "True\n"


async def test_door_is_open_for_its_command_alone(box: RemoteBox) -> None:
    async with room(echo) as path:
        knock = python("print('in')")
        assert (await box.run(knock, timeout=SECONDS, doors={PORT: path})).output == "in\n"
        assert "ConnectionRefusedError" in (await box.run(knock, timeout=SECONDS)).output
        assert (await box.run(knock, timeout=SECONDS, doors={PORT: path})).output == "in\n"


async def test_connection_that_stalls_stalls_no_other(box: RemoteBox) -> None:
    """Nobody behind the door reads what the first one floods it with."""
    first = asyncio.Event()

    async def deaf_to_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if first.is_set():
            await echo(reader, writer)
        first.set()
        await asyncio.Event().wait()

    async with room(deaf_to_the_first) as path:
        code = (
            "s.setblocking(False)\n"
            "import time\n"
            "sent = 0\n"
            f"while sent < {WINDOW}:\n"
            "    try: sent += s.send(bytes(65536))\n"
            "    except BlockingIOError: time.sleep(0.01)\n"
            f"t = socket.create_connection(('127.0.0.1', {PORT}))\n"
            "t.sendall(b'still here'); print(t.recv(99), flush=True)\n"
        )
        result = await box.run(python(code), timeout=SECONDS, doors={PORT: path})
    assert result.output == "b'still here'\n"


async def test_socket_that_is_not_there_is_a_reset(box: RemoteBox, tmp_path: Path) -> None:
    ask = "s.sendall(b'x'); s.recv(1)"
    doors = {PORT: tmp_path / "nobody"}
    result = await box.run(python(ask), timeout=SECONDS, doors=doors)
    assert "ConnectionResetError" in result.output


async def test_connections_at_once_are_bounded(box: RemoteBox) -> None:
    served = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await echo(reader, writer)

    async with room(count) as path:
        code = (
            f"held = [socket.create_connection(('127.0.0.1', {PORT})) for _ in range({STREAMS})]\n"
            "answers = []\n"
            "for one in [s, *held]:\n"
            "    try: one.sendall(b'x'); answers.append(one.recv(1))\n"
            "    except ConnectionError: answers.append(b'')\n"
            "print(answers.count(b'x'), answers.count(b''))\n"
        )
        result = await box.run(python(code), timeout=SECONDS, doors={PORT: path})
    assert result.output == f"{STREAMS} 1\n"
    assert served == STREAMS


async def test_connections_end_with_their_command(box: RemoteBox) -> None:
    ended = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        await reader.read()
        ended.set()

    async with room(wait) as path:
        code = "import os,time\ns.recv(1)\nif os.fork() == 0:\n    time.sleep(600)\n"
        await box.run(python(code), timeout=SECONDS, doors={PORT: path})
        async with asyncio.timeout(SECONDS):
            await ended.wait()


async def test_command_that_is_cancelled_closes_its_doors(box: RemoteBox) -> None:
    arrived = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()

    async with room(wait) as path:
        running = asyncio.create_task(
            box.run(python("s.recv(1)"), timeout=SECONDS, doors={PORT: path})
        )
        async with asyncio.timeout(SECONDS):
            await arrived.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await box.run("echo well", timeout=SECONDS)).output == "well\n"


async def test_door_that_cannot_be_had_is_a_clear_refusal(box: RemoteBox) -> None:
    async with room(echo) as path:
        with pytest.raises(ValueError, match="ordinary user"):
            await box.run("true", timeout=SECONDS, doors={80: path})
    assert (await box.run("echo well", timeout=SECONDS)).output == "well\n"
