"""`just setup`: the stack for a real GitHub, and the pages that set its App up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console

from patchwright_common.bus import Bus
from patchwright_common.credentials import AppFacts, Vault
from patchwright_common.requests import SETUP
from patchwright_local import state
from patchwright_local.connection import connected
from patchwright_local.private import is_secret
from patchwright_local.processes import Show, StartError

STOP_TIMEOUT = 10.0
"""Seconds for the pages to end when they are told to."""


def usable(folder: state.Folder) -> state.Stack | None:
    """The stack that runs already and can be set up. Raises `StartError` for the demo's."""
    stack = state.running(folder)
    if stack and stack.github_url:
        raise StartError("The demo's stack is running: `just down` stops it, then set up again.")
    return stack


async def pages(environment: dict[str, str], show: Show, say: Console) -> bool:
    """Serve the pages until they are finished; whether that happened.

    What is not a log line goes to the terminal alone: it holds the one-time link.
    """
    program = str(Path(sys.executable).parent / "patchwright-setup")
    process = await asyncio.create_subprocess_exec(
        program, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async for line in _lines(process):
            if line.startswith("{"):
                show("setup", line)
            else:
                say.print(f"\n{line}\n", highlight=False, soft_wrap=True)
        return await process.wait() == 0
    finally:
        await _stop(process)


def page_environment(stack: state.Stack, given: dict[str, str]) -> dict[str, str]:
    """Of the pages' process: the terminal's own, without the secrets that may be in it."""
    kept = {name: value for name, value in given.items() if not is_secret(name)}
    return kept | {
        "PATCHWRIGHT_NATS_URL": stack.nats_url,
        "PATCHWRIGHT_NATS_NKEY_FILE": str(stack.nkey(SETUP)),
        "PYTHONUNBUFFERED": "1",
    }


async def remember(stack: state.Stack, folder: state.Folder) -> AppFacts:
    """Write down that there is an App now, so that `just up` starts for it.

    Raises `Retry` or `Permanent` when the vault does not know one.
    """
    async with connected(stack.nats_url, stack.nkey(SETUP), identity=SETUP) as client:
        facts = await Vault(Bus(client), SETUP).app()
    folder.app.write_text(facts.model_dump_json(indent=2) + "\n")
    return facts


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    if process.stdout is None:
        raise AssertionError("started with a pipe")
    async for raw in process.stdout:
        yield raw.decode(errors="replace").rstrip("\n")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            process.kill()
