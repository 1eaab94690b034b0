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
from patchwright_common.service import keep_memory_private
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
        "PATCHWRIGHT_GITHUB_APP_ID and PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE",
    ),
    Part(WEBHOOK_SECRET, "PATCHWRIGHT_WEBHOOK_SECRET or PATCHWRIGHT_WEBHOOK_SECRET_FILE"),
    Part(MODEL_KEY, "ANTHROPIC_API_KEY or ANTHROPIC_API_KEY_FILE"),
)
CHECKS = {"webhook": (GITHUB_APP, False), "token": (GITHUB_APP, True), "model": (MODEL_KEY, True)}
"""The record that it tries, and whether the set-up counts as unfinished without it. GitHub's last
delivery may be older than everything that was set up here, so a webhook that failed is told and
nothing more."""


async def set_up(given: Given, show: Show) -> bool:
    """Whether everything that is needed is there; `show` gets a line for each part.

    Raises `Permanent` when there is no vault to ask or it does not answer, and what nats-py
    raises.
    """
    keep_memory_private()
    secrets = given.secrets()
    async with administered(given) as vault:
        try:
            held = await _held(vault)
            app = await vault.app() if GITHUB_APP in held else None
        except Retry as error:
            raise Permanent(
                f"The vault could not be asked: {error.reason}. Nothing was stored.",
                advice="`just logs vault` says more; the same again is safe.",
            ) from None
        setup = _Setup(vault, given.words, held, app, show)
        done = {part.record: await setup.bring(part, secrets.get(part.record)) for part in PARTS}
        for what, (record, needed) in CHECKS.items():
            # What is missing was told, with the variables that bring it.
            if done[record] or record in held:
                done[what] = await setup.check(what) or not needed
    return all(done.values())


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


@dataclass(frozen=True)
class _Setup:
    vault: Vault
    words: AppWords
    held: set[str]
    app: AppFacts | None
    """The App that was there before."""
    show: Show

    async def bring(self, part: Part, secret: str | None) -> bool:
        """Store what is given; whether the record is there."""
        if secret is None:
            return self._left(part)
        try:
            value = self._app(secret) if part.record == GITHUB_APP else secret
            reply = await self.vault.tell("put", {"name": part.record, "value": value})
        except PatchwrightError as error:
            return self._line(part.record, f"not stored: {_said(error)}", ok=False)
        return self._line(part.record, reply.value or "", ok=True)

    async def check(self, what: str) -> bool:
        """Whether that part works."""
        try:
            reply = await self.vault.ask("check", {"what": what})
        except PatchwrightError as error:
            return self._line(f"check {what}", f"could not be tried: {_said(error)}", ok=False)
        finding: dict[str, Any] = json.loads(reply.value or "{}")
        text = f"{finding['detail']} {finding['advice']}".strip()
        return self._line(f"check {what}", text, ok=finding["ok"])

    def _left(self, part: Part) -> bool:
        """For a part of which no secret was given."""
        if part.record not in self.held:
            return self._line(part.record, f"missing: set {part.variables}", ok=False)
        known = self.app.app_id if self.app else ""
        if part.record == GITHUB_APP and self.words.app_id not in ("", known):
            text = (
                f"another App ({known}) is there, and the private key of {self.words.app_id} is "
                "missing: set PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE"
            )
            return self._line(part.record, text, ok=False)
        return self._line(part.record, "there already", ok=True)

    def _app(self, private_key: str) -> str:
        """Raises `Permanent` naming the variable that is missing besides the private key."""
        if not self.words.app_id and not self.app:
            raise Permanent("the App's id is missing: set PATCHWRIGHT_GITHUB_APP_ID")
        return as_app(private_key, self.words, self.app)

    def _line(self, name: str, text: str, *, ok: bool) -> bool:
        self.show(f"{'ok' if ok else 'NO':3}{name:16}{text}")
        return ok


def _said(error: PatchwrightError) -> str:
    if isinstance(error, Permanent):
        return f"{error.reason} {error.advice}".strip()
    return str(error)


def _either(value: SecretStr, file: Path | None) -> str:
    return value.get_secret_value() or (read_file(file) if file else "")
