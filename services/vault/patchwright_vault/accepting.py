"""What the vault takes from operators: each kind of value, checked. Errors never quote it."""

from __future__ import annotations

import ipaddress
import re
import time
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from patchwright_common.errors import Permanent
from patchwright_vault.app import app_jwt
from patchwright_vault.store import GITHUB_APP, MODEL_KEY, WEBHOOK_SECRET, GitHubApp

TAKEN = (GITHUB_APP, WEBHOOK_SECRET, MODEL_KEY)
"""What an operator may put and delete, by name."""
LONGEST = 4096
"""Characters of a key or a webhook secret."""
SHORTEST_SECRET = 16
"""Characters: a signature is only as hard to forge as its secret is to guess."""
_APP_ID = re.compile(r"[1-9][0-9]{0,19}|Iv[0-9A-Za-z.]{4,60}")
App = TypeVar("App", bound=GitHubApp)
_SLUG = re.compile(r"[A-Za-z0-9-]{0,100}")


def accepted(name: str, value: str) -> bytes:
    """The value as it is stored. Raises `Permanent`; the name is not quoted either.

    An operator who mixes the two up has a secret in the name.
    """
    check_name(name)
    if name == MODEL_KEY:
        return _model_key(value)
    if name == WEBHOOK_SECRET:
        return _webhook_secret(value)
    return _github_app(value)


def check_name(name: str) -> None:
    """Raises `Permanent` for a record that is none of an operator's."""
    if name not in TAKEN:
        raise Permanent(f"There is no such secret: the names are {', '.join(TAKEN)}.")


def api_address(url: str) -> str:
    """A GitHub's API without a slash at the end. Raises `Permanent` for one that cannot be safe.

    Credentials cross this connection, so it is HTTPS, except on the machine itself.
    """
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    plain = bool(host) and not (parts.username or parts.password or parts.query or parts.fragment)
    if not plain or not url.isascii() or not url.isprintable() or " " in url:
        raise Permanent("The address of GitHub's API is not a URL like https://api.github.com.")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise Permanent("The address of GitHub's API must begin with https://.")
    return url


def page_address(url: str) -> str:
    """A page's address that may become a link, or nothing."""
    return url if re.fullmatch(r"https?://[!-~]{1,500}", url) else ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _model_key(value: str) -> bytes:
    key = value.strip()
    if not key:
        raise Permanent("The model's key is empty.")
    if len(key) > LONGEST or not key.isascii() or not key.isprintable() or " " in key:
        raise Permanent("The model's key is one word of plain characters; this is something else.")
    return key.encode()


def _webhook_secret(value: str) -> bytes:
    secret = value.strip()
    if len(secret) < SHORTEST_SECRET:
        raise Permanent(
            f"The webhook secret needs at least {SHORTEST_SECRET} characters: "
            "`openssl rand -hex 32` makes one."
        )
    if len(secret) > LONGEST or not secret.isprintable():
        raise Permanent("The webhook secret is one line of printable characters.")
    return secret.encode()


def _github_app(value: str) -> bytes:
    try:
        app = GitHubApp.model_validate_json(value)
    except ValidationError:
        raise Permanent(
            'The App is a JSON object with "app_id" and "private_key"; this is something else.'
        ) from None
    return checked_app(app).model_dump_json().encode()


def checked_app(app: App) -> App:
    """With what a paste adds taken off. Raises `Permanent`."""
    app_id = app.app_id.strip()
    if not _APP_ID.fullmatch(app_id):
        raise Permanent(
            "The App's id is a number, or a client id that begins with Iv; this is neither."
        )
    if not _SLUG.fullmatch(app.slug):
        raise Permanent("The App's slug is its name in github.com/apps/your-app.")
    checked = app.model_copy(
        update={
            "app_id": app_id,
            "private_key": _pem(app.private_key),
            "api_url": api_address(app.api_url) if app.api_url.strip() else "",
            "html_url": page_address(app.html_url),
        }
    )
    app_jwt(checked, time.time())
    return checked


def _pem(text: str) -> str:
    """Files of variables hold a PEM in one line, with its line ends written out."""
    text = text.strip()
    if "\n" not in text:
        text = text.replace("\\n", "\n")
    return text.strip() + "\n"
