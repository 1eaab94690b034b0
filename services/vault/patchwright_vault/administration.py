"""What the set-up pages and the operator's commands may ask: records in, facts out, no value."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from patchwright_common import requests
from patchwright_common.bus import AWAY, Bus
from patchwright_common.errors import Permanent
from patchwright_vault.accepting import accepted, check_name
from patchwright_vault.audit import Ask, Grant
from patchwright_vault.handlers import Answer, parsed
from patchwright_vault.rotation import Retirement, Rotation, retire, rotate
from patchwright_vault.store import CONVERSION, GITHUB_APP, WEBHOOK_SECRET
from patchwright_vault.webhook_secrets import beside

if TYPE_CHECKING:
    from patchwright_vault.store import Store
    from patchwright_vault.webhook_secrets import WebhookSecrets

log = logging.getLogger(__name__)


class PutRequest(BaseModel):
    """A secret on its way in."""

    model_config = ConfigDict(hide_input_in_errors=True)

    name: str = Field(repr=False)
    value: str = Field(repr=False)


class NameRequest(BaseModel):
    """One record."""

    model_config = ConfigDict(hide_input_in_errors=True)

    name: str = Field(repr=False)


class WhatRequest(BaseModel):
    """What to rotate or to retire."""

    model_config = ConfigDict(hide_input_in_errors=True)

    what: Literal["webhook-secret", "key"]


class Changes:
    """Tells who is there that a record is another one now; whoever is not asks when it starts."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def announce(self, *names: str) -> None:
        """Raises nothing: the records are stored, and that is what counts."""
        for name in names:
            try:
                await self._bus.client.publish(requests.CHANGED, name.encode())
            except AWAY as error:
                log.warning("nobody was told that %s changed: %s", name, type(error).__name__)


def require_sealed(ask: Ask) -> None:
    """A secret that crossed the bus in the clear is refused, so that its sender notices."""
    if not ask.sealed:
        raise Permanent(
            "A secret must be sealed to the vault's key. What was sent may have been read on "
            "the bus: replace it where it was made."
        )


class Administration:
    """Records by name, for the caller `setup`."""

    def __init__(
        self, store: Store, changes: Changes, webhook_secrets: WebhookSecrets, public_key: bytes
    ) -> None:
        self._store = store
        self._changes = changes
        self._webhook_secrets = webhook_secrets
        self._public_key = public_key

    def answers(self) -> dict[str, Answer]:
        """By verb."""
        return {
            "key": self._key,
            "list": self._list,
            "put": self._put,
            "delete": self._delete,
            "rotate": self._rotate,
            "retire": self._retire,
        }

    async def _key(self, _ask: Ask) -> Grant:
        return Grant(self._public_key.hex())

    async def _list(self, _ask: Ask) -> Grant:
        records = [
            {
                "name": record.name,
                "version": record.version,
                "key_version": record.key_version,
                "changed_at": record.changed_at,
            }
            for record in await self._store.describe()
        ]
        return Grant(json.dumps(records))

    async def _put(self, ask: Ask) -> Grant:
        require_sealed(ask)
        request = parsed(PutRequest, ask)
        value = accepted(request.name, request.value)
        if request.name == WEBHOOK_SECRET:
            changed = await self._store.change(WEBHOOK_SECRET, lambda held: beside(held, value))
        else:
            changed = await self._store.put(request.name, value)
        # Also when nothing changed: the one who stored it may have died before it said so.
        await self._follow(request.name)
        return Grant("stored" if changed else "unchanged")

    async def _delete(self, ask: Ask) -> Grant:
        request = parsed(NameRequest, ask)
        # What lies there and is nothing of ours is the operator's to clear away.
        if request.name not in await self._store.foreign():
            check_name(request.name)
        deleted = await self._store.delete(request.name)
        await self._follow(request.name)
        return Grant("deleted" if deleted else "missing")

    async def _follow(self, name: str) -> None:
        if name == GITHUB_APP:
            # It would come back with the same code, and its key would outlive it.
            await self._store.delete(CONVERSION)
        await self._changes.announce(name)

    async def _rotate(self, ask: Ask) -> Grant:
        if parsed(WhatRequest, ask).what == "key":
            with _advice_told():
                return Grant(json.dumps(_key_rotated(await rotate(self._store))))
        return Grant(json.dumps(_secret_rotated(await self._webhook_secrets.rotate())))

    async def _retire(self, ask: Ask) -> Grant:
        if parsed(WhatRequest, ask).what == "key":
            with _advice_told():
                return Grant(json.dumps(_key_retired(await retire(self._store))))
        return Grant(json.dumps(_secret_retired(await self._webhook_secrets.retire())))


@contextlib.contextmanager
def _advice_told() -> Iterator[None]:
    """An answer has room for one text."""
    try:
        yield
    except Permanent as error:
        raise Permanent(f"{error.reason} {error.advice}".strip()) from None


def _key_rotated(done: Rotation) -> dict[str, Any]:
    detail = f"{done.records} records are sealed with key version {done.key_version}."
    advice = "Back the key up again: a copy from before does not open them."
    if done.retirable:
        versions = ", ".join(map(str, sorted(done.retirable)))
        advice += (
            f" `just secrets retire key` destroys version {versions}; backups of the records from "
            "before do not open then."
        )
    return _with_strays(done, detail, advice)


def _key_retired(done: Retirement) -> dict[str, Any]:
    versions = ", ".join(map(str, sorted(done.retired)))
    detail = f"Key version {versions} is destroyed." if versions else "There was no old key."
    return _with_strays(done, f"{detail} {done.key_version} is in use.", "")


def _with_strays(done: Rotation | Retirement, detail: str, advice: str) -> dict[str, Any]:
    """Strays are quoted with what a terminal could obey written out."""
    if done.strays:
        detail += f" Left alone, as no record of the vault's: {', '.join(map(ascii, done.strays))}."
        advice += " Find out who wrote to the vault's bucket; `delete` with the name clears it."
    return {**asdict(done), "detail": detail, "advice": advice.strip()}


def _secret_rotated(facts: dict[str, Any]) -> dict[str, Any]:
    detail, advice = "GitHub signs with a new webhook secret now.", ""
    if facts["previous_until"]:
        until = datetime.fromtimestamp(facts["previous_until"], UTC)
        detail += f" What was signed before verifies until {until:%Y-%m-%d %H:%M} UTC."
        advice = "`just secrets retire webhook-secret` ends that at once."
    return {**facts, "detail": detail, "advice": advice}


def _secret_retired(facts: dict[str, Any]) -> dict[str, Any]:
    if facts["retired"]:
        return {**facts, "detail": "The former webhook secret does not verify any more."}
    return {**facts, "detail": "There was no former webhook secret."}
