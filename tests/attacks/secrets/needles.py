"""What a secret looks like to whoever meets a copy of it, and a fast search for all of them.

Half a secret counts as a leak, so only halves are searched: whatever holds the whole holds
both. Each half is looked for as it is, in hex, in base64 (at each of the three places where
a group of three bytes may begin), URL-encoded and escaped as JSON does.
"""

from __future__ import annotations

import base64
import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes

SHORTEST = 15
"""Bytes of a needle: what is longer holds a whole aligned word wherever it lies."""
_WORD = 8


@dataclass(frozen=True)
class Canary:
    """One secret by name. `parts` are further forms of it, such as the key inside of a PEM."""

    name: str
    value: bytes = field(repr=False)
    parts: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        """As people paste it: a binary key in hex."""
        return self.value.decode() if self.value.isascii() else self.value.hex()

    def needles(self) -> Iterator[bytes]:
        """Everything that gives it away."""
        for whole in (self.value, *self.parts):
            middle = len(whole) // 2
            for half in (whole[:middle], whole[middle:]):
                yield from filter(_long_enough, encodings(half))


def encodings(text: bytes) -> set[bytes]:
    """The forms in which logs, URLs, headers, JSON and files hold it."""
    found = {text, text.hex().encode(), text.hex().upper().encode(), _url(text), _url(text).lower()}
    try:
        escaped = json.dumps(text.decode())[1:-1].encode()
    except UnicodeDecodeError:
        escaped = text
    found |= {escaped, escaped.replace(b"/", b"\\/")}
    for place in range(3):
        found |= {_base64(text, place, b"+/"), _base64(text, place, b"-_")}
    return found


def _url(text: bytes) -> bytes:
    return quote_from_bytes(text, safe="").encode()


def _base64(text: bytes, place: int, alphabet: bytes) -> bytes:
    """Without the characters at both ends that hold bits of its neighbours too."""
    encoded = base64.b64encode(bytes(place) + text, altchars=alphabet).rstrip(b"=")
    bits = 8 * (place + len(text))
    return encoded[-(-8 * place // 6) : bits // 6]


def _long_enough(needle: bytes) -> bool:
    return len(needle) >= SHORTEST


class Search:
    """All needles at once, in one pass over the words of the data.

    Any 15 bytes hold 8 that begin at a multiple of 8, so that only words have to be compared.
    """

    def __init__(self, canaries: Iterable[Canary]) -> None:
        self._owners: dict[bytes, str] = {}
        self._words: defaultdict[int, set[bytes]] = defaultdict(set)
        for canary in canaries:
            for needle in canary.needles():
                self._owners.setdefault(needle, canary.name)
                for start in range(_WORD):
                    word = needle[start : start + _WORD]
                    if len(word) == _WORD:
                        self._words[int.from_bytes(word, "little")].add(needle)
        self._known = frozenset(self._words)

    def find(self, data: bytes) -> set[str]:
        """The names of the secrets of which at least half is in `data`."""
        words = array("Q", data + bytes(-len(data) % _WORD))
        words_of_interest = self._known.intersection(words)
        suspects = {needle for word in words_of_interest for needle in self._words[word]}
        return {self._owners[needle] for needle in suspects if needle in data}
