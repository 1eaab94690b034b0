"""What each verb gives to the services; `handlers.py` decides who gets that far."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from patchwright_common.credentials import AppFacts, MarkRequest, TokenRequest
from patchwright_common.errors import Retry
from patchwright_common.wire import Keypair
from patchwright_vault.audit import Ask, Grant
from patchwright_vault.grants import TOKEN_PERMISSIONS
from patchwright_vault.handlers import Answer, parsed
from patchwright_vault.store import (
    GITHUB_APP,
    MODEL_KEY,
    TRANSPORT_KEY,
    WEBHOOK_SECRET,
    GitHubApp,
    MissingError,
    Store,
)

if TYPE_CHECKING:
    from patchwright_vault.sealing import Sealer
    from patchwright_vault.tokens import Minter


class Verbs:
    """Tokens and secrets for the services."""

    def __init__(self, store: Store, minter: Minter, sealer: Sealer) -> None:
        self._store = store
        self._minter = minter
        self._sealer = sealer

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
        token = await self._minter.token(ask.caller, request)
        return Grant(
            token.value,
            expires_at=token.expires_at,
            repository_id=request.repository_id,
            permissions=TOKEN_PERMISSIONS[ask.caller],
            fingerprint=hashlib.sha256(token.value.encode()).hexdigest()[:12],
        )

    async def _webhook_secret(self, _ask: Ask) -> Grant:
        return Grant(json.dumps([(await self._store.get(WEBHOOK_SECRET)).decode()]))

    async def _model_key(self, _ask: Ask) -> Grant:
        return Grant((await self._store.get(MODEL_KEY)).decode())

    async def _mark(self, ask: Ask) -> Grant:
        return Grant(self._sealer.mark(parsed(MarkRequest, ask).job_id))

    async def _app(self, _ask: Ask) -> Grant:
        try:
            app = GitHubApp.model_validate_json(await self._store.get(GITHUB_APP))
        except MissingError as missing:
            raise Retry(missing.reason) from None
        facts = AppFacts(
            app_id=app.app_id, slug=app.slug, api_url=app.api_url, html_url=app.html_url
        )
        return Grant(facts.model_dump_json())


async def transport_key(store: Store) -> Keypair:
    """The same for every vault of an installation; made by the first one."""
    await store.create(TRANSPORT_KEY, Keypair().private_bytes())
    return Keypair(await store.get(TRANSPORT_KEY))
