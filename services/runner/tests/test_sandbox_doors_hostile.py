"""A box that breaks the rules of doors and of output is ended; it costs the runner no memory."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from patchwright_runner.sandbox.beside import Beside
from patchwright_runner.sandbox.inside.doors import STREAMS, WINDOW
from patchwright_runner.sandbox.inside.wire import Frame, pack
from patchwright_runner.sandbox.launch import Launch
from patchwright_runner.sandbox.protocol import BoxLost, BoxSpec
from patchwright_runner.sandbox.remote import RemoteBox
from patchwright_runner.sandbox.tunnels import Tunnels

from .test_sandbox_doors import PORT, echo, room

Heard = Callable[[bytes], Awaitable[None]]
SAY = (
    "import sys,os\n"
    "size = int(sys.stdin.buffer.readline()); sys.stdin.buffer.read(size)\n"
    "os.write(1, bytes.fromhex(sys.argv[1]))\n"
    "os.read(0, 1 << 16)\n"
    "with open(sys.argv[2], 'rb') as f: sys.stdout.buffer.write(f.read())\n"
    "sys.stdout.flush()\n"
    "while os.read(0, 1 << 16): pass\n"
)
GREETING = pack({"id": 0, "result": {}})
DONE = pack(
    {
        "id": 1,
        "result": {"head": 0, "dropped": 0, "exit_code": 0, "timed_out": False, "duration": 0},
    }
)


def stream(number: object, what: str, payload: bytes = b"", **more: Any) -> bytes:
    return pack({"id": 1, "stream": number, "do": what, **more}, payload)


OPEN = stream(1, "open", port=PORT)


async def said(folder: Path, frames: bytes, *, heard: Heard | None = None) -> None:
    """Run a command in a box whose program says `frames`, whatever it is asked."""
    words = folder / "frames"
    words.write_bytes(frames)
    command = [sys.executable, "-c", SAY, GREETING.hex(), str(words)]
    launch = await Launch.start(command, environment={})
    async with (
        room(echo) as path,
        RemoteBox(launch.connection, BoxSpec("job-1"), _end(launch)) as box,
    ):
        await launch.greet({}, 30)
        async with asyncio.timeout(30):
            await box.run("true", timeout=5, doors={PORT: path}, heard=heard)


def _end(launch: Launch) -> Callable[[], Awaitable[None]]:
    async def end() -> None:
        await launch.end()

    return end


async def never(_piece: bytes) -> None:
    await asyncio.Event().wait()


async def hear(_piece: bytes) -> None:
    return


BROKEN = {
    "door that was not granted": stream(1, "open", port=PORT + 1),
    "door that is no number": stream(1, "open", port=[]),
    "number out of order": stream(7, "open", port=PORT),
    "connection that was not opened": stream(1, "data", b"x"),
    "connection below zero": OPEN + stream(-1, "data", b"x"),
    "connection that is no number": OPEN + stream("1", "data", b"x"),
    "data beyond the window": OPEN + stream(1, "data", bytes(WINDOW + 1)),
    "data after the end": OPEN + stream(1, "end") + stream(1, "data", b"x"),
    "data that is empty": OPEN + stream(1, "data"),
    "end after the end": OPEN + stream(1, "end") + stream(1, "end"),
    "credit for nothing": OPEN + stream(1, "credit", bytes=1),
    "credit below zero": OPEN + stream(1, "credit", bytes=-5),
    "credit that is no number": OPEN + stream(1, "credit", bytes="1"),
    "data after its close": OPEN + stream(1, "close") + stream(1, "data", b"x"),
    "credit after its close": OPEN + stream(1, "close") + stream(1, "credit", bytes=1),
    "close after its close": OPEN + stream(1, "close") + stream(1, "close"),
    "number used again": OPEN + stream(1, "close") + OPEN,
    "one connection too many": b"".join(
        stream(number, "open", port=PORT) for number in range(1, STREAMS + 2)
    ),
    "connections without waiting for their ends": b"".join(
        stream(number, "open", port=PORT) + stream(number, "close") for number in range(1, 1001)
    ),
    "unknown verb": OPEN + stream(1, "sing"),
    "no verb": pack({"id": 1, "stream": 1}),
    "output that is empty": pack({"id": 1, "output": 0}),
    "output without end": pack({"id": 1, "output": 1}, bytes(1 << 20)) * 4,
}


@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN.keys())
async def test_box_that_breaks_the_rules_is_lost(tmp_path: Path, frames: bytes) -> None:
    with pytest.raises(BoxLost, match="broke the protocol"):
        await said(tmp_path, frames + DONE, heard=never)


async def test_output_that_nobody_listens_to_is_against_the_rules(tmp_path: Path) -> None:
    with pytest.raises(BoxLost, match="broke the protocol"):
        await said(tmp_path, pack({"id": 1, "output": 1}, b"x") + DONE)


async def test_box_that_keeps_the_rules_is_not_lost(tmp_path: Path) -> None:
    frames = OPEN + stream(1, "data", bytes(WINDOW)) + pack({"id": 1, "output": 1}, b"x")
    await said(tmp_path, frames + DONE, heard=hear)


CREDITOR = """
import sys, time
size = int(sys.stdin.buffer.readline()); sys.stdin.buffer.read(size)
say = lambda text: (sys.stdout.buffer.write(bytes.fromhex(text)), sys.stdout.flush())
say(sys.argv[1])
sys.stdin.buffer.read1(1)
say(sys.argv[2])
sys.stdin.buffer.read(200000)
for _ in range(1000):
    time.sleep(0.005)
    say(sys.argv[3])
say(sys.argv[4])
time.sleep(600)
"""


async def test_credit_for_what_the_box_never_reads_does_not_fill_the_runner(
    tmp_path: Path,
) -> None:
    """It never empties its input, yet says that it has passed everything on."""
    words = (GREETING, OPEN, stream(1, "credit", bytes=WINDOW // 4), DONE)
    command = [sys.executable, "-c", CREDITOR, *(word.hex() for word in words)]
    launch = await Launch.start(command, environment={})
    stored = 0

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal stored
        while True:
            writer.write(bytes(1 << 16))
            await writer.drain()
            stored = max(stored, launch.connection._input.transport.get_write_buffer_size())

    async with (
        room(flood) as path,
        RemoteBox(launch.connection, BoxSpec("job-1"), _end(launch)) as box,
    ):
        await launch.greet({}, 30)
        with pytest.raises(BoxLost, match="broke the protocol"):
            await box.run("true", timeout=60, doors={PORT: path})
    assert stored < 4 * WINDOW


async def _nobody(*_: object) -> None:
    return


async def test_crumbs_that_wait_take_no_more_memory_than_their_bytes(tmp_path: Path) -> None:
    tunnels = Tunnels({PORT: tmp_path / "nobody"}, _nobody)
    tunnels.take(Frame({"stream": 1, "do": "open", "port": PORT}))
    beside = Beside({}, never, _nobody)
    tracemalloc.start()
    try:
        for _ in range(WINDOW // 16):
            tunnels.take(Frame({"stream": 1, "do": "data"}, bytes(2)))
            beside.take(Frame({"output": 2}, bytes(2)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await tunnels.close()
    assert held < WINDOW
