"""The commands behind `just`."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import nats.errors
import typer
from pydantic import ValidationError
from rich.console import Console

from patchwright_common import flow as flow_map
from patchwright_common import requests
from patchwright_common.errors import Permanent, Retry
from patchwright_common.service import keep_memory_private
from patchwright_local import dlq, secrets, set_up, state
from patchwright_local import doctor as doctor_module
from patchwright_local import replay as replay_module
from patchwright_local.channel import ChannelError
from patchwright_local.demo import Demo, person_token
from patchwright_local.foreground import foreground
from patchwright_local.identities import Identities
from patchwright_local.processes import StartError
from patchwright_local.settings import LocalSettings
from patchwright_local.show import Log
from patchwright_local.stack import Options, make_topology
from patchwright_runner.sandbox import image as sandbox_image
from patchwright_runner.settings import RunnerSettings, pick_backend

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(secrets.app, name="secrets")
app.add_typer(dlq.app, name="dlq")
START_LIMIT = 90.0
"""Seconds that `demo` waits for the stack that it started."""

Sandbox = Annotated[str, typer.Option(help="docker, bubblewrap or auto.")]
Relay = Annotated[str, typer.Option(help="Fetch webhooks from this channel; `new` makes one.")]


@app.command()
def up(
    sandbox: Sandbox = "",
    jaeger: Annotated[bool, typer.Option(help="Use the real Jaeger, through Docker.")] = False,
    demo: Annotated[bool, typer.Option(help="The stand-ins, even after `just setup`.")] = False,
    relay: Relay = "",
) -> None:
    """Run the whole stack in the foreground; Ctrl-C stops everything."""
    console = Console()

    async def work() -> None:
        settings = _settings(sandbox)
        folder = state.Folder(settings.home.absolute())
        address = "" if demo and not relay else await set_up.channel_for(folder, relay, console)
        options = Options(demo=demo, jaeger=jaeger, relay=address)
        await foreground(settings, console, options)

    _run(work)


@app.command()
def setup(
    relay: Relay = "",
    webhook_url: Annotated[str, typer.Option(help="Where GitHub shall deliver to.")] = "",
    github_url: Annotated[str, typer.Option(help="GitHub Enterprise's address.")] = "",
    sandbox: Sandbox = "",
    *,
    non_interactive: Annotated[
        bool, typer.Option("--non-interactive", help="From variables and files, without a browser.")
    ] = False,
) -> None:
    """Make a GitHub App and bring the keys, in a browser; starts the stack if need be."""
    settings = _settings(sandbox)
    if non_interactive:
        _run(lambda: set_up.without_a_browser(settings, Console()))
        return
    wishes = set_up.Wishes(relay=relay, webhook_url=webhook_url, github_url=github_url)
    _run(lambda: set_up.in_a_browser(settings, Console(), wishes))


@app.command()
def demo(sandbox: Sandbox = "") -> None:
    """File a demo issue and watch it become a pull request; starts the stack if need be."""
    console = Console()
    settings = _settings(sandbox)
    folder = state.Folder(settings.home.absolute())
    stack = state.running(folder)
    if stack and sandbox not in ("", "auto", stack.sandbox):
        # Looked at first: a stack that works is not stopped for one that cannot start.
        _run(lambda: _require(settings))
        console.print(f"The stack runs with {stack.sandbox}; restarting it with {sandbox}.")
        _stop(stack)
        stack = None
    if stack is None:
        stack = _start(folder, sandbox, console)

    async def watch() -> None:
        if not await Demo(stack, person_token(folder, stack), console).run():
            raise typer.Exit(1)

    _run(watch)


async def _require(settings: LocalSettings) -> None:
    await pick_backend(RunnerSettings(sandbox=settings.sandbox), os.environ)


def _start(folder: state.Folder, sandbox: str, console: Console) -> state.Stack:
    """Start `up` in the background and wait until it is ready."""
    folder.make()
    log = folder.root / "up.log"
    option = [f"--sandbox={sandbox}"] if sandbox else []
    with log.open("w") as output, console.status("Starting the local stack …"):
        child = subprocess.Popen(
            (sys.executable, "-m", "patchwright_local", "up", "--demo", *option),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_LIMIT
        began = time.monotonic()
        while time.monotonic() < deadline:
            stack = state.running(folder)
            if stack:
                seconds = time.monotonic() - began
                console.print(f"The local stack is up after {seconds:.1f} s.", highlight=False)
                return stack
            if child.poll() is not None:
                last = log.read_text().strip().rpartition("\n")[2]
                console.print(f"[red]{last}[/]", highlight=False)
                raise typer.Exit(1)
            time.sleep(0.05)
    child.terminate()
    console.print(f"[red]The stack did not come up in {START_LIMIT:.0f} s; see {log}[/]")
    raise typer.Exit(1)


@app.command()
def down() -> None:
    """Stop the stack that `up` or `demo` started."""
    stack = state.running(state.Folder(_settings("").home.absolute()))
    if stack is None:
        typer.echo("Nothing is running.")
        return
    _stop(stack)
    typer.echo("Stopped. Data stays in .patchwright; delete the folder to begin anew.")


def _stop(stack: state.Stack) -> None:
    try:
        stack.stop()
    except TimeoutError:
        typer.echo(f"It does not stop: kill -9 {stack.pid}", err=True)
        raise typer.Exit(1) from None


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A service, or nothing for all.")] = "",
    follow: Annotated[bool, typer.Option(help="Go on as lines come.")] = True,
) -> None:
    """Show what the services say."""
    folder = state.Folder(_settings("").home.absolute())
    files = sorted(folder.logs.glob(f"{name or '*'}.log"))
    if not files:
        there = ", ".join(sorted(path.stem for path in folder.logs.glob("*.log")))
        known = f"No log of {name}; there are {there}." if there else ""
        typer.echo(known or "No log yet: `just up` or `just demo` makes them.", err=True)
        raise typer.Exit(1)
    command = ("tail", "-v", "-n", "50", *(["-F"] if follow else []), *map(str, files))
    show, current = Log(Console()), ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        try:
            for line in tail.stdout or ():
                header = re.fullmatch(r"==> .*/([\w-]+)\.log <==\n", line)
                if header:
                    current = header[1]
                elif line.strip():
                    show(current, line.rstrip("\n"))
        except KeyboardInterrupt:
            tail.terminate()


@app.command()
def doctor() -> None:
    """Say what this machine can do: sandboxes, control groups, keys set or not."""
    settings = _settings("")
    console = Console()

    async def examine() -> None:
        findings = await doctor_module.examine(settings)
        marks = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[dim]·[/]"}
        for finding in findings:
            console.print(
                f"  {marks[finding.ok]} {finding.name:16} {finding.detail}",
                highlight=False,
                soft_wrap=True,
            )
        if any(finding.ok is False for finding in findings):
            raise typer.Exit(1)

    _run(examine)


@app.command()
def flow() -> None:
    """Print the map: every event with its payload, producers and consumers, and every request."""
    typer.echo(f"{flow_map.table()}\n\n{requests.table()}")


@app.command()
def topology(
    nats_url: Annotated[str, typer.Option(envvar="PATCHWRIGHT_NATS_URL")] = "",
    nkey_file: Annotated[
        Path | None, typer.Option(envvar="PATCHWRIGHT_NATS_NKEY_FILE", help="The operator's.")
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(
            envvar="PATCHWRIGHT_NATS_REPLICAS",
            min=0,
            max=5,
            help="Copies of all that is stored; 0: as before, one at first.",
        ),
    ] = 0,
    gigabytes: Annotated[
        float | None,
        typer.Option(
            envvar="PATCHWRIGHT_STORE_GIGABYTES",
            min=0.1,
            help="For all streams; 21.5 if not given.",
        ),
    ] = None,
) -> None:
    """Make streams, consumers and buckets match the map; safe to repeat."""

    async def make() -> None:
        url, key = (nats_url, nkey_file) if nats_url else _nats()
        for line in await make_topology(url, key, replicas=replicas, gigabytes=gigabytes):
            typer.echo(line)

    _run(make)


@app.command()
def nats_keys(folder: Path) -> None:
    """Make each identity's key for NATS, and print nats-server's environment."""
    identities = Identities(folder)
    identities.make()
    for name, value in identities.public().items():
        typer.echo(f"export {name}={value}")


@app.command()
def replay(
    sequence: Annotated[int, typer.Argument(help="The message's number in its stream.")],
    stream: Annotated[Literal["github", "events"], typer.Option(help="Which one.")] = "github",
    new: Annotated[bool, typer.Option("--new", help="As a new request: a new attempt.")] = False,
) -> None:
    """Send a stored delivery or event again."""

    async def again() -> None:
        typer.echo(await replay_module.replay(*_nats(), stream, sequence, as_new=new))

    _run(again)


@app.command()
def image() -> None:
    """Build the sandbox's image for Docker, if it is not there."""
    context = Path(__file__).parents[3] / "deploy" / "images" / "sandbox"
    raise typer.Exit(sandbox_image.main([str(context)]))


def _nats() -> tuple[str, Path | None]:
    """Where NATS is, and the operator's key to it."""
    settings = _settings("")
    stack = state.running(state.Folder(settings.home.absolute()))
    if stack:
        return stack.nats_url, stack.nkey()
    return f"nats://127.0.0.1:{settings.nats_port}", None


def _settings(sandbox: str) -> LocalSettings:
    given: dict[str, Any] = {"sandbox": sandbox} if sandbox else {}
    try:
        return LocalSettings(**given)
    except ValidationError as error:
        _explain(error)
        raise typer.Exit(2) from None


def _explain(error: ValidationError) -> None:
    """A line for each setting that does not fit, without its value."""
    for problem in error.errors():
        name = ".".join(map(str, problem["loc"])).upper()
        variable = name if name.startswith("ANTHROPIC") else f"PATCHWRIGHT_{name}"
        typer.echo(f"{variable}: {problem['msg']}", err=True)


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it; what the operator can mend is one line and exit code 1."""
    keep_memory_private()  # `up` is given the secrets that it hands to the vault
    try:
        asyncio.run(work())
    except ValidationError as error:
        _explain(error)
        raise typer.Exit(2) from None
    except (ChannelError, StartError, Permanent, Retry) as error:
        typer.echo(f"{error} {getattr(error, 'advice', '')}".strip(), err=True)
        raise typer.Exit(1) from None
    except nats.errors.Error as error:
        typer.echo(f"NATS does not answer: `just up` starts it. ({error})", err=True)
        raise typer.Exit(1) from None
    except (OSError, TimeoutError) as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None
