"""How a request's shape is written down: checks that are put together from smaller ones.

A check gets a value and where it stands, and raises RefusedError for what it does not know. What
is not written down does not pass. `null` passes wherever a field is optional to the API, which
takes it as absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from patchwright_runner.agent.hidden_text import one_line
from patchwright_runner.gateway.refusal import RefusedError

Check = Callable[[Any, str], None]

SHOWN = 60
"""Characters of a name that are repeated in an answer."""


def refuse(where: str, why: str) -> NoReturn:
    """Say no in the API's way: the place first."""
    raise RefusedError(f"{where}: {why}")


def anything(_value: Any, _where: str) -> None:
    """JSON that the model's server does not act on, such as a tool's input."""


def absent(value: Any, where: str) -> None:
    """A field that may only be null."""
    if value is not None:
        refuse(where, "not let through by this gateway")


def plain(value: Any, where: str) -> None:
    """A string, a number, true or false."""
    if isinstance(value, dict | list):
        refuse(where, "expected a plain value")


def flat(value: Any, where: str) -> None:
    """An object of plain values."""
    for name, found in _object(value, where).items():
        # The place is put into words when it is needed: there may be a hundred thousand.
        if isinstance(found, dict | list):
            plain(found, f"{where}.{short(name)}")


def words(*allowed: str) -> Check:
    """One of these strings."""

    def check(value: Any, where: str) -> None:
        if value not in allowed:
            refuse(where, f"{short(value)} is not let through; allowed: {', '.join(allowed)}")

    return check


def listed(each: Check) -> Check:
    """A list."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            refuse(where, "expected a list")
        for number, found in enumerate(value):
            each(found, f"{where}.{number}")

    return check


def text_or(other: Check) -> Check:
    """A string, or something else."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str):
            other(value, where)

    return check


def fields(**known: Check) -> Check:
    """An object with no other fields than these."""

    def check(value: Any, where: str) -> None:
        for name, found in _object(value, where).items():
            before = f"{where}." if where else ""
            if name not in known:
                refuse(before + short(name), "this field is not let through by this gateway")
            if found is not None:
                known[name](found, before + name)

    return check


def tagged(kinds: Mapping[str, Check], *, untagged: str | None = None) -> Check:
    """An object whose `type` says what else it may hold; without one it is `untagged`."""

    def check(value: Any, where: str) -> None:
        kind = _object(value, where).get("type")
        kind = untagged if kind is None else kind
        if not isinstance(kind, str) or kind not in kinds:
            allowed = ", ".join(kinds)
            refuse(f"{where}.type", f"{short(kind)} is not let through; allowed: {allowed}")
        kinds[kind](value, where)

    return check


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(where or "body", "expected an object")
    return value


def short(value: Any) -> str:
    """A stranger's word in one short line; it was parsed from JSON, so `str` is all we need."""
    return one_line(str(value)[: 2 * SHOWN], SHOWN)
