"""The vault's composition root: the only file here that reads the environment."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import httpx2 as httpx
from pydantic import Field, SecretStr

from patchwright_common import flow
from patchwright_common.bus import Bus, flush
from patchwright_common.claims import Claims
from patchwright_common.errors import Permanent, Retry
from patchwright_common.pull import PullLoop
from patchwright_common.service import Service, ServiceSettings, connected, run
from patchwright_vault.accepting import accepted
from patchwright_vault.administration import Administration, Changes
from patchwright_vault.app import AppClient, app_jwt
from patchwright_vault.audit import Audit
from patchwright_vault.borders import check_borders
from patchwright_vault.checks import Checks
from patchwright_vault.conversion import Conversions
from patchwright_vault.deliveries import DeliveryLog
from patchwright_vault.facts import Facts
from patchwright_vault.handlers import Answer, Handlers
from patchwright_vault.holdings import Holdings
from patchwright_vault.jobs import Jobs
from patchwright_vault.keys.choice import KeySettings, chosen_keys
from patchwright_vault.marks import mark_key
from patchwright_vault.register import Register
from patchwright_vault.revocation import GRACE, Revocation
from patchwright_vault.sealing import Sealer
from patchwright_vault.store import GITHUB_APP, MODEL_KEY, WEBHOOK_SECRET, GitHubApp, Store
from patchwright_vault.tokens import Minter
from patchwright_vault.verbs import Verbs, transport_key
from patchwright_vault.webhook_secrets import LEAD, OVERLAP, WebhookSecrets, adopt

log = logging.getLogger(__name__)

MODEL_URL = "https://api.anthropic.com"
STORE_RETRY = 1.0
"""Seconds between two tries to reach the records at start."""


class VaultSettings(KeySettings, ServiceSettings):
    """Secrets given here are sealed into `PW_VAULT` at start; later starts do not need them."""

    github_api_url: str = Field(
        default="https://api.github.com",
        description="GitHub's REST API, without a slash at the end.",
    )
    github_app_id: str = Field(default="", description="The App's id or client id.")
    github_private_key: SecretStr = Field(default=SecretStr(""), description="Its key in PEM.")
    github_private_key_file: Path | None = Field(default=None, description="Or the file with it.")
    app_slug: str = Field(
        default="patchwright",
        description="The App's name in URLs and mentions, for an App whose record lacks it.",
    )
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="The App's webhook secret."
    )
    webhook_secret_overlap: float = Field(
        default=OVERLAP,
        ge=0,
        description="Seconds for which the former webhook secret verifies after a rotation.",
    )
    webhook_secret_lead: float = Field(
        default=LEAD,
        ge=0,
        le=LEAD,
        description="Seconds that ingest has to learn a new one before GitHub signs with it.",
    )
    token_grace: float = Field(
        default=GRACE,
        gt=0,
        description="Seconds for which a token handed out after its job's end stays good.",
    )
    anthropic_base_url: str = Field(
        default=MODEL_URL,
        validation_alias="ANTHROPIC_BASE_URL",
        description="The model's API, where `check` tries its key; without a slash at the end.",
    )
    anthropic_api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias="ANTHROPIC_API_KEY", description="The model's key."
    )


def given_secrets(settings: VaultSettings) -> dict[str, str]:
    """What the environment brings, by record. Raises `Permanent` for what cannot work."""
    given = {
        WEBHOOK_SECRET: settings.webhook_secret.get_secret_value(),
        MODEL_KEY: settings.anthropic_api_key.get_secret_value(),
    }
    pem = _private_key(settings)
    if settings.github_app_id and pem:
        app = GitHubApp(app_id=settings.github_app_id, private_key=pem)
        app_jwt(app, time.time())
        given[GITHUB_APP] = app.model_dump_json()
    elif pem:
        raise Permanent("The App's private key is given without PATCHWRIGHT_GITHUB_APP_ID.")
    found = {name: secret for name, secret in given.items() if secret}
    # What `just secrets set` would refuse does not come in this way either. Short webhook secrets
    # of earlier releases are known to the record: `adopt` decides over those.
    for name, secret in found.items():
        if name != WEBHOOK_SECRET:
            accepted(name, secret)
    return found


def _private_key(settings: VaultSettings) -> str:
    # Compose files hand over variables that are not set as empty ones: Path("") is Path(".").
    path = settings.github_private_key_file
    if path is None or path == Path():
        return settings.github_private_key.get_secret_value()
    try:
        return path.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Permanent(f"The App's private key file {path} cannot be read: {why}.") from None


async def open_store(bus: Bus, sealer: Sealer, given: dict[str, str]) -> Store:
    """The store with what is given sealed into it, once NATS and the bucket are there.

    Raises `Permanent` when a record does not open: a vault with the wrong key that
    answered would turn every request into a failure, so it does not start.
    """
    while True:
        try:
            store = await Store.open(bus.js, sealer)
            await store.check()
            # First of all writes: it looks at what the first releases left.
            await mark_key(store)
            for name, secret in given.items():
                if await _stored(store, name, secret):
                    log.info("sealed %s", name)
            return store
        except Retry as error:
            log.warning("waiting for the store: %s", error.reason)
            await asyncio.sleep(STORE_RETRY)


async def _stored(store: Store, name: str, secret: str) -> bool:
    if name == WEBHOOK_SECRET:
        return await adopt(store, secret)
    return await store.put(name, secret.encode())


def set_up_answers(
    settings: VaultSettings, store: Store, outside: httpx.AsyncClient, changes: Changes
) -> dict[str, Answer]:
    """What the set-up asks of the outside, by verb."""
    checks = Checks(
        store,
        outside,
        github_url=settings.github_api_url,
        model_url=settings.anthropic_base_url or MODEL_URL,
    )
    conversions = Conversions(store, outside, changes)
    return {"convert": conversions.convert, "check": checks.check}


async def serve() -> None:
    """Run until told to stop."""
    settings = VaultSettings()
    given = given_secrets(settings)
    sealer = Sealer(chosen_keys(settings))
    async with (
        connected("vault", settings) as service,
        httpx.AsyncClient(headers={"User-Agent": "patchwright"}) as outside,
    ):
        await check_borders(settings)
        store = await open_store(service.bus, sealer, given)
        await _serve(settings, service, store, outside)


async def _serve(
    settings: VaultSettings, service: Service, store: Store, outside: httpx.AsyncClient
) -> None:
    bus, changes = service.bus, Changes(service.bus)
    app, holdings = AppClient(store, outside, settings.github_api_url), Holdings()
    minter = Minter(app, holdings)
    register = Register(bus, store, app, holdings, changes.announce)
    webhook_secrets = WebhookSecrets(
        store,
        app,
        changes.announce,
        overlap=settings.webhook_secret_overlap,
        lead=settings.webhook_secret_lead,
    )
    claims = await Claims.open(bus.js)
    revocation = Revocation(bus, claims, app, holdings, grace=settings.token_grace)
    verbs = Verbs(store, minter, Jobs(bus, claims), webhook_secrets, _facts(settings, app))
    transport = await transport_key(store)
    answers = {
        **verbs.answers(),
        **DeliveryLog(app).answers(),
        **Administration(store, changes, webhook_secrets, transport.public).answers(),
        **set_up_answers(settings, store, outside, changes),
    }
    Handlers(answers, Audit(bus), transport).attach(service.broker)
    async with webhook_secrets.beside(), revocation.beside():
        await service.broker.start()
        # Until the server has seen the subscriptions, whoever asks is told that nobody answers.
        await flush(bus.client)
        try:
            await service.consume(
                PullLoop(bus, flow.VAULT_DELIVERY_RECEIVED, register.on_delivery),
                PullLoop(bus, flow.VAULT_JOB_FINISHED, revocation.on_finished),
            )
        finally:
            minter.close()
            await revocation.close()


def _facts(settings: VaultSettings, app: AppClient) -> Facts:
    # What the operator set is better than asking GitHub; a default is not.
    set_by_operator = "app_slug" in settings.model_fields_set and settings.app_slug
    return Facts(app, slug=set_by_operator or "", fallback=settings.app_slug or "patchwright")


def main() -> None:
    """Entry point of `patchwright-vault`."""
    run(serve)
