"""What only its receiver can read: HPKE (RFC 9180), base mode, one message a key.

X25519, HKDF-SHA256 and AES-256-GCM. Every answer of the vault goes to a key that its
asker made for that one request, so whoever records the whole bus learns nothing, and
neither does one who steals a service's long-lived key later. The context (who asks,
for what, for which job, which request) is bound in: an answer cannot be passed off as
the answer to something else.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

KEY_BYTES = 32
"""Of a public key on the wire."""
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class UnreadableError(Exception):
    """Not sealed to this key, not for this context, or changed on the way."""


class Keypair:
    """A private key and its public half, as bytes."""

    def __init__(self, private: bytes | None = None) -> None:
        self._private = (
            X25519PrivateKey.generate()
            if private is None
            else X25519PrivateKey.from_private_bytes(private)
        )
        self.public = self._private.public_key().public_bytes_raw()

    def private_bytes(self) -> bytes:
        """The private half, for whoever has to keep it."""
        return self._private.private_bytes_raw()

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Raises `UnreadableError`."""
        try:
            return _SUITE.decrypt(sealed, self._private, context)
        except (InvalidTag, ValueError) as error:
            raise UnreadableError from error


def seal(plaintext: bytes, public: bytes, context: bytes) -> bytes:
    """Readable by the holder of `public`'s private half alone. Raises `UnreadableError`."""
    try:
        return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public), context)
    except (InvalidTag, ValueError) as error:
        raise UnreadableError from error


def context(*parts: str) -> bytes:
    """Parts of a context, in a form in which no two lists of parts look the same."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
