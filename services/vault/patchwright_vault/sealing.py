"""Encryption at rest: AES-256-GCM, with the record's name as associated data.

Format of a record: one version byte (1), a 12-byte random nonce, the ciphertext with
its 16-byte tag. A record moved to another name does not decrypt.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from patchwright_common.errors import Permanent

KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 12


class Sealer:
    """Seals and opens records under one key-encryption key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise Permanent(f"The vault's key has {len(key)} bytes, not {KEY_BYTES}.")
        self._cipher = AESGCM(key)
        self._mark_key = hmac.digest(key, b"patchwright/mark/1", hashlib.sha256)

    def seal(self, name: str, secret: bytes) -> bytes:
        """Encrypt `secret` so that it opens under this `name` alone."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret, _associated(name))

    def open(self, name: str, record: bytes) -> bytes:
        """Decrypt. Raises `Permanent` for a wrong key or a record that was changed or moved."""
        if record[:1] != _VERSION or len(record) < 1 + _NONCE_BYTES + 16:
            raise Permanent(f"The vault's record {name!r} is damaged.")
        nonce, ciphertext = record[1 : 1 + _NONCE_BYTES], record[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, ciphertext, _associated(name))
        except InvalidTag:
            raise Permanent(
                f"The vault's record {name!r} cannot be opened: it was changed, or the key is "
                "not the one that sealed it. Nothing was overwritten."
            ) from None

    def mark(self, job_id: str) -> str:
        """HMAC-SHA256 of a job id in hex, cut to 128 bits: the publisher's comment marker."""
        return hmac.digest(self._mark_key, job_id.encode(), hashlib.sha256)[:16].hex()


def load_or_make_key(path: Path) -> bytes:
    """The 32-byte key in the file, as hex; made with mode 0600 when there is none.

    Raises `Permanent` for a file that others may read, that cannot be read at all, or
    that holds something else.
    """
    try:
        try:
            text = _read_private(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_new(path, secrets.token_bytes(KEY_BYTES).hex())
            text = _read_private(path)
        key = bytes.fromhex(text.strip())
    except OSError as error:
        raise Permanent(f"The vault's key file {path} cannot be used: {error.strerror}.") from None
    except ValueError:
        raise Permanent(f"The vault's key file {path} does not hold a key in hex.") from None
    if len(key) != KEY_BYTES:
        raise Permanent(f"The vault's key file {path} holds {len(key)} bytes, not {KEY_BYTES}.")
    return key


def _read_private(path: Path) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY)) as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise Permanent(f"The vault's key file is open to others: chmod 600 {path}")
        return file.read()


def _write_new(path: Path, text: str) -> None:
    """Appears whole or not at all, so that two vaults that start at once agree on one key.

    The temporary name is random: in containers every vault has the same process id.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink()


def _sync_folder(path: Path) -> None:
    """What is sealed next must not outlive its key's name in the folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _associated(name: str) -> bytes:
    return f"patchwright/vault/1/{name}".encode()
