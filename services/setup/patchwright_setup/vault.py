"""The vault as the set-up sees it: facts come out, secrets only go in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from patchwright_common.credentials import AppFacts, Reply, Vault
from patchwright_common.errors import Permanent, Retry
from patchwright_setup.forms import ExistingApp

GITHUB_APP = "github-app"
WEBHOOK_SECRET = "webhook-secret"  # noqa: S105  a record's name
MODEL_KEY = "model-key"

Part = Literal["webhook", "token", "model"]


class Finding(BaseModel):
    """How a live check of one part ended; `advice` says what to do."""

    ok: bool
    detail: str
    advice: str = ""


class _Record(BaseModel):
    name: str
    changed_at: float = 0.0
    """Seconds since the epoch."""


class ConvertedApp(AppFacts):
    """The App that a code was turned into, and the account that it belongs to."""

    owner: str = ""


@dataclass(frozen=True)
class Held:
    """What is already there: when each record changed, and the App's facts."""

    records: dict[str, float]
    app: AppFacts | None = None

    @property
    def has_app(self) -> bool:
        """With the secret without which its webhooks cannot be verified."""
        return self.app is not None and WEBHOOK_SECRET in self.records

    @property
    def has_model_key(self) -> bool:
        """Whether one is stored; whether it works is another question."""
        return MODEL_KEY in self.records


class SetupVault:
    """Every call raises `Retry` when the vault cannot, and `Permanent` when it will not."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def held(self) -> Held:
        """What is there now."""
        reply = await self._vault.ask("list")
        try:
            rows = TypeAdapter(list[_Record]).validate_json(reply.value or "")
        except ValidationError:
            raise Retry("the vault's list could not be read") from None
        records = {row.name: row.changed_at for row in rows}
        app = await self._vault.app() if GITHUB_APP in records else None
        return Held(records, app)

    async def convert(self, code: str, api_url: str) -> ConvertedApp:
        """Turn a manifest's code into a stored App. The same call again is safe."""
        reply = await self._vault.tell("convert", {"code": code, "api_url": api_url})
        try:
            return ConvertedApp.model_validate_json(reply.value or "")
        except ValidationError:
            raise Retry("the vault's answer could not be read") from None

    async def put_app(self, app: ExistingApp) -> None:
        """The webhook secret first: an App without it looks set up and hears nothing."""
        await self._put(WEBHOOK_SECRET, app.webhook_secret.get_secret_value())
        record = {
            "app_id": app.app_id,
            "private_key": app.private_key.get_secret_value(),
            "slug": app.slug,
            "api_url": app.api_url,
            "html_url": app.html_url,
        }
        await self._put(GITHUB_APP, json.dumps(record))

    async def put_model_key(self, key: str) -> None:
        """Replaces the one before it."""
        await self._put(MODEL_KEY, key)

    async def _put(self, name: str, value: str) -> Reply:
        return await self._vault.tell("put", {"name": name, "value": value})

    async def check(self, part: Part) -> Finding:
        """Raises nothing: that the vault cannot check is a finding too."""
        try:
            reply = await self._vault.ask("check", {"what": part})
            return Finding.model_validate_json(reply.value or "")
        except ValidationError:
            return Finding(ok=False, detail="The vault's answer could not be read.")
        except Permanent as refused:
            return Finding(ok=False, detail=refused.reason, advice=refused.advice)
        except Retry as error:
            return Finding(
                ok=False,
                detail=f"This could not be checked: {error.reason}.",
                advice="Nothing was changed. See that the stack runs, and check again.",
            )
