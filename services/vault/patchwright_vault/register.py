"""Where the App is installed, as GitHub's webhooks tell it.

It decides which tokens leave circulation, and nothing else: whether a token can be had,
GitHub says. So neither a webhook that was lost nor one that was forged locks anybody
out. Webhooks come late, twice and in the wrong order, so what happened is compared by
GitHub's own times, and an installation that was deleted stays so: its id is never used
again (a new installation gets a new one). A webhook's signature does not cover the header
that says which event it is, so the body must look like one about an installation; and
there is a record only of what GitHub knew when it was made.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from patchwright_common.errors import Permanent, Retry
from patchwright_common.flow import PW_GITHUB
from patchwright_common.messaging import whole_body
from patchwright_vault.store import MissingError, Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from patchwright_common.bus import Bus
    from patchwright_common.messaging import Delivery
    from patchwright_vault.app import AppClient
    from patchwright_vault.holdings import Holdings

log = logging.getLogger(__name__)

PREFIX = "installation."
SEEN_LIMIT = 32
"""Deliveries that a record remembers, so that one that GitHub repeats changes nothing."""
REPOSITORY_LIMIT = 5000
"""Repositories in a record, which must fit into a message. The list is for people."""
FORGET_AFTER = PW_GITHUB.max_age + 24 * 3600.0
"""Seconds after a deletion: no delivery from before it can come any more."""


class Registered(BaseModel):
    """An installation. Times are GitHub's, in seconds since the epoch."""

    model_config = ConfigDict(frozen=True)

    installation_id: int
    account: str = ""
    selection: str = ""
    """`all` or `selected` repositories."""
    repositories: dict[int, float] = {}
    """Covered ones, each with when that was said; not all of them where `selection` is `all`."""
    removed: dict[int, float] = {}
    suspended: bool = False
    deleted: bool = False
    at: float = 0.0
    """When the newest event of those that made this record happened."""
    seen: tuple[str, ...] = ()
    deleted_at: float = 0.0
    """By our own clock."""


class Happened(BaseModel):
    """What of a webhook is believed: which event, which ids, when."""

    model_config = ConfigDict(frozen=True)

    action: str
    delivery_id: str = ""
    installation_id: int
    account: str = ""
    selection: str = ""
    suspended: bool | None = None
    """As the payload has it; None where it says nothing."""
    at: float | None = None
    """None where the payload has no time: then it counts as the newest."""
    added: frozenset[int] = frozenset()
    removed: frozenset[int] = frozenset()


class _Account(BaseModel):
    login: str = Field(default="", max_length=200)


class _Installation(BaseModel):
    id: int = Field(ge=0, lt=2**63)
    account: _Account
    repository_selection: str = Field(default="", max_length=20)
    suspended_at: Any = None
    updated_at: datetime | None = None

    @field_validator("updated_at", mode="before")
    @classmethod
    def _lenient(cls, value: Any) -> datetime | None:
        """GitHub sends a text in some events and seconds since the epoch in others."""
        try:
            read = (
                datetime.fromtimestamp(value, UTC)
                if isinstance(value, int)
                else datetime.fromisoformat(value)
            )
        except (TypeError, ValueError, OverflowError, OSError):
            return None
        return read if read.tzinfo else None


class _Repository(BaseModel):
    id: int


class _Payload(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    installation: _Installation
    repositories: list[_Repository] = []
    repositories_added: list[_Repository] = []
    repositories_removed: list[_Repository] = []
    repository: Any = None
    issue: Any = None
    comment: Any = None


OTHERS = {"repository", "issue", "comment"}
"""What the bodies of other events have, which name an installation too, without its account."""


def happened(action: str, delivery_id: str, body: bytes) -> Happened | None:
    """Read a webhook leniently; None for one that is not about an installation."""
    try:
        payload = _Payload.model_validate_json(body)
    except ValidationError:
        return None
    if payload.model_fields_set & OTHERS:
        return None
    found = payload.installation
    said = "suspended_at" in found.model_fields_set
    return Happened(
        action=action,
        delivery_id=delivery_id,
        installation_id=found.id,
        account=found.account.login,
        selection=found.repository_selection,
        suspended=bool(found.suspended_at) if said else None,
        at=found.updated_at.timestamp() if found.updated_at else None,
        added=frozenset(r.id for r in (*payload.repositories, *payload.repositories_added)),
        removed=frozenset(r.id for r in payload.repositories_removed),
    )


def after(before: Registered | None, event: Happened, now: float) -> Registered:
    """The record after the event, in whatever order events come. `now` is our own clock."""
    record = before or Registered(installation_id=event.installation_id)
    if record.deleted or (event.delivery_id and event.delivery_id in record.seen):
        return record
    at = record.at if event.at is None else event.at
    if event.action == "deleted":
        return Registered(
            installation_id=record.installation_id, deleted=True, at=at, deleted_at=now
        )
    seen = (*record.seen, event.delivery_id)[-SEEN_LIMIT:] if event.delivery_id else record.seen
    # Repositories have times of their own: an older event may still be the newest on one.
    changes: dict[str, Any] = {"seen": seen, **_repositories(record, event, at)}
    if at >= record.at:
        changes |= {
            "at": at,
            "account": event.account or record.account,
            "selection": event.selection or record.selection,
            "suspended": _suspended(record, event, at),
        }
    return record.model_copy(update=changes)


def _suspended(record: Registered, event: Happened, at: float) -> bool:
    if event.action in ("suspend", "unsuspend"):
        return event.action == "suspend"
    # Of two events of one second, the one that is about it knows better.
    knows = event.suspended is not None and (at > record.at or not record.seen)
    return bool(event.suspended) if knows else record.suspended


def _repositories(record: Registered, event: Happened, at: float) -> dict[str, dict[int, float]]:
    """Each repository as the newest event on it has it."""
    covered, removed = dict(record.repositories), dict(record.removed)
    for these, those, ids in (
        (covered, removed, event.added),
        (removed, covered, event.removed),
    ):
        for one in ids:
            if those.get(one, -1.0) <= at:
                those.pop(one, None)
                these[one] = max(at, these.get(one, at))
    return {"repositories": _newest(covered), "removed": _newest(removed)}


def _newest(times: dict[int, float]) -> dict[int, float]:
    newest: Iterable[tuple[int, float]] = sorted(times.items(), key=lambda pair: -pair[1])
    return dict(list(newest)[:REPOSITORY_LIMIT])


class Register:
    """Keeps the records and takes tokens out of circulation. Handlers may run twice."""

    def __init__(
        self,
        bus: Bus,
        store: Store,
        app: AppClient,
        holdings: Holdings,
        announce: Callable[[str], Awaitable[None]],
    ) -> None:
        """`announce` tells the services that a record is another one now."""
        self._bus = bus
        self._store = store
        self._app = app
        self._holdings = holdings
        self._announce = announce

    async def find(self, installation_id: int) -> Registered | None:
        """What is known of it."""
        try:
            return _read(await self._store.get(f"{PREFIX}{installation_id}"))
        except MissingError:
            return None

    async def on_delivery(self, delivery: Delivery) -> None:
        """An `installation` or `installation_repositories` webhook.

        Raises `Retry` while GitHub cannot say whether it knows a new one.
        """
        body = await whole_body(self._bus, delivery)
        action = delivery.subject.split(".")[3]
        event = happened(action, delivery.headers.get("x-github-delivery", ""), body)
        if event is None:
            log.warning("ignored what came as an installation's webhook and is none")
            return
        if await self.find(event.installation_id) is None and not await self._exists(event):
            log.warning("ignored: GitHub knows no installation %d", event.installation_id)
            self._holdings.retire(self._holdings.of_installation(event.installation_id))
            return
        await self._keep(event)

    async def _keep(self, event: Happened) -> None:
        name = f"{PREFIX}{event.installation_id}"

        def step(before: bytes | None) -> bytes:
            known = None if before is None else _read(before)
            return after(known, event, time.time()).model_dump_json().encode()

        if await self._store.change(name, step):
            log.info("installation %d: %s", event.installation_id, event.action)
        # Also when nothing changed: the one who stored it may have died before this.
        await self._take_effect(event)
        await self._announce(name)

    async def _exists(self, event: Happened) -> bool:
        """Whether GitHub knows it as one of the App's.

        https://docs.github.com/rest/apps/apps#get-an-installation-for-the-authenticated-app
        """
        answer = await self._app.request("GET", f"app/installations/{event.installation_id}")
        match answer.status:
            case 200 | 403:  # as an answer to this one request, 403 is a suspension
                return True
            case 404 | 410 | 422:
                return False
        raise Retry(f"GitHub answered {answer.status} when asked for an installation")

    async def _take_effect(self, event: Happened) -> None:
        record = await self.find(event.installation_id)
        held = self._holdings.of_installation(event.installation_id)
        if record is not None and record.deleted:
            # GitHub ended them with the installation, if this is true: their jobs' ends
            # revoke them in any case.
            self._holdings.retire(held)
            await self._forget_old()
        elif record is not None and record.suspended:
            # They may be good again when it ends: their jobs' ends still revoke them.
            self._holdings.retire(held)
        elif record is not None:
            gone = record.removed
            self._holdings.retire([one for one in held if one.purpose.repository_id in gone])

    async def _forget_old(self) -> None:
        """What is left of an installation that was deleted so long ago that nothing comes late."""
        for name in await self._store.names():
            installation_id = name.removeprefix(PREFIX)
            if name != installation_id and installation_id.isdecimal():
                record = await self.find(int(installation_id))
                if record and record.deleted and record.deleted_at < time.time() - FORGET_AFTER:
                    await self._store.delete(name)


def _read(record: bytes) -> Registered:
    try:
        return Registered.model_validate_json(record)
    except ValidationError:
        raise Permanent("The vault's record of the installation is malformed.") from None
