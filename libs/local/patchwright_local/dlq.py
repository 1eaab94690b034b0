"""`just dlq`: look through the dead letters, send them again, or forget them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import nats.errors
import typer
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from patchwright_common.errors import Permanent, Retry
from patchwright_local import state
from patchwright_local.connection import connected
from patchwright_local.dead_letters import DeadLetter, DeadLetters, way
from patchwright_local.show import visible

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Messages that no retry could cure: look at them, send them again, forget them.",
)
BODY_LIMIT = 20_000
"""Characters of a body that are shown."""
Sequences = Annotated[list[int], typer.Argument(metavar="SEQ...", help="As `list` numbers them.")]


class OperatorAccess(BaseSettings):
    """Where to look; with a URL the stack that runs here does not matter."""

    model_config = SettingsConfigDict(
        env_prefix="PATCHWRIGHT_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    home: Path = Field(default=Path(".patchwright"), description="Data of the local stack.")
    nats_url: str = Field(default="", description="Another NATS than that of the local stack.")
    nats_nkey_file: Path | None = Field(
        default=None, description="The key of the identity `operator` there: a seed file."
    )
    trace_url: str = Field(default="", description="A trace's page, with {trace_id} in it.")

    def way(self) -> tuple[str, Path | None]:
        """NATS's address and the key for it. Raises `Permanent` when there is none."""
        if self.nats_url:
            file = self.nats_nkey_file
            return self.nats_url, None if file in (None, Path()) else file.expanduser()
        stack = state.running(state.Folder(self.home.absolute()))
        if stack is None:
            raise Permanent(
                "No stack runs here, so there is no NATS to look at.",
                advice="Start it with `just up`, or set PATCHWRIGHT_NATS_URL and "
                "PATCHWRIGHT_NATS_NKEY_FILE to reach another one.",
            )
        return stack.nats_url, stack.nkey()

    def trace(self, trace_id: str) -> str:
        """The page of a trace, or its id where nobody said who shows it."""
        stack = None if self.nats_url else state.running(state.Folder(self.home.absolute()))
        address = self.trace_url or (f"{stack.trace_url}/trace/{{trace_id}}" if stack else "")
        return address.replace("{trace_id}", trace_id) if address else trace_id


@app.command("list")
def list_() -> None:
    """Which there are: when, of which consumer and job, after how many tries, and why."""

    async def work(letters: DeadLetters) -> None:
        table = Table(box=None, pad_edge=False)
        for title in ("seq", "when", "consumer", "job", "tries"):
            table.add_column(title, no_wrap=True)
        table.add_column("reason", overflow="fold")
        async for letter in letters.all():
            when = f"{letter.at.astimezone():%Y-%m-%d %H:%M:%S}"
            table.add_row(
                str(letter.sequence),
                when,
                Text(visible(letter.consumer)),
                Text(visible(letter.job_id or "-")),
                str(letter.delivered),
                Text(visible(letter.reason)),
            )
        if table.row_count:
            Console().print(table)
        else:
            typer.echo("No dead letters.")

    _run(work)


@app.command()
def show(sequence: Annotated[int, typer.Argument(metavar="SEQ")]) -> None:
    """All of one: what happened, its trace, headers and body."""

    async def work(letters: DeadLetters) -> None:
        _show(await letters.get(sequence))

    _run(work)


@app.command()
def redrive(sequences: Sequences) -> None:
    """Send them again, once what was wrong is mended, and forget the dead letters.

    A job that ended as a failure begins another attempt; everything else is sent again as it
    was. Doing the same twice doubles nothing.
    """

    async def work(letters: DeadLetters) -> None:
        for sequence in sequences:
            typer.echo(f"{sequence}: {await letters.redrive(await letters.get(sequence))}")

    _run(work)


@app.command()
def drop(
    sequences: Sequences,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget dead letters without doing anything about them."""

    async def work(letters: DeadLetters) -> None:
        for letter in [await letters.get(sequence) for sequence in sequences]:
            line = f"{letter.sequence}: {letter.consumer} {letter.job_id}".rstrip()
            if not yes and not await asyncio.to_thread(_confirmed, f"Forget {visible(line)}?"):
                typer.echo("It stays. (--yes does not ask.)", err=True)
                raise typer.Exit(1)
            await letters.drop(letter)
            typer.echo(f"{letter.sequence}: forgotten")

    _run(work)


def _show(letter: DeadLetter) -> None:
    try:
        redriving = way(letter).value
    except Permanent as error:
        redriving = error.reason
    facts = {
        "when": f"{letter.at.astimezone():%Y-%m-%d %H:%M:%S %z}",
        "consumer": letter.consumer,
        "job": letter.job_id or "none",
        "reason": letter.reason,
        "tries": str(letter.delivered),
        "message": f"{letter.origin} on {letter.subject}",
        "trace": OperatorAccess().trace(letter.trace_id),
        "redrive": redriving,
    }
    for name, value in facts.items():
        typer.echo(f"{name:9} {visible(value)}")
    typer.echo()
    for name, value in letter.headers.items():
        typer.echo(f"{visible(name)}: {visible(value)}")
    typer.echo()
    text = _readable(letter.body)
    typer.echo(visible(text[:BODY_LIMIT]))
    if len(text) > BODY_LIMIT:
        typer.echo(f"… {len(text) - BODY_LIMIT} more characters")


def _readable(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        return False


def _run(work: Callable[[DeadLetters], Coroutine[Any, Any, None]]) -> None:
    """What the operator can mend is a line and exit code 1."""

    async def connect() -> None:
        async with connected(*OperatorAccess().way()) as client:
            await work(DeadLetters(client))

    try:
        asyncio.run(connect())
    except Permanent as error:
        _fail(f"{error.reason} {error.advice}".strip())
    except Retry as error:
        _fail(f"{error.reason.rstrip('.')}. Doing the same again is safe.")
    except (nats.errors.Error, OSError, TimeoutError) as error:
        _fail(
            f"NATS does not answer, or does not take this key ({type(error).__name__}): `just up` "
            "starts the local one. Doing the same again is safe."
        )


def _fail(text: str) -> None:
    typer.echo(visible(text), err=True)
    raise typer.Exit(1)
