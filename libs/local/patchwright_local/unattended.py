"""`just setup --non-interactive`: what the set-up pages do, from files and variables.

It puts what is given, keeps what is there, and tries each part. It may be repeated.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from patchwright_common.credentials import AppFacts, Vault
from patchwright_common.errors import PatchwrightError, Permanent, Retry
from patchwright_local.bringing import (
    GITHUB_APP,
    MODEL_KEY,
    WEBHOOK_SECRET,
    AppWords,
    as_app,
    read_file,
)
from patchwright_local.vault_access import VaultAccess, administered

PATIENCE = 20.0
"""Seconds in which the vault may still be starting."""
File = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
Show = Callable[[str], None]


class Given(VaultAccess):
    """The variables. A value may stand in a file instead, named by `…_FILE`."""

    model_config = SettingsConfigDict(populate_by_name=True)

    github_app_id: str = Field(default="", description="The App's id or client id.")
    github_private_key: SecretStr = Field(default=SecretStr(""), description="Its key in PEM.")
    github_private_key_file: File = Field(default=None, description="Or the file with it.")
    app_slug: str = Field(default="", description="Its name in github.com/apps/your-app.")
    github_api_url: str = Field(default="", description="GitHub's API, where it is another one.")
    webhook_secret: SecretStr = Field(default=SecretStr(""), description="Its webhook secret.")
    webhook_secret_file: File = Field(default=None, description="Or the file with it.")
    anthropic_api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias="ANTHROPIC_API_KEY", description="The model's key."
    )
    anthropic_api_key_file: File = Field(
        default=None, validation_alias="ANTHROPIC_API_KEY_FILE", description="Or the file with it."
    )

    def secrets(self) -> dict[str, str]:
        """By record, what is given; the App's is its private key. Raises `Permanent`."""
        given = {
            GITHUB_APP: _either(self.github_private_key, self.github_private_key_file),
            WEBHOOK_SECRET: _either(self.webhook_secret, self.webhook_secret_file),
            MODEL_KEY: _either(self.anthropic_api_key, self.anthropic_api_key_file),
        }
        return {name: value for name, value in given.items() if value.strip()}

    @property
    def words(self) -> AppWords:
        """What belongs to the private key."""
        return AppWords(app_id=self.github_app_id, slug=self.app_slug, api_url=self.github_api_url)


@dataclass(frozen=True)
class Part:
    """A record, and how to give it."""

    record: str
    variables: str


PARTS = (
    Part(
        GITHUB_APP,
        "PATCHWRIGHT_GITHUB_APP_ID, PATCHWRIGHT_APP_SLUG and PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE",
    ),
    Part(WEBHOOK_SECRET, "PATCHWRIGHT_WEBHOOK_SECRET or PATCHWRIGHT_WEBHOOK_SECRET_FILE"),
    Part(MODEL_KEY, "ANTHROPIC_API_KEY or ANTHROPIC_API_KEY_FILE"),
)
CHECKS = {"webhook": False, "token": True, "model": True}
"""Whether the set-up counts as unfinished without it. GitHub's last delivery may be older
than everything that was set up here, so a webhook that failed is told and nothing more."""


async def set_up(given: Given, show: Show) -> bool:
    """Whether everything that is needed is there; `show` gets a line for each part.

    Raises `Permanent` when there is no vault to ask, and what nats-py raises.
    """
    secrets = given.secrets()
    async with administered(given) as vault:
        held = await _held(vault)
        app = await vault.app() if GITHUB_APP in held else None
        done = [await _put(vault, part, secrets, given.words, app, held, show) for part in PARTS]
        done += [await _check(vault, what, needed, show) for what, needed in CHECKS.items()]
    return all(done)


async def _held(vault: Vault) -> set[str]:
    """The records that are there, once the vault answers."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            records = json.loads((await vault.ask("list")).value or "[]")
            return {str(record["name"]) for record in records}
        except Retry:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.5)


async def _put(
    vault: Vault,
    part: Part,
    secrets: dict[str, str],
    words: AppWords,
    app: AppFacts | None,
    held: set[str],
    show: Show,
) -> bool:
    value = secrets.get(part.record)
    if value is None:
        return _left(part, words, app, held, show)
    try:
        if part.record == GITHUB_APP:
            value = as_app(value, _complete(words, app), app)
        reply = await vault.tell("put", {"name": part.record, "value": value})
    except PatchwrightError as error:
        return _line(show, part.record, f"not stored: {_said(error)}", ok=False)
    return _line(show, part.record, reply.value or "", ok=True)


def _left(part: Part, words: AppWords, app: AppFacts | None, held: set[str], show: Show) -> bool:
    """For a part of which no secret was given."""
    if part.record not in held:
        return _line(show, part.record, f"missing: set {part.variables}", ok=False)
    if part.record == GITHUB_APP and app and words.app_id not in ("", app.app_id):
        text = (
            f"another App ({app.app_id}) is there, and for {words.app_id} the private key is "
            "missing: set PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE"
        )
        return _line(show, part.record, text, ok=False)
    return _line(show, part.record, "there already", ok=True)


def _complete(words: AppWords, app: AppFacts | None) -> AppWords:
    """Raises `Permanent` naming what is missing besides the private key."""
    if not words.app_id and not app:
        raise Permanent("the App's id is missing: set PATCHWRIGHT_GITHUB_APP_ID")
    known = app is not None and words.app_id in ("", app.app_id) and app.slug
    if not words.slug and not known:
        raise Permanent("the App's name in URLs is missing: set PATCHWRIGHT_APP_SLUG")
    return words


async def _check(vault: Vault, what: str, needed: bool, show: Show) -> bool:
    try:
        finding: dict[str, Any] = json.loads((await vault.ask("check", {"what": what})).value or "")
    except PatchwrightError as error:
        _line(show, f"check {what}", f"could not be tried: {_said(error)}", ok=False)
        return not needed
    ok = bool(finding["ok"])
    _line(show, f"check {what}", f"{finding['detail']} {finding['advice']}".strip(), ok=ok)
    return ok or not needed


def _line(show: Show, name: str, text: str, *, ok: bool) -> bool:
    show(f"{'ok' if ok else 'NO':3}{name:16}{text}")
    return ok


def _said(error: PatchwrightError) -> str:
    if isinstance(error, Permanent):
        return f"{error.reason} {error.advice}".strip()
    return str(error)


def _either(value: SecretStr, file: Path | None) -> str:
    return value.get_secret_value() or (read_file(file) if file else "")
