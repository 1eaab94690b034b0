"""The vault's composition root: the only file here that reads the environment."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import httpx2 as httpx
from pydantic import Field, SecretStr

from patchwright_common.bus import TIMEOUT, Bus
from patchwright_common.errors import Permanent, Retry
from patchwright_common.service import ServiceSettings, connected, run, until_stopped
from patchwright_vault.audit import Audit
from patchwright_vault.handlers import Handlers
from patchwright_vault.sealing import Sealer, load_or_make_key
from patchwright_vault.store import GITHUB_APP, MODEL_KEY, WEBHOOK_SECRET, GitHubApp, Store
from patchwright_vault.tokens import Minter, app_jwt
from patchwright_vault.verbs import Verbs, transport_key

log = logging.getLogger(__name__)

STORE_RETRY = 1.0
"""Seconds between two tries to reach the records at start."""


class VaultSettings(ServiceSettings):
    """Secrets given here are sealed into `PW_VAULT` at start; later starts do not need them."""

    github_api_url: str = Field(
        default="https://api.github.com",
        description="GitHub's REST API, without a slash at the end.",
    )
    vault_key_file: Path = Field(
        default=Path("~/.local/state/patchwright/vault.key"),
        description="The key-encryption key; made with mode 0600 when missing.",
    )
    github_app_id: str = Field(default="", description="The App's id or client id.")
    github_private_key: SecretStr = Field(default=SecretStr(""), description="Its key in PEM.")
    github_private_key_file: Path | None = Field(default=None, description="Or the file with it.")
    webhook_secret: SecretStr = Field(
        default=SecretStr(""), description="The App's webhook secret."
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
    return {name: secret for name, secret in given.items() if secret}


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
            for name, secret in given.items():
                if await store.put(name, secret.encode()):
                    log.info("sealed %s", name)
            return store
        except Retry as error:
            log.warning("waiting for the store: %s", error.reason)
            await asyncio.sleep(STORE_RETRY)


async def serve() -> None:
    """Run until told to stop."""
    settings = VaultSettings()
    given = given_secrets(settings)
    sealer = Sealer(load_or_make_key(settings.vault_key_file.expanduser()))
    async with (
        connected("vault", settings) as service,
        httpx.AsyncClient(
            base_url=settings.github_api_url.rstrip("/") + "/",
            headers={"Accept": "application/vnd.github+json", "User-Agent": "patchwright"},
            timeout=10.0,
        ) as github,
    ):
        store = await open_store(service.bus, sealer, given)
        answers = Verbs(store, Minter(store, github), sealer).answers()
        transport = await transport_key(store)
        Handlers(answers, Audit(service.bus), transport).attach(service.broker)
        await service.broker.start()
        # Until the server has seen the subscriptions, whoever asks is told that nobody answers.
        await service.bus.client.flush(timeout=int(TIMEOUT))
        log.info("ready")
        await until_stopped()


def main() -> None:
    """Entry point of `patchwright-vault`."""
    run(serve)
