"""Which hosts may be reached: entries, their meaning, and what two lists allow together.

An entry is `example.com` (that name, port 443, TLS), `*.example.com` (its subdomains, not
itself), `example.com:8443` (another port, TLS as well), `http://example.com` (plain HTTP, and
only that) or the name of a preset.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from patchwright_runner.egress.hosts import HostError, authority, normalised, shown
from patchwright_runner.egress.presets import PRESETS

Scheme = Literal["https", "http"]
PORTS: dict[Scheme, int] = {"https": 443, "http": 80}
_SHOWN_ENTRIES = 20


class EntryError(ValueError):
    """An entry that means nothing; the text is a sentence for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a program in the sandbox wants to go. The host is normalised."""

    scheme: Scheme
    host: str
    port: int

    def __str__(self) -> str:
        return self.host if self.port == PORTS[self.scheme] else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One name, or all names below one."""

    host: str
    subdomains: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `example.com` or `*.example.com`. Raises `HostError`."""
        host = normalised(text.removeprefix("*."))
        if text.startswith("*.") and "." not in host:
            raise HostError("A whole top-level domain is too much.")
        return cls(host, text.startswith("*."))

    def covers(self, host: str) -> bool:
        """Whether the normalised `host` is meant."""
        return host.endswith(f".{self.host}") if self.subdomains else host == self.host

    def narrower(self, other: Pattern) -> Pattern | None:
        """What both cover, which is one of the two, or nothing."""
        for one, two in ((self, other), (other, self)):
            if one == two or (two.subdomains and two.covers(one.host)):
                return one
        return None

    def __str__(self) -> str:
        return f"*.{self.host}" if self.subdomains else self.host


@dataclass(frozen=True, slots=True)
class Entry:
    """A pattern, how to speak to it, and on which port."""

    pattern: Pattern
    scheme: Scheme = "https"
    port: int = PORTS["https"]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `EntryError`."""
        scheme: Scheme = "http" if text.startswith("http://") else "https"
        rest = text.removeprefix(f"{scheme}://")
        star = "*." if rest.startswith("*.") else ""
        try:
            host, port = authority(rest.removeprefix(star))
            return cls(Pattern.parse(star + host), scheme, port or PORTS[scheme])
        except HostError as error:
            raise EntryError(
                f"`{shown(text)}` cannot be allowed. {error} An entry looks like example.com, "
                f"*.example.com, example.com:8443 or http://example.com, or is one of: "
                f"{', '.join(PRESETS)}."
            ) from None

    def allows(self, target: Target) -> bool:
        """Whether the connection may be made, as far as its name says."""
        same = (target.scheme, target.port) == (self.scheme, self.port)
        return same and self.pattern.covers(target.host)

    def narrower(self, other: Entry) -> Entry | None:
        """What both allow."""
        if (self.scheme, self.port) != (other.scheme, other.port):
            return None
        both = self.pattern.narrower(other.pattern)
        return None if both is None else Entry(both, self.scheme, self.port)

    def __str__(self) -> str:
        scheme = "http://" if self.scheme == "http" else ""
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{scheme}{self.pattern}{port}"


@dataclass(frozen=True, slots=True)
class Allowlist:
    """Entries, of which one has to allow a target."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """From what a person wrote. Raises `EntryError` for the first that means nothing."""
        spelled = (entry for text in texts for entry in PRESETS.get(text, (text,)))
        return cls(tuple(dict.fromkeys(Entry.parse(text) for text in spelled)))

    def allows(self, target: Target) -> bool:
        """Whether one of the entries does."""
        return any(entry.allows(target) for entry in self.entries)

    def within(self, other: Allowlist) -> Allowlist:
        """What both allow: the repository asks, the operator permits."""
        both = (one.narrower(two) for one in self.entries for two in other.entries)
        return Allowlist(tuple(dict.fromkeys(entry for entry in both if entry)))

    def __str__(self) -> str:
        names = [str(entry) for entry in self.entries[:_SHOWN_ENTRIES]]
        more = len(self.entries) - len(names)
        return ", ".join(names + [f"{more} more"] * (more > 0)) or "none"
