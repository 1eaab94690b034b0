"""A job's ways out of its box: what the repository asks for, as far as the operator allows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from patchwright_runner.egress import Allowlist, Egress, Ledger, Pattern, Purpose, proxied
from patchwright_runner.sandbox.passage import Way

PORT = 41708
"""Of the proxy, on the box's loopback."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What the operator allows, for each purpose, and which of it may be in a private network."""

    setup: Allowlist = Allowlist()  # noqa: RUF009 - frozen
    agent: Allowlist = Allowlist()  # noqa: RUF009 - frozen
    private: tuple[Pattern, ...] = ()


@dataclass(frozen=True, slots=True)
class WaysOut:
    """One job's; the ledger tells of every host."""

    permission: Permission
    ledger: Ledger

    @asynccontextmanager
    async def open(self, purpose: Purpose, asked: Sequence[str]) -> AsyncIterator[Way]:
        """The way, for as long as the block lasts; none where nothing is asked or allowed."""
        permission = self.permission
        most = permission.setup if purpose == "set-up" else permission.agent
        allowed = Allowlist.parse(asked).within(most)
        if not allowed.entries:
            yield Way()
            return
        egress = Egress(allowed, self.ledger, purpose=purpose, private=permission.private)
        async with egress.serving() as socket:
            yield Way(proxied(PORT), {PORT: socket})
