"""Addresses at the chosen GitHub, from its web address. Raises `ValueError` with a sentence."""

from __future__ import annotations

import ipaddress
from urllib.parse import quote, urlsplit

CLOUD = "https://github.com"
HOST_MAX = 253
"""Characters of a name in DNS."""


def web_address(text: str) -> str:
    """The address as `scheme://host[:port]`, from whatever a person enters for it."""
    text = text.strip()
    parts = urlsplit(text if "://" in text else f"https://{text}")
    host = parts.hostname or ""  # urlsplit raises ValueError for a bad one
    usual = {"https": 443, "http": 80}.get(parts.scheme)
    port = "" if parts.port in (None, usual) else f":{parts.port}"
    if not host or parts.username or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("Enter an address like https://github.example.com, without a path.")
    if (
        len(host) > HOST_MAX
        or not host.isascii()
        or not host.replace("-", "").replace(".", "").replace(":", "").isalnum()
    ):
        raise ValueError("Enter an address like https://github.example.com.")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("The address must begin with https://, because secrets cross it.")
    host = "github.com" if host in ("www.github.com", "api.github.com") else host
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}"


def is_cloud(github: str) -> bool:
    """GitHub's own servers, which reach public addresses only."""
    host = urlsplit(github).hostname or ""
    return host == "github.com" or host.endswith(".ghe.com")


def api_url(github: str) -> str:
    """The REST API. The cloud's is on `api.`, a server's own below `/api/v3`."""
    if is_cloud(github):
        scheme, _, host = github.partition("://")
        return f"{scheme}://api.{host}"
    return f"{github}/api/v3"


def new_app_url(github: str, organization: str, state: str) -> str:
    """Where a manifest is posted to."""
    prefix = f"/organizations/{quote(organization, safe='')}" if organization else ""
    return f"{github}{prefix}/settings/apps/new?state={quote(state, safe='')}"


def app_url(github: str, slug: str) -> str:
    """The App's public page; a server of one's own keeps them elsewhere."""
    return f"{github}/{'apps' if is_cloud(github) else 'github-apps'}/{quote(slug, safe='')}"


def is_loopback(host: str) -> bool:
    """Whether that is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_private(host: str) -> bool:
    """An address or name that nobody outside can reach."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost", ".lan"))
