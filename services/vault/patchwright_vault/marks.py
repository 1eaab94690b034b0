"""The key that signs comment markers: a record of its own, so that rotations leave it alone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from patchwright_common.errors import Permanent
from patchwright_vault.keys.protocol import KEY_BYTES
from patchwright_vault.store import MARK_KEY, MissingError

if TYPE_CHECKING:
    from patchwright_vault.store import Store


async def mark_key(store: Store) -> bytes:
    """The key; made once, before anything else is written.

    The first releases derived it from the key-encryption key. Where they left records,
    it is derived once more, so that the comments of that time are still recognised.
    """
    try:
        return await store.get(MARK_KEY)
    except MissingError:
        await store.create(MARK_KEY, await _first(store))
    return await store.get(MARK_KEY)


def mark(key: bytes, job_id: str) -> str:
    """HMAC-SHA256 of a job id in hex, cut to 128 bits: the publisher's comment marker."""
    return hmac.digest(key, job_id.encode(), hashlib.sha256)[:16].hex()


async def _first(store: Store) -> bytes:
    old = [r.name for r in await store.describe() if r.version == 0 and r.key_version]
    if not old:
        return secrets.token_bytes(KEY_BYTES)
    await store.get(old[0])  # raises for a wrong key, whose marks would be for ever
    key = await store.keys.legacy()
    if key is None:
        raise Permanent("Version 1 of the vault's key is not at hand. Nothing was overwritten.")
    return hmac.digest(key, b"patchwright/mark/1", hashlib.sha256)
