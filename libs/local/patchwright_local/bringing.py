"""How a secret gets from an operator to the vault: never by the command line."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from patchwright_common.credentials import AppFacts
from patchwright_common.errors import Permanent

GITHUB_APP = "github-app"
WEBHOOK_SECRET = "webhook-secret"  # noqa: S105  a record's name
MODEL_KEY = "model-key"
NAMES = (GITHUB_APP, WEBHOOK_SECRET, MODEL_KEY)
SIZE_LIMIT = 64 * 1024
"""Bytes; a private key has about two thousand."""


class AppWords(BaseModel):
    """What belongs to the App's private key and is no secret; empty: as it was."""

    model_config = ConfigDict(frozen=True)

    app_id: str = ""
    slug: str = ""
    api_url: str = ""


class AppRecord(BaseModel):
    """The App as the vault takes it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    app_id: str
    private_key: SecretStr = Field(repr=False)
    slug: str = ""
    api_url: str = ""
    html_url: str = ""

    def value(self) -> str:
        """The JSON that the vault takes."""
        return json.dumps(self.model_dump() | {"private_key": self.private_key.get_secret_value()})


def read_file(path: Path, what: str = "") -> str:
    """The text in it. Raises `Permanent` without quoting any of it.

    `what` is the file's name in errors, where the path itself may be a secret by mistake.
    """
    what = what or f"The file {path}"
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise Permanent(f"{what} cannot be read: {error.strerror}.") from None
    return _text(data, what)


def read_secret(name: str, file: Path | None) -> str:
    """From the file, from a pipe, or typed without being shown. Raises `Permanent`."""
    if file is not None and str(file) != "-":
        return read_file(file, "What --file names")
    if file is not None or not sys.stdin.isatty():
        return _text(sys.stdin.buffer.read(SIZE_LIMIT + 1), "What came in")
    if name == GITHUB_APP:
        raise Permanent(
            "A private key has many lines and cannot be typed.", advice="Name its file: --file."
        )
    return getpass.getpass(f"{name} (it is not shown): ")


def as_app(value: str, words: AppWords, held: AppFacts | None) -> str:
    """A private key alone becomes the App's record; with what is known of the App already.

    The page's address is kept only where the App stays the same one.
    """
    if value.lstrip().startswith("{"):
        return value
    app_id = words.app_id or (held.app_id if held else "")
    if not app_id:
        raise Permanent(
            "Whose private key is this?", advice="Name the App's id: --app-id (or its client id)."
        )
    same = held if held and held.app_id == app_id else None
    return AppRecord(
        app_id=app_id,
        private_key=SecretStr(value),
        slug=words.slug or (same.slug if same else ""),
        api_url=words.api_url or (same.api_url if same else ""),
        html_url=same.html_url if same else "",
    ).value()


def _text(data: bytes, what: str) -> str:
    if len(data) > SIZE_LIMIT:
        raise Permanent(f"{what} is too large to be a secret.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Permanent(f"{what} is not text.") from None
