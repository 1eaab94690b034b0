"""A box that lies: the runner's end believes no length, no JSON and no id."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from patchwright_common.errors import Permanent
from patchwright_runner.sandbox.launch import Launch
from patchwright_runner.sandbox.protocol import BoxLost, BoxSpec
from patchwright_runner.sandbox.remote import RemoteBox

LIAR = """
import json, struct, sys
def say(header, payload=b"", text=None):
    text = json.dumps(header).encode() if text is None else text
    sys.stdout.buffer.write(struct.pack("!II", len(text), len(payload)) + text + payload)
    sys.stdout.buffer.flush()
read = sys.stdin.buffer.read
{answer}
read()
"""


@asynccontextmanager
async def _liar(answer: str) -> AsyncIterator[RemoteBox]:
    """A process that answers as told before it has read anything."""
    launch = await Launch.start([sys.executable, "-c", LIAR.format(answer=answer)], environment={})

    async def destroy() -> None:
        await launch.end()

    async with RemoteBox(launch.connection, BoxSpec("job-1"), destroy) as box:
        yield box


@pytest.mark.parametrize(
    "answer",
    [
        "sys.stdout.buffer.write(b'\\xff' * 8); sys.stdout.flush()",
        "say({}, text=b'no json')",
        "say({}, text=b'[]')",
        "say({'id': []})",
        "say({}, text=b'[' * 200000)",
        "say({}, text=b'\\xff')",
        "raise SystemExit('bye')",
        "sys.stdout.buffer.write(b'abc'); sys.exit()",
    ],
)
async def test_nonsense_on_the_wire_loses_the_box(answer: str) -> None:
    async with _liar(answer) as box:
        with pytest.raises(BoxLost, match=r"protocol|ended"):
            await box.run("true", timeout=5)


@pytest.mark.parametrize("result", ["None", "[]", "{'head': 0}", "{'head': 'x', 'dropped': 0}"])
async def test_result_without_sense_loses_the_box(result: str) -> None:
    async with _liar(f"read(8); say({{'id': 1, 'result': {result}}})") as box:
        with pytest.raises(BoxLost):
            await box.run("true", timeout=5)


async def test_more_output_than_allowed_is_not_passed_on() -> None:
    about = "{'head': 0, 'dropped': 0, 'exit_code': 0, 'timed_out': False, 'duration': 1}"
    async with _liar(f"read(8); say({{'id': 1, 'result': {about}}}, b'x' * 1000000)") as box:
        with pytest.raises(BoxLost, match="more output"):
            await box.run("true", timeout=5)


async def test_endless_answers_nobody_asked_for_are_dropped() -> None:
    flood = (
        "read(8)\n"
        "for _ in range(2000): say({'id': 99, 'item': {}}, b'x' * 10000)\n"
        "say({'id': 1, 'result': {}}, b'done')"
    )
    async with _liar(flood) as box:
        assert await box.view("f") == "done"


@pytest.mark.parametrize("item", ["None", "[]", "{}", "{'path': '../x', 'mode': None, 'size': 0}"])
async def test_hostile_entry_ends_the_collection(item: str) -> None:
    async with _liar(f"read(8)\nfor _ in range(99): say({{'id': 1, 'item': {item}}})") as box:
        with pytest.raises(Permanent):
            _ = [entry async for entry in box.collect("0" * 40)]


async def test_box_that_never_greets_is_given_up() -> None:
    launch = await Launch.start([sys.executable, "-c", "input()"], environment={})
    box = RemoteBox(launch.connection, BoxSpec("job-1"), launch.end)  # type: ignore[arg-type]
    with pytest.raises(BoxLost):
        await launch.greet({}, 0.5)
    await asyncio.wait_for(box.close(), 10)
