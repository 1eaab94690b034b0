"""The long-lived secrets, as ciphertext in the KV bucket `PW_VAULT`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nats.errors
from nats.js.errors import KeyNotFoundError
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


class MissingError(Permanent):
    """The record was never set."""


class GitHubApp(BaseModel):
    """What proves that we are the App: its id (or client id) and its RSA key in PEM."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    app_id: str
    private_key: str = Field(repr=False)


class Store:
    """Reads and writes sealed records by name."""

    def __init__(self, bucket: KeyValue, sealer: Sealer) -> None:
        self._bucket = bucket
        self._sealer = sealer

    @classmethod
    async def open(cls, js: JetStreamContext, sealer: Sealer) -> Store:
        """Bind to the bucket that `just topology` made."""
        return cls(await js.key_value(PW_VAULT.name), sealer)

    async def get(self, name: str) -> bytes:
        """The secret. Raises `MissingError` when it was never set, `Retry` when NATS is away."""
        try:
            entry = await self._bucket.get(name)
        except KeyNotFoundError:
            raise MissingError(f"The vault holds no {name}.") from None
        except (nats.errors.Error, TimeoutError) as error:
            raise Retry(f"{PW_VAULT.name} did not answer: {type(error).__name__}") from None
        return self._sealer.open(name, entry.value or b"")

    async def put(self, name: str, secret: bytes) -> bool:
        """Seal and store; False when the record already held this secret.

        A record that does not open is never overwritten: the error goes to the caller.
        """
        try:
            if await self.get(name) == secret:
                return False
        except MissingError:
            pass
        await self._bucket.put(name, self._sealer.seal(name, secret))
        return True
