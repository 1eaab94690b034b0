"""`just secrets`: what operators do with the vault's records. Nothing here prints a value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import nats.errors
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from patchwright_common.credentials import AppFacts, Vault
from patchwright_common.errors import Permanent, Retry
from patchwright_common.service import keep_memory_private
from patchwright_local.bringing import GITHUB_APP, NAMES, AppWords, as_app, read_secret
from patchwright_local.quiet import QuietGroup
from patchwright_local.vault_access import VaultAccess, administered

app = typer.Typer(
    cls=QuietGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The secrets in the vault: which there are, and new ones. Values are never shown.",
)
Rotating = Annotated[Literal["webhook-secret", "key"], typer.Argument(metavar="webhook-secret|key")]
File = Annotated[Path | None, typer.Option(help="Read the value from it; - is standard input.")]


@app.command("list")
def list_() -> None:
    """Which records there are, in which version, and when they changed."""
    _with_vault(_show_records)


@app.command("set")
def set_(
    name: Annotated[str, typer.Argument(metavar="github-app|webhook-secret|model-key")],
    file: File = None,
    app_id: Annotated[str, typer.Option(help="With a private key: the App's id.")] = "",
    slug: Annotated[str, typer.Option(help="With a private key: the App's name in URLs.")] = "",
    api_url: Annotated[str, typer.Option(help="With a private key: its GitHub's API.")] = "",
) -> None:
    """Store a secret: from a file, from standard input, or typed without being shown.

    github-app takes the App's private key; where it is known already, --app-id can be left out.
    """
    _check_name(name)
    words = AppWords(app_id=app_id, slug=slug, api_url=api_url)

    async def store(vault: Vault) -> None:
        value = await asyncio.to_thread(read_secret, name, file)
        if name == GITHUB_APP:
            value = as_app(value, words, await _held_app(vault))
        reply = await vault.tell("put", {"name": name, "value": value})
        typer.echo(f"{name}: {reply.value}")

    _with_vault(store)


@app.command()
def rotate(what: Rotating) -> None:
    """Make a new webhook secret, or a new key for the records; the old one stays valid."""
    _with_vault(lambda vault: _tell_facts(vault, "rotate", what))


@app.command()
def retire(what: Rotating) -> None:
    """Forget what a rotation left valid."""
    _with_vault(lambda vault: _tell_facts(vault, "retire", what))


@app.command()
def delete(
    name: Annotated[str, typer.Argument(metavar="github-app|webhook-secret|model-key")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a secret. What needs it waits or fails until there is a new one."""
    if name not in NAMES:
        # What somebody else left in the bucket can be cleared away by the name that is listed.
        _with_vault(lambda vault: _check_listed(vault, name))
    if not yes and not _confirmed(f"Delete {name} from the vault?"):
        typer.echo("Nothing was deleted. (--yes does not ask.)", err=True)
        raise typer.Exit(1)

    async def forget(vault: Vault) -> None:
        reply = await vault.ask("delete", {"name": name})
        typer.echo(f"{name}: {reply.value}")

    _with_vault(forget)


async def _show_records(vault: Vault) -> None:
    records = json.loads((await vault.ask("list")).value or "[]")
    table = Table(box=None, pad_edge=False)
    for title in ("name", "version", "key version", "changed"):
        table.add_column(title, no_wrap=True)
    for record in sorted(records, key=lambda record: str(record["name"])):
        if record["version"]:
            changed = datetime.fromtimestamp(record["changed_at"]).astimezone()
            facts = (record["version"], record["key_version"], f"{changed:%Y-%m-%d %H:%M:%S %z}")
        else:
            facts = ("?", "?", "cannot be read")
        table.add_row(str(record["name"]), *map(str, facts))
    Console().print(table)


async def _held_app(vault: Vault) -> AppFacts | None:
    names = {record["name"] for record in json.loads((await vault.ask("list")).value or "[]")}
    return await vault.app() if GITHUB_APP in names else None


async def _tell_facts(vault: Vault, verb: str, what: str) -> None:
    facts = json.loads((await vault.ask(verb, {"what": what})).value or "{}")
    for name in ("detail", "advice"):
        if facts.get(name):
            typer.echo(facts[name])


def _check_name(name: str) -> None:
    """Raises `typer.Exit`; a name that is none may be a secret in the wrong place."""
    if name not in NAMES:
        typer.echo(f"The names are {', '.join(NAMES)}. Nothing was done.", err=True)
        raise typer.Exit(2)


async def _check_listed(vault: Vault, name: str) -> None:
    records = json.loads((await vault.ask("list")).value or "[]")
    if name not in {record["name"] for record in records}:
        _check_name(name)


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        return False


def _with_vault(work: Callable[[Vault], Coroutine[Any, Any, None]]) -> None:
    """Ask it; what the operator can mend is a line or two and exit code 1."""

    async def ask() -> None:
        async with administered(VaultAccess()) as vault:
            await work(vault)

    run(ask)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Raises `typer.Exit` with what is wrong said, and no value in it."""
    keep_memory_private()
    try:
        asyncio.run(work())
    except Permanent as error:
        _fail(f"{error.reason} {error.advice}".strip())
    except Retry as error:
        _fail(
            f"{error.reason.rstrip('.')}. Doing the same again is safe; `just logs vault` says "
            "more."
        )
    except ValidationError as error:
        _fail("These settings do not fit: " + ", ".join(str(e["loc"][0]) for e in error.errors()))
    except (nats.errors.Error, OSError, TimeoutError) as error:
        _fail(
            f"NATS does not answer, or does not take this key ({type(error).__name__}). "
            "Nothing was changed. `just up` starts the local one."
        )


def _fail(text: str) -> None:
    typer.echo(text, err=True)
    raise typer.Exit(1)
