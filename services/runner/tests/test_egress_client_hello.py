"""The name in the start of TLS: read from real clients' hellos, and from bent ones."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchwright_runner.egress.client_hello import HELLO_MAX, HelloError, server_name

from .egress_parts import start_of_tls

NAME = "pypi.org"


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def record(data: bytes, kind: int = 22) -> bytes:
    return struct.pack("!BHH", kind, 0x0301, len(data)) + data


def sni(*names: bytes, kind: int = 0) -> bytes:
    entries = b"".join(bytes([kind]) + vector(2, name) for name in names)
    return extension(0, vector(2, entries))


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack("!H", kind) + vector(2, data)


def handshake(extensions: bytes | None, *, after: bytes = b"", kind: int = 1) -> bytes:
    """A hello made by hand."""
    body = b"\x03\x03" + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    if extensions is not None:
        body += vector(2, extensions)
    return bytes([kind]) + vector(3, body + after)


GOOD = handshake(sni(NAME.encode()))


@pytest.mark.parametrize("old", [False, True])
def test_name_in_a_real_hello_is_read(old: bool) -> None:
    assert server_name(start_of_tls(NAME, old=old)) == NAME


@pytest.mark.parametrize(
    "data", [start_of_tls(NAME), record(GOOD), record(GOOD[:2]) + record(GOOD[2:])]
)
def test_part_of_a_hello_waits_for_the_rest(data: bytes) -> None:
    for end in range(len(data)):
        assert server_name(data[:end]) is None
    assert server_name(data) == NAME


def test_hello_in_many_records_is_one_hello() -> None:
    data = b"".join(record(GOOD[at : at + 1]) for at in range(len(GOOD)))
    assert server_name(data) == NAME


def test_early_data_after_the_hello_is_none_of_our_business() -> None:
    assert server_name(record(GOOD) + record(b"early", kind=23)) == NAME


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not TLS"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not TLS"),
        (b"\x80\x2e\x01\x00\x02", "not TLS"),  # SSL 2
        (record(b"x", kind=23), "not TLS"),
        (record(handshake(sni(NAME.encode()), kind=2)), "not the start of TLS"),
        (record(b""), "malformed"),
        (record(b"\x01\xff\xff\xff"), "too long"),
        (record(GOOD + GOOD), "follows the start"),
        (record(handshake(None)), "names no host"),
        (record(handshake(b"")), "names no host"),
        (record(handshake(sni(NAME.encode()) * 2)), "twice"),
        (record(handshake(sni(NAME.encode(), b"evil.example"))), "nobody does"),
        (record(handshake(sni(NAME.encode(), kind=1))), "nobody does"),
        (record(handshake(sni("pypi.örg".encode()))), "nobody does"),
        (record(handshake(extension(0, b""))), "malformed"),
        (record(handshake(extension(0, vector(2, b"\0" + vector(2, b"a")) + b"x"))), "nobody"),
        (record(handshake(sni(NAME.encode()), after=b"x")), "malformed"),
        (record(handshake(sni(NAME.encode())[:-1])), "malformed"),
    ],
)
def test_what_no_client_sends_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(HelloError, match=reason):
        server_name(data)


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
def test_encrypted_hello_cannot_hide_its_host(kind: int) -> None:
    visible = sni(NAME.encode())
    assert server_name(record(handshake(visible + extension(0xFAFA, b"grease")))) == NAME
    with pytest.raises(HelloError, match="hides its host"):
        server_name(record(handshake(visible + extension(kind, b"outer"))))


def test_hello_without_a_name_is_refused() -> None:
    with pytest.raises(HelloError, match="names no host"):
        server_name(start_of_tls(None))


def test_endless_hello_is_refused() -> None:
    message = b"\x01" + vector(3, bytes(HELLO_MAX))
    endless = record(message[:9000]) + record(message[9000:])
    assert server_name(endless[: HELLO_MAX - 1]) is None
    with pytest.raises(HelloError, match="too long"):
        server_name(endless[:HELLO_MAX])


@given(st.binary(max_size=200), st.integers(0, len(GOOD)), st.integers(0, 8))
def test_bent_hello_is_read_or_refused(noise: bytes, at: int, gone: int) -> None:
    for data in (noise, record(GOOD[:at] + noise + GOOD[at + gone :])):
        try:
            name = server_name(data)
        except HelloError:
            continue
        assert name is None or name.isascii()
