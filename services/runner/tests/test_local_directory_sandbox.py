"""The stand-in for a box keeps the promises that agents' tests rely on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.programs import free_port

from .local_directory_sandbox import LocalDirectorySandbox
from .test_sandbox_doors import SECONDS, room, shout_at_the_end


async def test_stand_in_passes_input_variables_and_output(tmp_path: Path) -> None:
    heard = bytearray()

    async def hear(piece: bytes) -> None:
        heard.extend(piece)

    result = await LocalDirectorySandbox(tmp_path).run(
        "cat; echo $NAME",
        timeout=SECONDS,
        stdin=b"given ",
        environment={"NAME": "ann"},
        heard=hear,
    )

    assert result.output == heard.decode() == "given ann\n"


async def test_stand_ins_doors_lead_to_their_sockets(tmp_path: Path) -> None:
    port = free_port()
    code = (
        f"import socket; s = socket.create_connection(('127.0.0.1', {port})); "
        "s.sendall(b'hello'); s.shutdown(1); print(s.makefile().read())"
    )

    async with room(shout_at_the_end) as path:
        result = await LocalDirectorySandbox(tmp_path).run(
            f'{sys.executable} -c "{code}"', timeout=SECONDS, doors={port: path}
        )

    assert result.output == "HELLO\n"


async def test_stand_ins_listener_may_fail_by_a_time_limit_of_its_own(tmp_path: Path) -> None:
    async def fail(_piece: bytes) -> None:
        raise TimeoutError("heard enough")

    with pytest.raises(TimeoutError, match="heard enough"):
        await LocalDirectorySandbox(tmp_path).run("echo x; sleep 600", timeout=600, heard=fail)
