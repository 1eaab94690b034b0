"""How connections through a door end: in order, broken, or with their command."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from patchwright_runner.sandbox.inside.doors import WINDOW
from patchwright_runner.sandbox.inside.wire import Frame
from patchwright_runner.sandbox.remote import RemoteBox
from patchwright_runner.sandbox.tunnels import Tunnels

from .test_sandbox_doors import PORT, SECONDS, echo, python, room

MUCH = 3 << 20
RESULT = PORT + 1


class Late:
    """Ends its own side first, and reads only when the client has sent everything."""

    def __init__(self) -> None:
        self._sent = asyncio.Event()
        self._length: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await self._sent.wait()
        self._length.set_result(len(await reader.read()))

    async def tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(4)
        self._sent.set()
        writer.write(b"%d" % await self._length)
        writer.close()


@pytest.mark.parametrize("end", ["s.shutdown(1)", "s.close()"])
async def test_what_was_sent_before_the_end_arrives_at_a_slow_reader(
    box: RemoteBox, end: str
) -> None:
    code = (
        "assert s.recv(1) == b''\n"
        f"r = socket.create_connection(('127.0.0.1', {RESULT}))\n"
        "s.settimeout(2)\n"
        "sent = 0\n"
        "try:\n"
        f"    while sent < {MUCH}: sent += s.send(bytes(65536))\n"
        "except TimeoutError: pass\n"
        f"{end}; r.sendall(b'sent'); print(int(r.recv(99)) - sent)\n"
    )
    late = Late()
    async with room(late.serve) as path, room(late.tell) as told:
        doors = {PORT: path, RESULT: told}
        result = await box.run(python(code), timeout=SECONDS, doors=doors)
    assert result.output == "0\n"


async def test_server_that_dies_resets_its_client(box: RemoteBox) -> None:
    async def die(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()  # with the client's bytes unread

    async with room(die) as path:
        code = "while True: s.sendall(bytes(65536))"
        result = await box.run(python(code), timeout=SECONDS, doors={PORT: path})
    assert result.output.splitlines()[-1].startswith(("ConnectionResetError", "BrokenPipeError"))


async def test_clients_that_hang_up_at_once_harm_nobody(box: RemoteBox) -> None:
    async with room(echo) as path:
        code = (
            "import struct\n"
            "for n in range(150):\n"
            "    try:\n"
            f"        c = socket.create_connection(('127.0.0.1', {PORT}))\n"
            "        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
            "        if n % 2: c.send(b'x')\n"
            "        c.close()\n"
            "    except ConnectionError: pass\n"
            "s.sendall(b'well'); print(s.recv(9))\n"
        )
        result = await box.run(python(code), timeout=SECONDS, doors={PORT: path})
    assert result.output == "b'well'\n"


async def test_closed_connections_make_room_for_others(box: RemoteBox) -> None:
    async with room(echo) as path:
        code = (
            "for n in range(100):\n"
            f"    with socket.create_connection(('127.0.0.1', {PORT})) as c:\n"
            "        c.sendall(b'x'); c.shutdown(1); assert c.makefile().read() == 'x', n\n"
            "print('all')\n"
        )
        result = await box.run(python(code), timeout=SECONDS, doors={PORT: path})
    assert result.output == "all\n"


async def test_floods_in_both_directions_do_not_hold_up_a_cancellation(box: RemoteBox) -> None:
    flooded = asyncio.Event()

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(8 << 20))
        flooded.set()
        await asyncio.Event().wait()

    async with room(flood) as path:
        code = "while True: s.sendall(bytes(65536))"
        call = asyncio.create_task(
            box.run(f"yes & {python(code)}", timeout=600, doors={PORT: path})
        )
        async with asyncio.timeout(SECONDS):
            await flooded.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await box.run("echo well", timeout=SECONDS)).output == "well\n"


async def test_call_that_is_cancelled_twice_closes_its_doors(box: RemoteBox) -> None:
    """The second time it is cleaning up, and whoever hears it is slow to end."""
    heard, ended = asyncio.Event(), asyncio.Event()

    async def stubborn(_piece: bytes) -> None:
        heard.set()
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await ended.wait()

    async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()

    async with room(wait) as path:
        code = python("s.send(b'x'); print('x', flush=True); s.recv(1)")
        call = asyncio.create_task(box.run(code, timeout=600, doors={PORT: path}, heard=stubborn))
        async with asyncio.timeout(SECONDS):
            await heard.wait()
            call.cancel()
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            await ended.wait()


async def _nobody(_header: dict[str, object], _payload: bytes) -> None:
    return


def _said(what: str, payload: bytes = b"", *, number: int = 1) -> Frame:
    return Frame({"id": 1, "stream": number, "do": what, "port": PORT}, payload)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """Takes connections only when it is told to."""
    monkeypatch.chdir(tmp_path)  # the path of a socket may be 107 bytes long
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("door")
        listening.listen()
        yield listening


async def test_last_bytes_wait_for_a_server_that_ended_first(listener: socket.socket) -> None:
    """They are more than the socket takes, and the connection is over but for them."""
    tunnels = Tunnels({PORT: Path("door")}, _nobody)
    tunnels.take(_said("open"))
    server, _ = await asyncio.to_thread(listener.accept)
    server.shutdown(socket.SHUT_WR)
    for _ in range(4):
        tunnels.take(_said("data", bytes(WINDOW // 4)))
    tunnels.take(_said("end"))
    for _ in range(100):
        await asyncio.sleep(0)
    with server:
        received = await asyncio.to_thread(_all_of, server)
    await tunnels.close()
    assert received == WINDOW


def _all_of(server: socket.socket) -> int:
    server.settimeout(SECONDS)
    length = 0
    while data := server.recv(1 << 16):
        length += len(data)
    return length


async def test_connection_that_begins_while_its_command_ends_is_not_made(
    listener: socket.socket,
) -> None:
    before = asyncio.all_tasks()
    tunnels = Tunnels({PORT: Path("door")}, _nobody)
    tunnels.take(_said("open"))
    closing = asyncio.create_task(tunnels.close())
    await asyncio.sleep(0)
    tunnels.take(_said("open", number=2))
    await closing
    assert asyncio.all_tasks() == before
