"""What each verb gives to the services; `handlers.py` decides who gets that far."""

from __future__ import annotations

import json
from dataclasses import dataclass

from patchwright_common.credentials import MarkRequest, TokenRequest
from patchwright_common.wire import Keypair
from patchwright_vault.audit import Ask, Grant
from patchwright_vault.facts import Facts
from patchwright_vault.grants import TOKEN_PERMISSIONS
from patchwright_vault.handlers import Answer, parsed
from patchwright_vault.holdings import Purpose
from patchwright_vault.jobs import Jobs
from patchwright_vault.marks import mark, mark_key
from patchwright_vault.store import MODEL_KEY, TRANSPORT_KEY, Store
from patchwright_vault.tokens import Minter
from patchwright_vault.webhook_secrets import WebhookSecrets, next_end

FINGERPRINT = 12
"""Hex digits of a token's SHA-256 in the audit."""


@dataclass(frozen=True)
class Verbs:
    """Tokens and secrets for the services."""

    store: Store
    minter: Minter
    jobs: Jobs
    webhook_secrets: WebhookSecrets
    facts: Facts

    def answers(self) -> dict[str, Answer]:
        """By verb."""
        return {
            "token": self._token,
            "webhook-secret": self._webhook_secret,
            "model-key": self._model_key,
            "mark": self._mark,
            "app": self._app,
        }

    async def _token(self, ask: Ask) -> Grant:
        request = parsed(TokenRequest, ask)
        await self.jobs.check_token(ask, request)
        purpose = Purpose(
            ask.caller, request.job_id, request.installation_id, request.repository_id
        )
        token = await self.minter.token(purpose, refused=request.refused)
        return Grant(
            token.value,
            expires_at=token.expires_at,
            repository_id=request.repository_id,
            permissions=TOKEN_PERMISSIONS[ask.caller],
            fingerprint=token.digest[:FINGERPRINT],
        )

    async def _webhook_secret(self, _ask: Ask) -> Grant:
        """A JSON list with ends, newest first; `expires_at` is when it is another one."""
        entries = await self.webhook_secrets.valid()
        found = [{"secret": entry.secret, "until": entry.until} for entry in entries]
        return Grant(json.dumps(found), expires_at=next_end(entries))

    async def _model_key(self, ask: Ask) -> Grant:
        if ask.job_id:
            await self.jobs.check_known(ask.job_id)
        return Grant((await self.store.get(MODEL_KEY)).decode())

    async def _mark(self, ask: Ask) -> Grant:
        job_id = parsed(MarkRequest, ask).job_id
        self.jobs.check_name(ask, job_id)
        await self.jobs.check_known(job_id)
        return Grant(mark(await mark_key(self.store), job_id))

    async def _app(self, _ask: Ask) -> Grant:
        return Grant((await self.facts.facts()).model_dump_json())


async def transport_key(store: Store) -> Keypair:
    """The same for every vault of an installation; made by the first one."""
    await store.create(TRANSPORT_KEY, Keypair().private_bytes())
    return Keypair(await store.get(TRANSPORT_KEY))
