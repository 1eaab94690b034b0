"""The vault's composition root: the only file here that reads the environment."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx2 as httpx
from pydantic import Field, SecretStr

from patchwright_common.service import ServiceSettings, connected, run, until_stopped
from patchwright_vault.handlers import Handlers
from patchwright_vault.sealing import Sealer, load_or_make_key
from patchwright_vault.store import GITHUB_APP, MODEL_KEY, WEBHOOK_SECRET, GitHubApp, Store
from patchwright_vault.tokens import Minter

log = logging.getLogger(__name__)


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


async def take_in(settings: VaultSettings, store: Store) -> None:
    """Seal what the environment brings, where it differs from what is stored."""
    given: dict[str, str] = {
        WEBHOOK_SECRET: settings.webhook_secret.get_secret_value(),
        MODEL_KEY: settings.anthropic_api_key.get_secret_value(),
    }
    pem = settings.github_private_key.get_secret_value()
    if settings.github_private_key_file:
        pem = settings.github_private_key_file.expanduser().read_text()
    if settings.github_app_id and pem:
        app = GitHubApp(app_id=settings.github_app_id, private_key=pem)
        given[GITHUB_APP] = app.model_dump_json()
    for name, secret in given.items():
        if secret and await store.put(name, secret.encode()):
            log.info("sealed %s", name)


async def serve() -> None:
    """Run until told to stop."""
    settings = VaultSettings()
    sealer = Sealer(load_or_make_key(settings.vault_key_file.expanduser()))
    async with (
        connected("vault", settings) as service,
        httpx.AsyncClient(
            base_url=settings.github_api_url.rstrip("/") + "/",
            headers={"Accept": "application/vnd.github+json", "User-Agent": "patchwright"},
            timeout=10.0,
        ) as github,
    ):
        store = await Store.open(service.bus.js, sealer)
        await take_in(settings, store)
        Handlers(store, Minter(store, github), sealer).attach(service.broker)
        await service.broker.start()
        log.info("ready")
        await until_stopped()


def main() -> None:
    """Entry point of `patchwright-vault`."""
    run(serve)
