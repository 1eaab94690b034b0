"""The stack in a terminal: started, described, and stopped whole at Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rich.console import Console

from patchwright_local import channel, state
from patchwright_local.settings import LocalSettings
from patchwright_local.show import Log
from patchwright_local.stack import Options
from patchwright_local.stack import up as stack_up

Result = TypeVar("Result")
Then = Callable[[state.Stack], Awaitable[bool]]
"""What to do once it runs; whether the stack goes on running afterwards."""


def stop_signals() -> asyncio.Event:
    """Set at Ctrl-C, SIGTERM and when the terminal goes away."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def foreground(
    settings: LocalSettings, console: Console, options: Options, then: Then | None = None
) -> None:
    """Run the stack until it is told to stop. Raises `StartError`."""
    folder = state.Folder(settings.home.absolute())
    stop = stop_signals()
    environment = dict(os.environ)
    log = Log(console)
    # The one-time link must not scroll away, and who sets up has no use for who waits for it.
    log.quiet = options.setting_up
    starting = stack_up(settings, folder, log, environment=environment, options=options)
    async with contextlib.AsyncExitStack() as running:
        stack = await unless(stop, running.enter_async_context(starting))
        if stack is None:
            return
        if then is None or await unless(stop, then(stack)):
            describe(console, stack, options)
            log.quiet = False
            await stop.wait()
        console.print("\nStopping …")


async def unless(stop: asyncio.Event, work: Awaitable[Result]) -> Result | None:
    """Its result, or None when the stop came first; then it was cancelled."""
    working, stopped = asyncio.ensure_future(work), asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if working.done():
        return working.result()
    working.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await working
    return None


def describe(console: Console, stack: state.Stack, options: Options) -> None:
    """Where everything is."""
    console.print("\n[bold green]Patchwright is up.[/]  Ctrl-C stops it.")
    rows = {
        "GitHub": stack.github_url or "the real one: `just secrets list` shows what the vault has",
        "Webhooks": stack.webhook_url,
        "Relay": channel.shown(options.relay) if options.relay else "",
        "Traces": stack.trace_url,
        "NATS": stack.nats_url,
        "Sandbox": stack.sandbox,
        "Model": "scripted: set ANTHROPIC_API_KEY for Claude" if stack.scripted else "Claude",
    }
    for name, value in rows.items():
        if value:
            console.print(f"  {name:9} {value}", highlight=False)
    console.print()
