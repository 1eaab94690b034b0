"""Addresses, shaped like GitHub Enterprise Server: pages at the root, REST below /api/v3."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Urls:
    """`base` is what the outside calls this server, without a slash at the end."""

    base: str

    def api(self, path: str) -> str:
        return f"{self.base}/api/v3{path}"

    def html(self, path: str) -> str:
        return f"{self.base}{path}"

    @property
    def host(self) -> str:
        return self.base.partition("://")[2]
