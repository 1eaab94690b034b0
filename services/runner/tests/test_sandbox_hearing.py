"""A command's input, its variables, and whoever hears its output while it runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from patchwright_runner.sandbox.protocol import Backend, BoxSpec, ToolError
from patchwright_runner.sandbox.remote import RemoteBox

from .conftest import LIMITS
from .leftovers import alive
from .test_sandbox_doors import PORT, SECONDS, echo, python, room


async def test_input_arrives_whole(box: RemoteBox) -> None:
    given = bytes(range(256)) * 8192
    result = await box.run("sha256sum", timeout=SECONDS, stdin=given)
    assert result.output.split()[0] == hashlib.sha256(given).hexdigest()


async def test_input_that_is_too_large_is_a_clear_refusal(box: RemoteBox) -> None:
    with pytest.raises(ToolError, match="at most"):
        await box.run("cat", timeout=SECONDS, stdin=bytes(9 << 20))


async def test_variables_are_for_one_command(box: RemoteBox) -> None:
    greet = 'echo "${GREETING-none}"'
    assert (await box.run(greet, timeout=SECONDS, environment={"GREETING": "hi"})).output == "hi\n"
    assert (await box.run(greet, timeout=SECONDS)).output == "none\n"


async def test_output_is_heard_while_the_command_runs(box: RemoteBox) -> None:
    """The command goes on only when it was heard: the answer comes in by a door."""
    heard: list[bytes] = []
    first = asyncio.Event()

    async def hear(piece: bytes) -> None:
        heard.append(piece)
        first.set()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await first.wait()
        writer.write(b"go on")
        writer.close()

    async with room(answer) as path:
        code = "print('one', flush=True); s.recv(9); print('two')"
        result = await box.run(python(code), timeout=SECONDS, doors={PORT: path}, heard=hear)
    assert b"".join(heard).decode() == result.output == "one\ntwo\n"


async def test_all_of_a_long_output_is_heard_though_little_is_kept(box: RemoteBox) -> None:
    length = 0

    async def hear(piece: bytes) -> None:
        nonlocal length
        length += len(piece)
        await asyncio.sleep(0)

    result = await box.run("head -c 5000000 /dev/zero", timeout=SECONDS, heard=hear)
    assert (length, result.truncated) == (5_000_000, True)


async def test_slow_listener_holds_the_command_back_but_not_its_doors(box: RemoteBox) -> None:
    """While nobody listens, a flood stops, and another connection still answers."""
    answered = asyncio.Event()

    async def slow(_piece: bytes) -> None:
        await answered.wait()

    async def told(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
            if data == b"done":
                answered.set()
        writer.close()

    async with room(told) as path:
        code = (
            "import subprocess,time\n"
            "flood = subprocess.Popen(['head', '-c', '3000000', '/dev/zero'])\n"
            "time.sleep(0.3)\n"
            "assert flood.poll() is None, 'nobody held it back'\n"
            "s.sendall(b'done'); assert s.recv(9) == b'done'\n"
            "assert flood.wait() == 0\n"
        )
        result = await box.run(python(code), timeout=SECONDS, doors={PORT: path}, heard=slow)
    assert result.exit_code == 0, result.output[-500:]


async def test_listener_that_takes_nothing_does_not_lengthen_the_command(box: RemoteBox) -> None:
    """It goes on only when the command is gone, which it was held back from by then."""
    word = f"flood-{os.getpid()}"

    async def wait(_piece: bytes) -> None:
        while alive(word):
            await asyncio.sleep(0.05)

    result = await box.run(f"yes {word}", timeout=1, heard=wait)
    assert (result.exit_code, result.timed_out) == (None, True)


async def test_listener_may_fail_by_a_time_limit_of_its_own(box: RemoteBox) -> None:
    async def fail(_piece: bytes) -> None:
        raise TimeoutError("heard enough")

    with pytest.raises(TimeoutError, match="heard enough"):
        await box.run("echo x; sleep 600", timeout=SECONDS, heard=fail)
    assert (await box.run("echo well", timeout=SECONDS)).output == "well\n"


async def test_listener_that_fails_ends_the_command(box: RemoteBox) -> None:
    async def fail(_piece: bytes) -> None:
        raise LookupError("heard enough")

    with pytest.raises(LookupError, match="heard enough"):
        await box.run("echo x; sleep 600", timeout=SECONDS, heard=fail)
    assert (await box.run("echo well", timeout=SECONDS)).output == "well\n"


async def test_program_of_this_machine_is_there_and_cannot_be_changed(
    backend: Backend, tmp_path: Path
) -> None:
    program = tmp_path / 'a "program", with a comma'
    program.write_text("#!/bin/sh\necho it runs\n")
    program.chmod(0o755)
    spec = BoxSpec("job-1", limits=LIMITS, programs={"/opt/tools/program": program})
    async with await backend.start(spec) as box:
        result = await box.run("/opt/tools/program; echo x >> /opt/tools/program", timeout=SECONDS)
        assert result.output.startswith("it runs\n")
        assert result.exit_code != 0
    assert "echo x" not in program.read_text()


@pytest.mark.parametrize(
    "place", ["/workspace/x", "/opt/../etc/passwd", "/opt", "opt/x", "/proc/x"]
)
def test_program_hides_nothing_of_the_boxs_own(place: str) -> None:
    with pytest.raises(ValueError, match="below /opt"):
        BoxSpec("job-1", programs={place: Path("/bin/true")})


def test_program_is_not_looked_up_where_the_runner_happens_to_be() -> None:
    with pytest.raises(ValueError, match="absolute"):
        BoxSpec("job-1", programs={"/opt/x": Path("bin/true")})


async def test_doors_and_a_listener_leave_nothing_behind(box: RemoteBox) -> None:
    async def hear(_piece: bytes) -> None:
        return

    async with room(echo) as path:
        before = len(asyncio.all_tasks())
        for _ in range(5):
            code = "s.sendall(b'x'); print(s.recv(1))"
            await box.run(python(code), timeout=SECONDS, doors={PORT: path}, heard=hear)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) <= before + 5  # the server's own, that are ending
