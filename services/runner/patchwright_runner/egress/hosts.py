"""Names of hosts in one spelling, so that comparing two of them is comparing two strings."""

from __future__ import annotations

import re
import string

import idna

NAME_MAX = 253
"""Characters of a name in DNS."""
SHOWN_MAX = 100
"""Characters of something that is no name, in logs and events."""

_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
# Not `str.lower`, which also makes other letters (U+212A, the sign for kelvin) into ASCII.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class HostError(ValueError):
    """No name of a host; the text is a sentence about it that does not quote it."""


def normalised(text: str) -> str:
    """The name in lower case, in A-labels, without its trailing dot. Raises `HostError`.

    IDNA 2008 without the mappings for browsers: what would have to be mapped is refused.
    """
    name = text.translate(_LOWER).removesuffix(".")
    if not name or len(name) > NAME_MAX:
        raise HostError("It is empty or too long to be the name of a host.")
    if set(name) & set("[]:%"):
        raise HostError("Addresses are never allowed, only names.")
    try:
        name = idna.encode(name, strict=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise HostError("It is not the name of a host.") from None
    if name.endswith(".") or len(name) > NAME_MAX:
        raise HostError("It is not the name of a host.")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        # No top-level domain is a number; but `inet_aton`, and with it every resolver, reads
        # 127.1, 2130706433 and 0x7f.0.0.01 as addresses.
        raise HostError("Addresses are never allowed, only names.")
    return name


def authority(text: str) -> tuple[str, int | None]:
    """The normalised host and the port of `host[:port]`. Raises `HostError`."""
    if "@" in text:
        raise HostError("A user in front of the host is not allowed.")
    if "[" in text or text.count(":") > 1:
        raise HostError("Addresses are never allowed, only names.")
    host, colon, port = text.partition(":")
    if colon and not (_PORT.fullmatch(port) and int(port) < 2**16):
        raise HostError("Its port is not a number from 1 to 65535.")
    return normalised(host), int(port) if colon else None


def shown(text: str) -> str:
    """For logs and events: printable, bounded, whatever a program in the sandbox sent."""
    clean = "".join(letter if " " <= letter <= "~" else "?" for letter in text[: SHOWN_MAX + 1])
    return clean if len(clean) <= SHOWN_MAX else f"{clean[: SHOWN_MAX - 3]}..."
