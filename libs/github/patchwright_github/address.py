"""Where a GitHub's repositories lie: derived from its API's address, never from a payload.

Whoever knows the webhook secret writes payloads. An address from there would decide
where our tokens are sent.
"""

from __future__ import annotations

from urllib.parse import urlsplit


def origin(api_url: str) -> str:
    """`https://github.com` for `https://api.github.com`.

    A server's API is below its own address (`/api/v3`), the cloud's on `api.` of it.
    """
    parts = urlsplit(api_url)
    return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}"


def clone_url(api_url: str, full_name: str) -> str:
    """The address to fetch from and push to."""
    return f"{origin(api_url)}/{full_name}.git"


def lies_on(url: str, github: str) -> bool:
    """Whether `url` belongs to the GitHub at the origin `github`."""
    try:
        places = [(p.scheme, p.hostname, p.port) for p in (urlsplit(url), urlsplit(github))]
    except ValueError:
        return False
    return places[0] == places[1]
