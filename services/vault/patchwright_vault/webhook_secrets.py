"""The webhook secret and its rotation: at every moment what GitHub signs with verifies.

A rotation has three steps: a new secret is stored in front of the old ones and ingest is
told; a moment later GitHub is given it; that GitHub has it is stored. Killed between any
two, the newest secret in the record is one that GitHub may or may not have: both verify,
and the same command goes on with that one. The secret before it stays good for an overlap,
for deliveries that are on their way.

The record is JSON (`Secrets`); one of the first releases, or one that an operator put, is
the bare secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from patchwright_common.beside import cancel_until_done
from patchwright_common.errors import Permanent, Retry
from patchwright_vault.accepting import accepted
from patchwright_vault.store import WEBHOOK_SECRET, MissingError, Store

if TYPE_CHECKING:
    from patchwright_vault.app import AppClient

log = logging.getLogger(__name__)

OVERLAP = 24 * 3600.0
"""Seconds for which the previous secret verifies after GitHub was given the new one."""
LEAD = 3.0
"""Seconds that ingest has to learn the new secret before GitHub signs with it."""
GITHUB_TIMEOUT = 6.0
"""Seconds for GitHub to take it; with the lead, less than an asker waits."""
EXPIRY_INTERVAL = 60.0
"""Seconds between two looks for what has expired."""
RETIRED_LIMIT = 100
"""Digests of former secrets."""
UNFINISHED = "A rotation of the webhook secret is not finished: run it again, then retire."


class Entry(BaseModel):
    """One secret. Times in seconds since the epoch."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    secret: str = Field(repr=False)
    made_at: float = 0.0
    at_github: bool = True
    """False: GitHub was not given it, or it is not known whether it was."""
    until: float = 0.0
    """When it stops to verify; 0 while it is the one that GitHub signs with."""


class Secrets(BaseModel):
    """The record."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    entries: tuple[Entry, ...]
    """Newest first."""
    retired: tuple[str, ...] = ()
    """SHA-256 of former secrets: an environment that still brings one brings nothing new."""

    @classmethod
    def read(cls, record: bytes) -> Secrets:
        """Of either form."""
        if record.startswith(b"{"):
            try:
                return cls.model_validate_json(record)
            except ValidationError:
                pass  # a bare secret may begin with a brace too
        return cls(entries=(Entry(secret=record.decode()),))

    def written(self) -> bytes:
        """As it is stored."""
        return self.model_dump_json().encode()

    def valid(self, now: float) -> tuple[Entry, ...]:
        """Those that verify."""
        return tuple(entry for entry in self.entries if not 0 < entry.until <= now)

    def knows(self, secret: str) -> bool:
        """Whether it is or was one of these."""
        return _digest(secret) in self.retired or any(e.secret == secret for e in self.entries)

    def without_expired(self, now: float) -> Secrets:
        """What has expired leaves its digest alone."""
        kept = self.valid(now)
        gone = tuple(_digest(entry.secret) for entry in self.entries if entry not in kept)
        return Secrets(entries=kept, retired=(*gone, *self.retired)[:RETIRED_LIMIT])

    def begun(self, secret: str, now: float) -> Secrets:
        """With `secret` in front, unless a rotation waits to be finished."""
        if not self.entries[0].at_github:
            return self
        entry = Entry(secret=secret, made_at=now, at_github=False)
        return self.model_copy(update={"entries": (entry, *self.entries)})

    def finished(self, secret: str, now: float, overlap: float) -> Secrets:
        """GitHub has `secret`: those before it verify for the overlap, and no longer."""
        newest, *former = self.entries
        if newest.secret != secret or newest.at_github:
            return self
        ending = tuple(
            entry.model_copy(update={"until": entry.until or now + overlap}) for entry in former
        )
        done = newest.model_copy(update={"at_github": True})
        return self.model_copy(update={"entries": (done, *ending)})

    def alone(self) -> Secrets:
        """The newest and no other. Raises `Permanent` in the middle of a rotation."""
        if not self.entries[0].at_github:
            raise Permanent(UNFINISHED)
        former = self.entries[1:]
        gone = tuple(_digest(entry.secret) for entry in former)
        return Secrets(entries=self.entries[:1], retired=(*gone, *self.retired)[:RETIRED_LIMIT])


class WebhookSecrets:
    """What ingest is given, and what the operators' `rotate` and `retire` do."""

    def __init__(
        self,
        store: Store,
        app: AppClient,
        announce: Callable[[str], Awaitable[None]],
        *,
        overlap: float = OVERLAP,
        lead: float = LEAD,
    ) -> None:
        """`announce` tells ingest that the record is another one now."""
        self._store = store
        self._app = app
        self._announce = announce
        self._overlap = overlap
        self._lead = lead
        self._rotating = asyncio.Lock()
        self._changed = asyncio.Event()

    async def valid(self) -> tuple[Entry, ...]:
        """Those that verify, newest first."""
        return (await self._read()).valid(time.time())

    async def rotate(self) -> dict[str, Any]:
        """Make a new secret, here and at GitHub; answers facts and no value.

        Safe to call again after any failure: it goes on where it was. Raises `Retry` or
        `Permanent` when GitHub did not take the secret; the old one stays good.
        """
        async with self._rotating:
            pending = await self._begun()
            await asyncio.sleep(max(0.0, pending.made_at + self._lead - time.time()))
            # Another vault may have begun as well: what the record says is what counts.
            newest = (await self._read()).entries[0]
            if not newest.at_github:
                await self._give(newest.secret)
                await self._change(
                    lambda held: held.finished(newest.secret, time.time(), self._overlap)
                )
            return _facts(await self._read())

    async def retire(self) -> dict[str, Any]:
        """Forget the secrets before the newest, whatever is left of their overlap."""
        changed = await self._change(lambda held: held.alone())
        return {**_facts(await self._read()), "retired": changed}

    async def expire(self) -> None:
        """Forget what has expired."""
        try:
            if await self._change(lambda held: held.without_expired(time.time())):
                log.info("a former webhook secret has expired")
        except MissingError:
            return

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Forget what expires, as long as the context lasts. It verifies no more in any case."""
        expiring = asyncio.create_task(self._keep_expiring())
        try:
            yield
        finally:
            await cancel_until_done(expiring)

    async def _keep_expiring(self) -> None:
        while True:
            wait = EXPIRY_INTERVAL
            self._changed.clear()
            try:
                await self.expire()
                end = next_end(await self.valid())
                wait = min(wait, max(0.1, end - time.time())) if end else wait
            except MissingError:
                pass
            except (Retry, Permanent) as error:
                log.warning("former webhook secrets were not looked at: %s", error.reason)
            except Exception:
                log.exception("looking for expired webhook secrets failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def _begun(self) -> Entry:
        """Store a new secret before the others; both verify from here on."""
        fresh, now = secrets.token_hex(32), time.time()
        if await self._change(lambda held: held.without_expired(now).begun(fresh, now)):
            log.info("a new webhook secret is stored beside the old one")
        else:
            log.info("a rotation of the webhook secret goes on")
            # The one who stored it may have died before it said so.
            await self._announce(WEBHOOK_SECRET)
        return (await self._read()).entries[0]

    async def _give(self, secret: str) -> None:
        """https://docs.github.com/rest/apps/webhooks#update-a-webhook-configuration-for-an-app."""
        answer = await self._app.request(
            "PATCH", "app/hook/config", {"secret": secret}, timeout=GITHUB_TIMEOUT
        )
        if answer.status != 200:
            raise Permanent(
                f"GitHub answered {answer.status} and did not take the new webhook secret. The old "
                "one stays good and nothing is lost: check that the App has a webhook, and run "
                "the same again."
            )
        log.info("GitHub has the new webhook secret")

    async def _read(self) -> Secrets:
        return Secrets.read(await self._store.get(WEBHOOK_SECRET))

    async def _change(self, change: Callable[[Secrets], Secrets]) -> bool:
        """Raises `MissingError` when there is no secret; then nothing can be rotated."""

        def step(before: bytes | None) -> bytes:
            if before is None:
                raise MissingError(f"The vault holds no {WEBHOOK_SECRET}.")
            held = Secrets.read(before)
            changed = change(held)
            return before if changed == held else changed.written()

        changed = await self._store.change(WEBHOOK_SECRET, step)
        if changed:
            self._changed.set()
            await self._announce(WEBHOOK_SECRET)
        return changed


def next_end(entries: Iterable[Entry]) -> float:
    """When the next one of them stops to verify, in seconds since the epoch; 0 for never."""
    return min((entry.until for entry in entries if entry.until), default=0.0)


async def adopt(store: Store, given: str) -> bool:
    """Store what the environment brings, unless it is known or was rotated out; whether it did.

    What was there before verifies for the overlap. Raises `Permanent` for a new secret that
    is too short: the record stays as it is.
    """

    def step(held: bytes | None) -> bytes:
        if held is not None and any(map(Secrets.read(held).knows, (given, given.strip()))):
            return held
        try:
            return beside(held, accepted(WEBHOOK_SECRET, given))
        except Permanent as error:
            raise Permanent(
                f"PATCHWRIGHT_WEBHOOK_SECRET does not fit, nothing was overwritten: {error.reason}"
            ) from None

    return await store.change(WEBHOOK_SECRET, step)


def beside(held: bytes | None, value: bytes) -> bytes:
    """The record with a secret in front that GitHub is given by hand.

    Those before it verify for the overlap: GitHub has the new one earlier or later than
    the vault.
    """
    secret, now = value.decode(), time.time()
    entry = Entry(secret=secret, made_at=now)
    if held is None:
        return Secrets(entries=(entry,)).written()
    before = Secrets.read(held).without_expired(now)
    if before.entries and before.entries[0].secret == secret:
        return held
    former = tuple(
        each.model_copy(update={"until": each.until or now + OVERLAP, "at_github": True})
        for each in before.entries
        if each.secret != secret
    )
    return before.model_copy(update={"entries": (entry, *former)}).written()


def _facts(held: Secrets) -> dict[str, Any]:
    """What an operator may know."""
    newest, *former = held.valid(time.time())
    return {
        "secrets": 1 + len(former),
        "made_at": newest.made_at,
        "at_github": newest.at_github,
        "previous_until": max((entry.until for entry in former), default=0.0),
    }


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
