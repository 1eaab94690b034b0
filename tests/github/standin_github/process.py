"""The stand-in as a process of its own, for whoever tests against it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from standin_github.client import StandinGitHub
from standin_github.main import READY

START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0
"""Seconds."""


@contextlib.asynccontextmanager
async def running(data: Path, *arguments: str) -> AsyncIterator[StandinGitHub]:
    """Started on a free port and stopped in the end; `arguments` are further ones of the program.

    Raises TimeoutError or RuntimeError when it does not come up.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "standin_github.main", "--data", str(data), *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with StandinGitHub(await _address(process)) as client:
            yield client
    finally:
        await _stop(process)


async def _address(process: asyncio.subprocess.Process) -> str:
    if process.stdout is None:
        raise RuntimeError("started without a pipe")
    async with asyncio.timeout(START_TIMEOUT):
        line = (await process.stdout.readline()).decode().strip()
    if not line.startswith(READY):
        raise RuntimeError(f"standin-github did not start: {line or 'it said nothing'}")
    return line.removeprefix(READY)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
