"""What a webhook must be to be let in: pure checks on raw bytes and headers.

https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from patchwright_common.flow import DELIVERY_BYTES

BODY_LIMIT = DELIVERY_BYTES
"""GitHub sends no larger payload."""

KEPT_HEADERS = (
    "content-type",
    "user-agent",
    "x-github-delivery",
    "x-github-event",
    "x-github-hook-id",
    "x-github-hook-installation-target-id",
    "x-github-hook-installation-target-type",
    "x-hub-signature-256",
)
"""Stored with the delivery; everything else that a sender adds is dropped."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
"""Events and actions: `projects_v2_item` is one of them."""
_GUID = re.compile(r"[0-9A-Za-z-]{1,64}")
_HEADER_VALUE = re.compile(r"[!-~][ -~]{0,1023}")
"""What is stored of a header: the signature covers none of them, so they stay small and plain."""
_NUMBER_LIMIT = 2**63


class RefusedError(Exception):
    """The delivery is not let in: an HTTP status and a reason for its sender.

    `retry_after` in seconds, 0 where trying again is no use.
    """

    def __init__(self, status: int, reason: str, *, retry_after: int = 0) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True)
class Webhook:
    """A verified delivery. Its action and ids are `none` where the event has none."""

    delivery_id: str
    event: str
    action: str
    repository_id: str
    installation_id: str
    body: bytes
    headers: dict[str, str]


def check_envelope(headers: Mapping[str, str]) -> None:
    """What can be refused before the body is read. Raises `RefusedError`: 400, 401, 413, 415."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, "the content type must be application/json")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise RefusedError(400, "content-length is not a number")
    # Python itself refuses to read numbers of thousands of digits.
    if len(length) > 18 or int(length) > BODY_LIMIT:
        raise RefusedError(413, f"the body is larger than {BODY_LIMIT} bytes")
    if not _NAME.fullmatch(headers.get("x-github-event", "")):
        raise RefusedError(400, "x-github-event is missing or not an event's name")
    if not _GUID.fullmatch(headers.get("x-github-delivery", "")):
        raise RefusedError(400, "x-github-delivery is missing or not an id")
    if not headers.get("x-hub-signature-256"):
        raise RefusedError(401, "x-hub-signature-256 is missing")


def is_signed(secrets: Sequence[bytes], body: bytes | bytearray, signature: str) -> bool:
    """Whether one of the secrets made this HMAC-SHA256 of the raw body.

    All are tried, each in constant time: how long it takes tells nothing of which it was.
    """
    given = signature.encode(errors="replace")
    matches = [
        hmac.compare_digest(b"sha256=" + _hexdigest(secret, body), given) for secret in secrets
    ]
    return any(matches)


def _hexdigest(secret: bytes, body: bytes | bytearray) -> bytes:
    return hmac.new(secret, body, hashlib.sha256).hexdigest().encode()


def read(headers: Mapping[str, str], body: bytes) -> Webhook:
    """The delivery, of a body whose signature was checked. Raises `RefusedError` (400)."""
    try:
        # Decoded here: json would also take UTF-16, which nobody behind the bus expects.
        payload = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is not JSON") from None
    if not isinstance(payload, dict):
        raise RefusedError(400, "the body is not a JSON object")
    return Webhook(
        delivery_id=headers["x-github-delivery"],
        event=headers["x-github-event"],
        action=_action(payload),
        repository_id=_id(payload, "repository"),
        installation_id=_id(payload, "installation"),
        body=body,
        headers=_kept(headers),
    )


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    found = {name: headers.get(name, "").strip() for name in KEPT_HEADERS}
    return {name: value for name, value in found.items() if _HEADER_VALUE.fullmatch(value)}


def _action(payload: dict[str, Any]) -> str:
    action = payload.get("action")
    return action if isinstance(action, str) and _NAME.fullmatch(action) else "none"


def _id(payload: dict[str, Any], name: str) -> str:
    part = payload.get(name)
    number = part.get("id") if isinstance(part, dict) else None
    known = type(number) is int and 0 <= number < _NUMBER_LIMIT
    return str(number) if known else "none"
