"""Reads bodies in a thread, as what a program in the sandbox sends may take a second to read.

Meanwhile the event loop belongs to all jobs: it renews their messages' time and carries their
commands. One body is read at a time, as its values need several times its own size in memory.
"""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from patchwright_runner.gateway import json_body
from patchwright_runner.gateway.request import Asked, check


@dataclass(frozen=True, slots=True)
class Read:
    """What a body asks for, and the body as it is sent on."""

    asked: Asked
    written: bytes


def read(body: bytes | bytearray) -> Read:
    """Raises RefusedError for what may not be sent on."""
    found = json_body.read(body)
    return Read(check(found), json_body.write(found))


async def read_aside(body: bytes | bytearray) -> Read:
    """The same beside the event loop, when those that came before are read.

    A gateway asks for one at a time, so that it waits for one body of each other job at most.
    """
    return await asyncio.get_running_loop().run_in_executor(_thread(), read, body)


@functools.cache
def _thread() -> ThreadPoolExecutor:
    """Not one of the loop's own: a flood of bodies would keep those from everybody else."""
    return ThreadPoolExecutor(1, "gateway-bodies")
