"""The search itself: what it finds a secret in, so that finding nothing means something."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .needles import Canary, Search

TOKEN = b"ghs_c0ffee7a11ab1e5ca1ab1edecadefacade42"
KEY = bytes(range(1, 256, 8))
PEM = b"-----BEGIN X-----\nMIIEpAIBAAKCAQEAx+/3\n4Vb9Qw7e1Zp0k+sT/aBcDeFg==\n-----END X-----\n"
SECRETS = [Canary("token", TOKEN), Canary("key", KEY), Canary("pem", PEM)]

DISGUISES: dict[str, Callable[[bytes], bytes]] = {
    "as it is": bytes,
    "hex": lambda secret: secret.hex().encode(),
    "hex in capitals": lambda secret: secret.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 of a header with it": lambda secret: base64.b64encode(b"x-access-token:" + secret),
    "base64 in the middle": lambda secret: base64.b64encode(b"12" + secret + b"3"),
    "URL-encoded": lambda secret: quote(secret, safe="").encode(),
    "a URL's password": lambda secret: b"https://x:" + quote(secret, safe="").encode() + b"@h/",
    "JSON": lambda secret: json.dumps({"a": secret.decode("latin-1")}).encode(),
    "its first half": lambda secret: secret[: len(secret) // 2],
    "its second half": lambda secret: secret[len(secret) // 2 :],
}


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret.name)
@pytest.mark.parametrize("disguise", DISGUISES)
def test_disguised_secret_is_found(secret: Canary, disguise: str) -> None:
    if disguise == "JSON" and secret.name == "key":
        return  # a random byte string is no text: it travels in hex or base64
    found = Search(SECRETS).find(b"before " + DISGUISES[disguise](secret.value) + b" after")

    assert found == {secret.name}


@given(before=st.binary(max_size=40), after=st.binary(max_size=40))
def test_secret_is_found_wherever_it_begins(before: bytes, after: bytes) -> None:
    search = Search(SECRETS)

    assert search.find(before + TOKEN + after) == {"token"}
    assert search.find(base64.b64encode(before + TOKEN + after)) == {"token"}


@given(st.binary(min_size=32, max_size=32))
def test_any_key_is_found_in_base64_of_what_holds_it(key: bytes) -> None:
    search = Search([Canary("any", key)])
    for filler in (b"", b"1", b"12"):
        assert search.find(base64.b64encode(filler + key + b"tail")) == {"any"}


def test_part_of_a_secret_gives_away_the_whole() -> None:
    secret = Canary("app", PEM, parts=(KEY,))

    assert Search([secret]).find(b"..." + KEY[:16] + b"...") == {"app"}


@pytest.mark.parametrize(
    "innocent",
    [b"", b"ghs_", TOKEN[:12], b"\0" * 4096, gzip.compress(TOKEN, mtime=0)],
    ids=["nothing", "a prefix", "a part", "zeros", "compressed"],
)
def test_innocent_bytes_are_no_finding(innocent: bytes) -> None:
    assert Search(SECRETS).find(innocent) == set()
