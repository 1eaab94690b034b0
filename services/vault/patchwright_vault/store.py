"""The long-lived secrets, as ciphertext in the KV bucket `PW_VAULT`.

A write looks at the whole bucket's sequence first and says so to the server, which
refuses the write if anything was written since. That makes it a compare-and-set, and it
lets a fence (`Store.fence`) stop every write that was sealed before it, even one of a
vault that was paused in the middle: only so a key can be destroyed (`rotation.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from patchwright_common.errors import Permanent, Retry
from patchwright_vault.bucket import Bucket
from patchwright_vault.sealing import OLD_FORMAT, Opened, RecordFacts, facts, is_record

if TYPE_CHECKING:
    from nats.js import JetStreamContext

    from patchwright_vault.sealing import Sealer

GITHUB_APP = "github-app"
WEBHOOK_SECRET = "webhook-secret"  # noqa: S105  a record's name
MODEL_KEY = "model-key"
TRANSPORT_KEY = "transport-key"  # X25519: what operators bring is sealed to it
MARK_KEY = "mark-key"  # HMAC: signs the markers of comments
NAMES = (GITHUB_APP, WEBHOOK_SECRET, MODEL_KEY, TRANSPORT_KEY, MARK_KEY)
CONVERSION = "conversion"
"""The record of a conversion (`conversion.py`) whose parts are not all in their places yet."""
_INSTALLATION = re.compile(r"installation\.[0-9]+")

ATTEMPTS = 30
"""Of one write, while other vaults write."""
BACKOFF = 0.05
"""Seconds at most between two of them."""


class MissingError(Permanent):
    """The record was never set."""


class GitHubApp(BaseModel):
    """What proves that we are the App: its id (or client id) and its RSA key in PEM."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    app_id: str
    private_key: str = Field(repr=False)
    slug: str = ""
    """Its name in URLs and mentions."""
    api_url: str = ""
    """The GitHub that it lives on: the REST API, without a slash at the end."""
    html_url: str = ""


class Store:
    """Reads and writes sealed records by name.

    Every method raises `Retry` when NATS or the keys are away, and `Permanent` for a
    record that does not open, which is then left as it is.
    """

    def __init__(self, bucket: Bucket, sealer: Sealer) -> None:
        self._bucket = bucket
        self._sealer = sealer
        self.keys = sealer.keys
        self._seen: dict[str, int] = {}
        # Within a process writes wait for each other; between vaults the server refuses one.
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, js: JetStreamContext, sealer: Sealer) -> Store:
        """Bind to the bucket that `just topology` made, and make the first key for an empty one.

        Raises `Retry` while the bucket is not there, `Permanent` where there are records
        but no key: a new key would open none of them.
        """
        store = cls(await Bucket.open(js), sealer)
        # In this order: whoever wrote these records had a key before.
        names = await store.names()  # without strays, which no key would open
        if not await sealer.keys.versions():
            if names:
                raise Permanent(
                    f"The vault's {len(names)} records cannot be opened: {sealer.keys.where} has "
                    "no key. Nothing was overwritten.",
                    advice="Put the key back from its backup, or point the vault to it.",
                )
            await sealer.keys.begin()
        return store

    async def check(self) -> None:
        """Raises `Permanent` for a record of the vault itself that does not open."""
        for name in NAMES:
            with contextlib.suppress(MissingError):
                await self.get(name)

    async def get(self, name: str) -> bytes:
        """The secret. Raises `MissingError` when it was never set."""
        return (await self._read(name)).secret

    async def put(self, name: str, secret: bytes) -> bool:
        """Seal and store; False when the record already held this secret.

        A record that does not open is never overwritten, not even one that another vault
        writes at this moment: the error goes to the caller.
        """

        async def attempt(expected: int) -> bool | None:
            try:
                opened = await self._read(name)
            except MissingError:
                return True if await self._write(name, secret, expected) else None
            if opened.secret == secret and opened.format != OLD_FORMAT:
                return False
            if not await self._write(name, secret, expected, before=opened.facts):
                return None
            return opened.secret != secret

        return await self._until_written(name, attempt)

    async def change(self, name: str, step: Callable[[bytes | None], bytes]) -> bool:
        """Store what `step` makes of the secret (None where there is none); whether it is new.

        A compare-and-set: `step` runs again when another vault was faster, and its errors
        go to the caller.
        """

        async def attempt(expected: int) -> bool | None:
            try:
                opened: Opened | None = await self._read(name)
            except MissingError:
                opened = None
            before = opened.secret if opened else None
            secret = step(before)
            if secret == before:
                return False
            facts_before = opened.facts if opened else None
            written = await self._write(name, secret, expected, before=facts_before)
            return True if written else None

        return await self._until_written(name, attempt)

    async def create(self, name: str, secret: bytes) -> bool:
        """Seal and store unless there is such a record; whether it was this call that did."""

        async def attempt(expected: int) -> bool | None:
            if (await self._bucket.get(name))[0] is not None:
                return False
            return True if await self._write(name, secret, expected) else None

        return await self._until_written(name, attempt)

    async def delete(self, name: str) -> bool:
        """Forget it, also one that does not open; whether there was one."""

        async def attempt(expected: int) -> bool | None:
            if (await self._bucket.get(name))[0] is None:
                return False
            return True if await self._bucket.delete(name, expected) else None

        return await self._until_written(name, attempt)

    async def reseal(self, name: str) -> bool:
        """Seal anew what is not under the current key; whether it had to be. Gone is done."""

        async def attempt(expected: int) -> bool | None:
            try:
                opened = await self._read(name)
            except MissingError:
                return False
            current = (await self.keys.versions())[0]
            if opened.facts.key_version == current and opened.format != OLD_FORMAT:
                return False
            written = await self._write(
                name, opened.secret, expected, before=opened.facts, changed=False
            )
            return True if written else None

        return await self._until_written(name, attempt)

    async def fence(self) -> None:
        """After this returns, nothing is stored that was sealed before it was called."""
        await self._bucket.fence()

    async def names(self) -> list[str]:
        """Of every record, sorted; also of those that do not open. Without strays."""
        found = self._bucket.everything()
        return [name async for name, record in found if not _is_stray(name, record)]

    async def strays(self) -> list[str]:
        """What lies in the bucket and is no record: no secret is lost with it."""
        found = self._bucket.everything()
        return [name async for name, record in found if _is_stray(name, record)]

    async def foreign(self) -> list[str]:
        """Strays, and what has the form of a record under a name that the vault does not use."""
        found = self._bucket.everything()
        return [
            name async for name, record in found if not _is_used(name) or _is_stray(name, record)
        ]

    async def describe(self) -> list[RecordFacts]:
        """What the records say of themselves, never a value; works without their keys."""
        return [_told(name, record) async for name, record in self._bucket.everything()]

    async def examine(self, name: str) -> RecordFacts | None:
        """What is true of a record, having opened it; None when there is none."""
        try:
            return (await self._read(name)).facts
        except MissingError:
            return None

    async def _read(self, name: str) -> Opened:
        refused: tuple[int, Permanent] | None = None
        while True:
            floor = self._seen.get(name, 0)
            record, revision = await self._bucket.get(name)
            if record is None:
                raise MissingError(f"The vault holds no {name}.")
            if refused and refused[0] == revision:
                raise refused[1]
            try:
                opened = await self._sealer.open(name, record)
            except Permanent as error:
                # Its key may have been retired since: then a newer record is there already.
                refused = revision, error
                continue
            self._note(name, opened.facts.version, floor)
            return opened

    def _note(self, name: str, version: int, floor: int) -> None:
        """Raises `Permanent` for a version below one that was read before this one was fetched."""
        if version < floor:
            raise Permanent(
                f"The vault's record {name!r} was put back to version {version}; this vault has "
                f"seen {floor}. Nothing was overwritten.",
                advice="If you restored a backup on purpose, restart every vault.",
            )
        self._seen[name] = max(version, self._seen.get(name, 0))

    async def _until_written(
        self, name: str, attempt: Callable[[int], Awaitable[bool | None]]
    ) -> bool:
        """Try until `attempt` says other than None, which means that somebody else wrote.

        It gets the bucket's sequence from before everything that it reads.
        """
        async with self._writing:
            for _ in range(ATTEMPTS):
                done = await attempt(await self._bucket.sequence())
                if done is not None:
                    return done
                await asyncio.sleep(random.uniform(0, BACKOFF))  # noqa: S311  no secret
        raise Retry(f"other vaults kept writing, so {name} was not written")

    async def _write(
        self,
        name: str,
        secret: bytes,
        expected: int,
        *,
        before: RecordFacts | None = None,
        changed: bool = True,
    ) -> bool:
        """Seal with the key of this moment and store; False when something was written since.

        Versions go on after a deletion: the marker's revision is above every version before.
        """
        version = 1 + (before.version if before else (await self._bucket.get(name))[1])
        changed_at = before.changed_at if before and not changed else time.time()
        sealed = await self._sealer.seal(name, secret, version=version, changed_at=changed_at)
        if not await self._bucket.put(name, sealed, expected):
            return False
        self._seen[name] = max(version, self._seen.get(name, 0))
        return True


def _is_used(name: str) -> bool:
    return name in (*NAMES, CONVERSION) or bool(_INSTALLATION.fullmatch(name))


def _is_stray(name: str, record: bytes) -> bool:
    """A secret's own name is never one: what lies there may have been damaged, and be mended."""
    precious = _is_used(name) and not _INSTALLATION.fullmatch(name)
    return not precious and not is_record(record)


def _told(name: str, record: bytes) -> RecordFacts:
    try:
        return facts(name, record)
    except Permanent:
        return RecordFacts(name, 0, 0, 0.0)
