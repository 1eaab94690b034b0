"""Key-encryption keys in memory: reading them from text, wrapping with AES-256-GCM.

The text has `version:hex` for each key, by lines or commas, the current one first. A
single key without a version is version 1, which is what the first releases wrote.

What is wrapped: 4 bytes of the key's fingerprint, so that a wrong key is told from a
changed record; a 12-byte random nonce; the encrypted data key with its 16-byte tag.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from patchwright_common.errors import Permanent
from patchwright_vault.keys.protocol import (
    KEY_BYTES,
    ChangedError,
    OtherKeyError,
    UnknownVersionError,
)

HIGHEST = 2**32 - 1
"""The largest version; a record has four bytes for it."""
_FINGERPRINT_BYTES = 4
_NONCE_BYTES = 12
_ENTRY = re.compile(r"(?:([1-9][0-9]{0,9}):)?([0-9A-Fa-f]+)")


@dataclass(frozen=True)
class Ring:
    """`holder` names the ring in errors that people outside may read: no path."""

    keys: Mapping[int, bytes] = field(repr=False)
    holder: str

    @property
    def versions(self) -> tuple[int, ...]:
        """The current one first."""
        return tuple(self.keys)

    def wrap(self, data_key: bytes, context: bytes) -> tuple[int, bytes]:
        """With the current version."""
        version = self.versions[0]
        key, nonce = self.keys[version], secrets.token_bytes(_NONCE_BYTES)
        return version, _fingerprint(key) + nonce + AESGCM(key).encrypt(nonce, data_key, context)

    def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        """Raises one of the `UnwrapError`s."""
        key = self.keys.get(version)
        if key is None:
            raise UnknownVersionError(version, self.holder, self.versions)
        if wrapped[:_FINGERPRINT_BYTES] != _fingerprint(key):
            raise OtherKeyError(version, self.holder)
        sealed = wrapped[_FINGERPRINT_BYTES:]
        try:
            return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):  # ValueError: too short
            raise ChangedError from None

    def rotated(self) -> Ring:
        """With a fresh key in front."""
        version = max(self.keys, default=0) + 1
        if version > HIGHEST:
            raise Permanent(f"{self.holder} has no version number left.")
        return Ring({version: secrets.token_bytes(KEY_BYTES), **self.keys}, self.holder)

    def without(self, version: int) -> Ring:
        """Raises `Permanent` for the current version."""
        if version == self.versions[0]:
            raise Permanent(f"Key version {version} is the current one: rotate before retiring it.")
        return Ring({v: key for v, key in self.keys.items() if v != version}, self.holder)

    def text(self) -> str:
        """What `parse` reads."""
        return "".join(f"{version}:{key.hex()}\n" for version, key in self.keys.items())


def parse(text: str, holder: str) -> Ring:
    """Raises `Permanent`, without quoting anything of the text."""
    entries = [entry.strip() for entry in re.split(r"[\n,]", text) if entry.strip()]
    if not entries:
        raise Permanent(f"{holder} does not hold a key in hex: it is empty.")
    keys: dict[int, bytes] = {}
    for place, entry in enumerate(entries, 1):
        version, key = _parsed(entry, f"{holder} (entry {place} of {len(entries)})")
        if version in keys:
            raise Permanent(f"{holder} has version {version} twice.")
        if key in keys.values():
            raise Permanent(f"{holder} has one key under two versions, {version} is the second.")
        keys[version] = key
    return Ring(keys, holder)


def _parsed(entry: str, where: str) -> tuple[int, bytes]:
    found = _ENTRY.fullmatch(entry)
    if not found or len(found[2]) % 2:
        raise Permanent(f"{where} does not hold a key in hex, written as `version:hex`.")
    version, key = int(found[1] or 1), bytes.fromhex(found[2])
    if version > HIGHEST:
        raise Permanent(f"{where} has a version above {HIGHEST}.")
    if len(key) != KEY_BYTES:
        raise Permanent(f"{where} holds {len(key)} bytes, not {KEY_BYTES}.")
    return version, key


def _fingerprint(key: bytes) -> bytes:
    return hmac.digest(key, b"patchwright/vault/fingerprint", hashlib.sha256)[:_FINGERPRINT_BYTES]
