"""What people enter, checked: a value, or a sentence for each field that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from patchwright_setup import hosts

NAME_MAX = 34
"""Characters; GitHub's limit for an App."""
URL_MAX = 2000
"""Characters; no proxy in front of ingest can be relied on to take more."""
WEBHOOK_PATH = "/webhooks/github"
"""Where ingest listens."""
SECRET_MIN = 16
"""Characters; the vault takes no shorter webhook secret."""
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98})")
_SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,98})")
_APP_ID = re.compile(r"[1-9][0-9]{0,19}|Iv[0-9A-Za-z.]{4,60}")
_PEM = re.compile(
    r"-----BEGIN (RSA )?PRIVATE KEY-----.+-----END (RSA )?PRIVATE KEY-----", re.DOTALL
)

Fields = Mapping[str, str]


class FormError(Exception):
    """`problems` by field, in the form's order."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(", ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class WantedApp:
    """An App to be made. An empty `organization` is the person's own account."""

    github: str
    organization: str
    name: str
    webhook_url: str

    @property
    def api_url(self) -> str:
        """GitHub's REST API."""
        return hosts.api_url(self.github)


@dataclass(frozen=True)
class ExistingApp:
    """An App that is there already."""

    github: str
    app_id: str
    slug: str
    private_key: SecretStr
    webhook_secret: SecretStr

    @property
    def api_url(self) -> str:
        """GitHub's REST API."""
        return hosts.api_url(self.github)

    @property
    def html_url(self) -> str:
        """The App's public page."""
        return hosts.app_url(self.github, self.slug)


class _Reading:
    """Collects the problems, so that a form is told all of them at once."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        self.problems: dict[str, str] = {}

    def read(self, name: str, check: Callable[[str], str]) -> str:
        """The checked value, or nothing."""
        try:
            return check(self._fields.get(name, "").strip())
        except ValueError as error:
            self.problems[name] = str(error)
            return ""

    def done(self) -> None:
        """Raises `FormError` when anything was wrong."""
        if self.problems:
            raise FormError(self.problems)


def wanted_app(fields: Fields) -> WantedApp:
    """Raises `FormError`."""
    reading = _Reading(fields)
    organization = ""
    if fields.get("owner") == "organization":
        organization = reading.read("organization", _organization)
    name = reading.read("name", _name)
    chosen = reading.read("github", _github)
    webhook = reading.read("webhook_url", lambda text: webhook_url(text, chosen))
    reading.done()
    return WantedApp(chosen, organization, name, webhook)


def existing_app(fields: Fields) -> ExistingApp:
    """`key_file` holds an uploaded file's text. Raises `FormError`."""
    reading = _Reading(fields)
    app_id = reading.read("app_id", _app_id)
    slug = reading.read("slug", _slug)
    source = "key_text" if fields.get("key_text", "").strip() else "key_file"
    pem = reading.read(source, _pem)
    secret = reading.read("webhook_secret", _webhook_secret)
    chosen = reading.read("github", _github)
    reading.done()
    return ExistingApp(chosen, app_id, slug, SecretStr(pem), SecretStr(secret))


def model_key(fields: Fields) -> SecretStr:
    """Raises `FormError`."""
    reading = _Reading(fields)
    key = reading.read("key", _model_key)
    reading.done()
    return SecretStr(key)


def webhook_url(text: str, chosen_github: str) -> str:
    """The address that GitHub shall deliver to. Raises `ValueError` with a sentence."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    plain = text.isascii() and text.isprintable() and " " not in text
    if not host or parts.scheme not in ("http", "https") or not plain or len(text) > URL_MAX:
        raise ValueError("Enter a full address, like https://patchwright.example.com.")
    if parts.username or parts.password:
        raise ValueError("Leave the user and the password out: GitHub would show them.")
    private = hosts.is_private(host)
    if private and chosen_github and hosts.is_cloud(chosen_github):
        raise ValueError(
            f"GitHub cannot reach {host} from outside. Use a public address or a relay."
        )
    if parts.scheme == "http" and not private:
        raise ValueError("A public address must begin with https://.")
    if parts.path in ("", "/"):
        parts = parts._replace(path=WEBHOOK_PATH)
    return parts._replace(fragment="").geturl()


def _github(text: str) -> str:
    try:
        return hosts.web_address(text)
    except ValueError as error:
        raise ValueError(f"{error}") from None


def _organization(text: str) -> str:
    if not text:
        raise ValueError("Enter the organisation's name, as in github.com/NAME.")
    if not _LOGIN.fullmatch(text):
        raise ValueError("An organisation's name has letters, digits and dashes only.")
    return text


def _name(text: str) -> str:
    if not text:
        raise ValueError("Enter a name for the App.")
    if len(text) > NAME_MAX:
        raise ValueError(f"A name has at most {NAME_MAX} characters.")
    if not text.isprintable():
        raise ValueError("A name is one line of plain characters.")
    return text


def _app_id(text: str) -> str:
    if not _APP_ID.fullmatch(text):
        raise ValueError("The App id is a number, or a client id that begins with Iv.")
    return text


def _slug(text: str) -> str:
    slug = text.removeprefix("@").rstrip("/").rpartition("/")[2]
    if not _SLUG.fullmatch(slug):
        raise ValueError("Enter the name from the App's address, as in github.com/apps/NAME.")
    return slug


def _pem(text: str) -> str:
    found = _PEM.search(text)
    if not text:
        raise ValueError("Choose the key file that GitHub gave you, or paste its content.")
    if found is None:
        raise ValueError(
            "This is not a private key. It begins with -----BEGIN RSA PRIVATE KEY-----."
        )
    return found[0] + "\n"


def _webhook_secret(text: str) -> str:
    if len(text) < SECRET_MIN:
        raise ValueError(f"Enter the App's webhook secret; it needs {SECRET_MIN} characters.")
    if not text.isprintable():
        raise ValueError("A webhook secret is one line of plain characters. Copy it again.")
    return text


def _model_key(text: str) -> str:
    if not text:
        raise ValueError("Paste the key.")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("A key is one word of plain characters. Copy it again.")
    return text
