"""The checks of an image block, with the real API's wording as clients have reported it.

Source: https://platform.claude.com/docs/en/build-with-claude/vision
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from standin_model.errors import InvalidRequestError

MAX_BASE64_BYTES = 5 * 1024 * 1024
BEGINNINGS = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
BROKEN = b"BROKEN"
"""An image that holds this word cannot be decoded, whatever its beginning says."""


def check_image(place: str, source: Mapping[str, Any] | None) -> None:
    """Raises InvalidRequestError. Only base64: the stand-in fetches nothing."""
    source = source or {}
    media_type, data = source.get("media_type"), source.get("data")
    if source.get("type") != "base64" or not isinstance(data, str):
        raise InvalidRequestError(f"{place}: image.source: only base64 is supported here")
    if media_type not in BEGINNINGS:
        names = ", ".join(repr(name) for name in sorted(BEGINNINGS))
        raise InvalidRequestError(f"{place}: image.source.base64.media_type: one of {names}")
    if len(data) > MAX_BASE64_BYTES:
        raise InvalidRequestError(
            f"{place}: image.source.base64: image exceeds 5 MB maximum: "
            f"{len(data)} bytes > {MAX_BASE64_BYTES} bytes"
        )
    try:
        content = base64.b64decode(data, validate=True)
    except binascii.Error:
        raise InvalidRequestError(f"{place}: image.source.base64: invalid base64 data") from None
    if not content.startswith(BEGINNINGS[media_type]) or BROKEN in content:
        raise InvalidRequestError("Could not process image")
