"""A group of commands that repeats nothing that was typed: it may be a secret in a wrong place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

REFUSAL = (
    "What was typed fits no command. It is not repeated here, because a secret may be part of it. "
    "If one is: others may have seen it on the command line, and the shell keeps it, so make a "
    "new one. Give it by --file, or by a pipe, or type it when asked. Nothing was stored or "
    "changed."
)


class QuietGroup(TyperGroup):
    """Click's errors quote unknown commands, options, arguments and bad values."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Called for the group's own words."""
        if not args:  # the help, by way of an error
            return super().make_context(info_name, args, parent=parent, **extra)
        with _quiet():
            return super().make_context(info_name, args, parent=parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Called for the words of a command in it, and to run that."""
        with _quiet():
            return super().invoke(ctx)


@contextmanager
def _quiet() -> Iterator[None]:
    """Raises `typer.Exit` instead of Click's errors."""
    try:
        yield
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        if context is not None:
            # Made of declared names alone.
            typer.echo(context.get_usage(), err=True)
        typer.echo(REFUSAL, err=True)
        raise typer.Exit(error.exit_code) from None
