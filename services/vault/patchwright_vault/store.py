"""The long-lived secrets, as ciphertext in the KV bucket `PW_VAULT`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats.errors
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from pydantic import BaseModel, ConfigDict, Field

from patchwright_common.errors import Permanent, Retry
from patchwright_common.flow import PW_VAULT

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

    from patchwright_vault.sealing import Sealer

GITHUB_APP = "github-app"
WEBHOOK_SECRET = "webhook-secret"  # noqa: S105  a record's name
MODEL_KEY = "model-key"
TRANSPORT_KEY = "transport-key"  # X25519: what operators bring is sealed to it
NAMES = (GITHUB_APP, WEBHOOK_SECRET, MODEL_KEY, TRANSPORT_KEY)


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
    """Reads and writes sealed records by name."""

    def __init__(self, bucket: KeyValue, sealer: Sealer) -> None:
        self._bucket = bucket
        self._sealer = sealer

    @classmethod
    async def open(cls, js: JetStreamContext, sealer: Sealer) -> Store:
        """Bind to the bucket that `just topology` made. Raises `Retry` while it is not there."""
        async with _errors():
            try:
                return cls(await js.key_value(PW_VAULT.name), sealer)
            except BucketNotFoundError:
                raise Retry(f"{PW_VAULT.name} is missing: run `just topology`") from None

    async def check(self) -> None:
        """Raises `Permanent` for a record that does not open, `Retry` when NATS is away."""
        for name in NAMES:
            with contextlib.suppress(MissingError):
                await self.get(name)

    async def get(self, name: str) -> bytes:
        """The secret. Raises `MissingError` when it was never set, `Retry` when NATS is away."""
        return (await self._read(name))[0]

    async def _read(self, name: str) -> tuple[bytes, int]:
        """The secret and its record's revision."""
        async with _errors():
            try:
                entry = await self._bucket.get(name)
            except KeyNotFoundError:
                raise MissingError(f"The vault holds no {name}.") from None
        return self._sealer.open(name, entry.value or b""), entry.revision or 0

    async def create(self, name: str, secret: bytes) -> bool:
        """Seal and store unless there is such a record; whether it was this call that did."""
        async with _errors():
            try:
                await self._bucket.create(name, self._sealer.seal(name, secret))
            except KeyWrongLastSequenceError:
                return False
        return True

    async def put(self, name: str, secret: bytes) -> bool:
        """Seal and store; False when the record already held this secret.

        A record that does not open is never overwritten, not even one that another vault
        writes at this moment: the error goes to the caller.
        """
        sealed = self._sealer.seal(name, secret)
        try:
            held, revision = await self._read(name)
        except MissingError:
            writing = self._bucket.create(name, sealed)
        else:
            if held == secret:
                return False
            writing = self._bucket.update(name, sealed, revision)
        async with _errors():
            try:
                await writing
            except KeyWrongLastSequenceError:
                raise Retry(f"another vault is writing {name}") from None
        return True


@asynccontextmanager
async def _errors() -> AsyncIterator[None]:
    try:
        yield
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise Retry(f"{PW_VAULT.name} did not answer: {type(error).__name__}") from None
