"""`just setup`: the stack for a real GitHub, and the pages that set its App up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console

from patchwright_common.bus import Bus
from patchwright_common.credentials import AppFacts, Vault
from patchwright_common.requests import SETUP
from patchwright_local import channel, state, unattended
from patchwright_local.connection import connected
from patchwright_local.foreground import foreground, stop_signals, unless
from patchwright_local.private import is_secret, write_private
from patchwright_local.processes import Show, StartError
from patchwright_local.settings import LocalSettings
from patchwright_local.show import Log
from patchwright_local.stack import Options

STOP_TIMEOUT = 10.0
"""Seconds for the pages to end when they are told to."""


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for; empty where it does not."""

    relay: str = ""
    webhook_url: str = ""
    github_url: str = ""

    def environment(self, channel: str) -> dict[str, str]:
        """What the pages' forms begin with."""
        wanted = {
            "PATCHWRIGHT_WEBHOOK_URL": self.webhook_url or channel,
            "PATCHWRIGHT_GITHUB_URL": self.github_url,
        }
        return {name: value for name, value in wanted.items() if value}


async def in_a_browser(settings: LocalSettings, console: Console, wishes: Wishes) -> None:
    """Until the pages are finished, and then as `just up`. Raises `StartError`."""
    folder = state.Folder(settings.home.absolute())
    running = usable(folder)
    address = await channel_for(folder, wishes.relay, console)
    given = dict(os.environ) | wishes.environment(address)

    async def then(stack: state.Stack) -> bool:
        if not await pages(page_environment(stack, given), Log(console), console):
            raise StartError("Not finished. What was done is kept: `just setup` goes on there.")
        await _remember(stack, folder, console)
        return True

    if running:
        await unless(stop_signals(), then(running))
    else:
        await foreground(settings, console, Options(setting_up=True, relay=address), then)


async def without_a_browser(settings: LocalSettings, console: Console) -> None:
    """Store what variables and files bring, and try it. Raises `typer.Exit` where it fails."""
    folder = state.Folder(settings.home.absolute())
    done = False

    async def bring(stack: state.Stack | None) -> bool:
        nonlocal done
        done = await unattended.set_up(unattended.Given(), console.out)
        if done and stack:
            await _remember(stack, folder, console)
        return False

    if os.environ.get("PATCHWRIGHT_NATS_URL"):
        await bring(None)
    elif running := usable(folder):
        await bring(running)
    else:
        await foreground(settings, console, Options(setting_up=True), bring)
    if not done:
        raise typer.Exit(1)


async def channel_for(folder: state.Folder, wanted: str, console: Console) -> str:
    """The relay's address: a new one, the one that was given, or that of the last time.

    Empty where the App was set up without one. Raises `ChannelError`.
    """
    if not wanted:
        known = folder.app.exists() and folder.channel.exists()
        return folder.channel.read_text().strip() if known else ""
    address = await channel.new() if wanted == "new" else channel.checked(wanted)
    folder.make()
    write_private(folder.channel, address + "\n")
    if wanted == "new":
        console.print(f"\nThe App's webhook URL: {address}", highlight=False, soft_wrap=True)
    return address


async def _remember(stack: state.Stack, folder: state.Folder, console: Console) -> None:
    facts = await remember(stack, folder)
    console.print(
        f"[bold green]{facts.slug} is set up.[/]  From now on `just up` starts for it, and "
        "`just up --demo` for the demo."
    )


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
                say.print(f"\n{line}", highlight=False, soft_wrap=True)
                say.print("[dim]Enter makes another link. Ctrl-C stops; nothing is lost.[/]")
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
