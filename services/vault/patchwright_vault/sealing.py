"""Encryption at rest: a data key for each write, wrapped by a key-encryption key.

Format 2 of a record, numbers big-endian: the format (1 byte), the record's version (8),
the key's version (4), when the secret was set (8, milliseconds since the epoch), the
length of the wrapped data key (2), the wrapped data key, a 12-byte random nonce, the
ciphertext (AES-256-GCM) with its 16-byte tag. The name, the installation that it belongs
to and everything before the nonce are associated data; name, installation and version
are so for the wrapped data key too. So no bit can change, and no record can pass for
another one or for another version.

Format 1, of the first releases: the format, a nonce, the ciphertext under the
key-encryption key itself with the name as associated data. It is read, not written.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from patchwright_common.errors import Permanent
from patchwright_vault.keys.protocol import KEY_BYTES, ChangedError, Keys, UnwrapError

INSTALLATION = "installation."
"""How the names of an installation's records begin; its id follows."""
NO_INSTALLATION = "none"
OLD_FORMAT = 1
FORMAT = 2
_HEADER = struct.Struct(">BQIQH")
_NONCE_BYTES = 12
_TAG_BYTES = 16


@dataclass(frozen=True)
class RecordFacts:
    """What may be told of a record; `describe` has not opened it.

    `changed_at` in seconds since the epoch is when the secret was set, 0 where the record
    does not say; a rotation does not change it. Version 0 is a record of format 1.
    """

    name: str
    version: int
    key_version: int
    changed_at: float


@dataclass(frozen=True)
class Opened:
    """A secret with what is told of its record."""

    secret: bytes = field(repr=False)
    facts: RecordFacts
    format: int


@dataclass(frozen=True)
class _Envelope:
    version: int
    key_version: int
    changed_at: int  # milliseconds
    wrapped: bytes
    header: bytes
    sealed: bytes = field(repr=False)


class Sealer:
    """Seals and opens records with a data key of their own, which `keys` wraps.

    Every error of `open` is a `Permanent` that says that nothing was overwritten, except
    for a `Retry` when the keys cannot be reached.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    async def seal(self, name: str, secret: bytes, *, version: int, changed_at: float) -> bytes:
        """Encrypt so that it opens as this version of this name alone."""
        data_key, nonce = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(_NONCE_BYTES)
        key_version, wrapped = await self.keys.wrap(data_key, _context(name, version))
        milliseconds = round(changed_at * 1000)
        header = _HEADER.pack(FORMAT, version, key_version, milliseconds, len(wrapped)) + wrapped
        sealed = AESGCM(data_key).encrypt(nonce, secret, _context(name, version) + header)
        return header + nonce + sealed

    async def open(self, name: str, record: bytes) -> Opened:
        """Decrypt. Raises `Permanent` for a wrong or retired key, or a record that was changed."""
        if _format(name, record) == OLD_FORMAT:
            return Opened(await self._open_old(name, record), old_facts(name), OLD_FORMAT)
        envelope = _parsed(name, record)
        context = _context(name, envelope.version)
        try:
            data_key = await self.keys.unwrap(envelope.key_version, envelope.wrapped, context)
            secret = _decrypted(data_key, envelope.sealed, context + envelope.header)
        except UnwrapError as error:
            raise _refusal(name, error.why) from None
        return Opened(secret, _facts(name, envelope), FORMAT)

    async def _open_old(self, name: str, record: bytes) -> bytes:
        if len(record) < 1 + _NONCE_BYTES + _TAG_BYTES:
            raise _refusal(name, "it is damaged, as its end is missing")
        key = await self.keys.legacy()
        if key is None:
            raise _refusal(name, "it is of format 1, and version 1 of the key is not at hand")
        try:
            return _decrypted(key, record[1:], f"patchwright/vault/1/{name}".encode())
        except ChangedError:
            why = "it was changed, or version 1 of the key is not the one that sealed it"
            raise _refusal(name, why) from None


def facts(name: str, record: bytes) -> RecordFacts:
    """What the record says of itself, unchecked. Raises `Permanent` for one without a form."""
    if _format(name, record) == OLD_FORMAT:
        return old_facts(name)
    return _facts(name, _parsed(name, record))


def is_record(record: bytes) -> bool:
    """Whether it has the form of one; it may not open all the same."""
    try:
        form = _format("", record)
        if form == FORMAT:
            _parsed("", record)
    except Permanent:
        return False
    return form == FORMAT or len(record) >= 1 + _NONCE_BYTES + _TAG_BYTES


def old_facts(name: str) -> RecordFacts:
    """A record of format 1 says nothing of itself; the first key is all that there was."""
    return RecordFacts(name, 0, 1, 0.0)


def installation_of(name: str) -> str:
    """Whose record this is: an installation's id, or `none`."""
    return name.removeprefix(INSTALLATION) if name.startswith(INSTALLATION) else NO_INSTALLATION


def _format(name: str, record: bytes) -> int:
    if not record:
        raise _refusal(name, "it is damaged, as it is empty")
    if record[0] not in (OLD_FORMAT, FORMAT):
        raise _refusal(name, f"its format {record[0]} is not one that this vault knows")
    return record[0]


def _parsed(name: str, record: bytes) -> _Envelope:
    if len(record) < _HEADER.size:
        raise _refusal(name, "it is damaged, as its end is missing")
    _, version, key_version, changed_at, length = _HEADER.unpack_from(record)
    end = _HEADER.size + length
    if len(record) < end + _NONCE_BYTES + _TAG_BYTES:
        raise _refusal(name, "it is damaged, as its end is missing")
    return _Envelope(
        version=version,
        key_version=key_version,
        changed_at=changed_at,
        wrapped=record[_HEADER.size : end],
        header=record[:end],
        sealed=record[end:],
    )


def _facts(name: str, envelope: _Envelope) -> RecordFacts:
    return RecordFacts(name, envelope.version, envelope.key_version, envelope.changed_at / 1000)


def _decrypted(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
    except InvalidTag:
        raise ChangedError from None


def _context(name: str, version: int) -> bytes:
    """With their lengths, so that no two lists of parts read the same."""
    parts = ("patchwright/vault/2", name, installation_of(name), str(version))
    encoded = (part.encode() for part in parts)
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _refusal(name: str, why: str) -> Permanent:
    return Permanent(
        f"The vault's record {name!r} cannot be opened: {why}. Nothing was overwritten."
    )
