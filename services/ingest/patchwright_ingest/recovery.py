"""Finds deliveries that GitHub could not hand over, and has GitHub deliver them again.

What never arrived is not made up from the log, which has no payloads byte for byte: GitHub
sends the original again, signed, to the same endpoint. `missed.py` decides; here are the log
(the vault reads it, since only the App's own JWT opens it), the record of how far it is known,
and the loop. Any number of ingest processes may run it: each notes down by compare-and-set what
it is about to ask for, and the others keep to it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from pydantic import BaseModel, ConfigDict, ValidationError

from patchwright_common import telemetry
from patchwright_common.bus import AWAY
from patchwright_common.credentials import UNREADABLE
from patchwright_common.errors import Permanent, Retry
from patchwright_common.flow import PW_RECOVERY
from patchwright_ingest.missed import (
    NOTHING,
    Attempt,
    GivenUp,
    Missed,
    Plan,
    Record,
    consumed_events,
    learnt,
    planned,
)

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

    from patchwright_common.credentials import Vault

log = logging.getLogger(__name__)

INTERVAL = 60.0
"""Seconds between two looks at the log."""
SPACING = 1.0
"""Seconds between two redeliveries, as GitHub asks of whoever makes many changes.
https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api"""
BATCH = 50
"""Redeliveries of one look; what is left waits for the next one."""
PAGE_TRIES = 3
CONTENTION_LIMIT = 50
KEY = "log"


class _Page(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    deliveries: list[Attempt]
    next: str


class Ledger:
    """The record, changed by compare-and-set only. Raises `Retry` when NATS does not answer."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def change(self, step: Callable[[Record], Record]) -> Record:
        """Replace the record by `step(record)`; `step` may be called several times."""
        try:
            bucket = await self._js.key_value(PW_RECOVERY.name)
            for _ in range(CONTENTION_LIMIT):
                before, revision = await _held(bucket)
                after = step(before)
                if after == before:
                    return after
                try:
                    await bucket.update(KEY, after.model_dump_json().encode(), revision)
                except KeyWrongLastSequenceError:
                    continue
                return after
        except AWAY as error:
            raise Retry(f"{PW_RECOVERY.name} did not answer: {error!r}") from error
        raise Retry(f"too many writers on {PW_RECOVERY.name}")


async def _held(bucket: KeyValue) -> tuple[Record, int]:
    try:
        entry = await bucket.get(KEY)
    except KeyNotFoundError as missing:
        return NOTHING, (missing.entry.revision if missing.entry else 0) or 0
    try:
        return Record.model_validate_json(entry.value or b""), entry.revision or 0
    except ValidationError:
        # Nothing is lost with it: the log tells the same again.
        log.error("%s holds no record, so the whole log is read again", PW_RECOVERY.name)
        return NOTHING, entry.revision or 0


class Recovery:
    """The loop. `interval` in seconds is between two looks, `spacing` between redeliveries."""

    def __init__(
        self,
        js: JetStreamContext,
        vault: Vault,
        *,
        interval: float = INTERVAL,
        spacing: float = SPACING,
    ) -> None:
        self._ledger = Ledger(js)
        self._vault = vault
        self._interval = interval
        self._spacing = spacing
        self._events = consumed_events()
        self._said = ""

    async def run(self, over: Callable[[], bool]) -> None:
        """Look at the log now and then, until cancelled.

        `over` says that it is: Python 3.11's `wait_for`, by which nats-py waits, can lose a
        cancellation that comes with its result.
        """
        while not over():
            wait = self._interval
            try:
                wait = await self.look()
                self._said = ""
            except (Retry, Permanent) as error:
                self._say(error.reason)
                wait = max(wait, getattr(error, "after", None) or 0.0)
            except Exception:
                # What is missed stays so until somebody looks: this loop must not end.
                log.exception("looking for missed deliveries failed unexpectedly")
            if not over():
                await asyncio.sleep(wait)

    async def look(self) -> float:
        """Once; the seconds until the next look.

        Raises `Retry` and `Permanent` when the log cannot be read, or GitHub limits the rate.
        """
        record, since = await self._begin()
        if since < self._interval:
            return self._interval - since
        with telemetry.span("look for missed deliveries"):
            found = await self._read(record.read_until)
            plan = await self._note(found)
            for given_up in plan.given_up:
                _give_up(given_up)
            await self._redeliver(plan.redeliver)
        return self._interval

    async def _begin(self) -> tuple[Record, float]:
        """The record, and seconds since another process looked; the interval: it is our turn."""
        now, since = time.time(), self._interval

        def step(record: Record) -> Record:
            nonlocal since
            since = abs(now - record.looked_at)  # another process may be a moment ahead
            # Half an interval early, so that two looks cannot drift into one of twice the length.
            if since < self._interval / 2:
                return record
            since = self._interval
            return record.model_copy(update={"looked_at": now})

        return await self._ledger.change(step), since

    async def _read(self, until: float) -> list[Attempt]:
        """The log's entries back to that time, newest first."""
        found: list[Attempt] = []
        cursor = ""
        while True:
            page = await self._page(cursor)
            found += page.deliveries
            cursor = page.next
            if not cursor or not page.deliveries or page.deliveries[-1].at < until:
                return found

    async def _page(self, cursor: str) -> _Page:
        """A page that fails for no named reason is tried again: the others would be, too."""
        for left in reversed(range(PAGE_TRIES)):
            try:
                reply = await self._vault.ask("deliveries", {"cursor": cursor})
                return _Page.model_validate_json(reply.value or "")
            except ValidationError:
                raise Retry(UNREADABLE) from None
            except Retry as error:
                if not left or error.after is not None:
                    raise
            await asyncio.sleep(self._spacing)
        raise AssertionError("unreachable")

    async def _note(self, found: list[Attempt]) -> Plan:
        """Write down what was learnt and what is about to be done, before it is done."""
        now = time.time()
        plan = Plan(NOTHING)

        def step(record: Record) -> Record:
            nonlocal plan
            known = learnt(record, found, self._events)
            plan = planned(known, now=now, interval=self._interval, limit=BATCH)
            return plan.record

        await self._ledger.change(step)
        return plan

    async def _redeliver(self, missed: tuple[Missed, ...]) -> None:
        """Ask for each; what is not asked for, because GitHub says later, comes up again."""
        for number, one in enumerate(missed):
            if number:
                await asyncio.sleep(self._spacing)
            attributes = {telemetry.DELIVERY_ID: one.guid}
            with telemetry.span("redeliver", attributes=attributes):
                log.warning(
                    "delivery %s (%s) never arrived (%s): asking GitHub to send it again",
                    one.guid,
                    one.event,
                    one.status or "no answer",
                )
                try:
                    await self._vault.ask("redeliver", {"id": one.id})
                except Permanent as error:
                    await self._close(GivenUp(one, error.reason))

    async def _close(self, given_up: GivenUp) -> None:
        """GitHub will not send it again."""
        guid = given_up.missed.guid

        def step(record: Record) -> Record:
            missed = tuple(
                one.model_copy(update={"given_up": True}) if one.guid == guid else one
                for one in record.missed
            )
            return record.model_copy(update={"missed": missed})

        _give_up(given_up)
        await self._ledger.change(step)

    def _say(self, reason: str) -> None:
        """Once, until it is another reason or a look goes well."""
        if reason != self._said:
            log.warning("cannot look for missed deliveries: %s", reason)
        self._said = reason


def _give_up(given_up: GivenUp) -> None:
    """Nobody else will know that it existed."""
    one, reason = given_up.missed, given_up.reason
    with telemetry.span("give up delivery", attributes={telemetry.DELIVERY_ID: one.guid}):
        telemetry.fail(reason)
        telemetry.note(telemetry.REASON, reason)
        log.error(
            "delivery %s (%s) is given up: %s; GitHub shows it under the App's settings, "
            "Advanced, Recent Deliveries",
            one.guid,
            one.event,
            reason,
        )
