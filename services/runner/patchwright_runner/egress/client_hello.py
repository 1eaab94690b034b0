"""The start of TLS, read as far as needed to see for which host it is (RFC 8446, RFC 6066).

Strict: what no usual client sends is refused, because what we read otherwise than the server
does is a way around us. A hello with `encrypted_client_hello` is refused too, since then the
name that counts cannot be read, even where it is only there as grease.
"""

from __future__ import annotations

from dataclasses import dataclass

HELLO_MAX = 16 * 1024
"""Bytes. Hellos with post-quantum keys have about 2,000."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_MALFORMED = "The start of TLS is malformed."
_ENCRYPTED = {0xFE0D: "encrypted_client_hello", 0xFFCE: "encrypted_server_name"}

UNRECOGNIZED_NAME = bytes((21, 3, 3, 0, 2, 2, 112))
"""The alert by which a server says that the name is not one of its own (RFC 6066)."""


class HelloError(ValueError):
    """Not the start of TLS, or not one that we let through; the text is a sentence."""


class _Short(Exception):
    """More bytes are needed."""


@dataclass(slots=True)
class _Bytes:
    """A cursor. `missing` is raised when the bytes do not suffice."""

    data: bytes
    missing: type[Exception] = HelloError
    at: int = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise self.missing(_MALFORMED)
        self.at, start = end, self.at
        return self.data[start:end]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Bytes:
        """What a length of `size` bytes stands in front of: whole, or it is malformed."""
        return _Bytes(self.take(self.number(size)))

    def more(self) -> bool:
        return self.at < len(self.data)


def server_name(data: bytes) -> str | None:
    """The name in the hello at the start of `data`; None: it is not all there yet.

    As it was sent, so not normalised. Raises `HelloError`.
    """
    try:
        message = _message(_Bytes(data, _Short))
    except _Short:
        if len(data) >= HELLO_MAX:
            raise HelloError("The start of TLS is too long.") from None
        return None
    return _name(_extensions(message))


def _message(records: _Bytes) -> _Bytes:
    """The body of the handshake message, which may lie in several records."""
    found = b""
    while True:
        if records.number(1) != _HANDSHAKE or records.number(1) != 3:
            raise HelloError("What follows CONNECT is not TLS.")
        records.take(1)
        length = records.number(2)
        if not 0 < length <= HELLO_MAX:
            raise HelloError(_MALFORMED)
        if not found and records.more() and records.data[records.at] != _CLIENT_HELLO:
            raise HelloError("What follows CONNECT is not the start of TLS.")
        found += records.take(length)
        if len(found) < 4:
            continue
        size = int.from_bytes(found[1:4], "big")
        if size > HELLO_MAX:
            raise HelloError("The start of TLS is too long.")
        if len(found) > 4 + size:
            raise HelloError("Something follows the start of TLS in its record.")
        if len(found) == 4 + size:
            return _Bytes(found[4:])


def _extensions(message: _Bytes) -> dict[int, _Bytes]:
    message.take(2 + 32)  # version, random
    message.vector(1)  # session
    message.vector(2)  # cipher suites
    message.vector(1)  # compression
    if not message.more():
        return {}  # allowed before TLS 1.3
    extensions, found = message.vector(2), dict[int, _Bytes]()
    while extensions.more():
        kind = extensions.number(2)
        if kind in found:
            raise HelloError("The start of TLS says something twice.")
        found[kind] = extensions.vector(2)
    if message.more():
        raise HelloError(_MALFORMED)
    return found


def _name(extensions: dict[int, _Bytes]) -> str:
    for kind, called in _ENCRYPTED.items():
        if kind in extensions:
            raise HelloError(f"The start of TLS hides its host ({called}).")
    if _SERVER_NAME not in extensions:
        raise HelloError("The start of TLS names no host (SNI).")
    extension = extensions[_SERVER_NAME]
    names = extension.vector(2)
    kind, name = names.number(1), names.vector(2).data
    if kind != _HOST_NAME or names.more() or extension.more() or not name.isascii():
        raise HelloError("The start of TLS names its host in a way that nobody does.")
    return name.decode("ascii")
