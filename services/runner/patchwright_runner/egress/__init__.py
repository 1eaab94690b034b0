"""The way out of the box: an HTTP proxy on a socket of the runner's, for allowed hosts alone.

What it promises: a connection is made only to a host on the list, only to an address that was
checked, only after that was recorded, and carries only TLS that names that host (or plain
HTTP where the list says so).

What it cannot: TLS is not opened, so what is said inside is not seen. Where a server holds
several hosts and goes by the request inside TLS rather than by the name outside (domain
fronting), an allowed one leads to the others. So does a server that asks for a second hello and
goes by the name in that one: only the first is read. Hellos that hide their name (ECH) are
refused. Whoever can upload to an allowed host can carry something out: `up_bytes` bounds how
much. An allowed `*.example.com` lets the names themselves tell something to whoever answers for
that domain.
"""

from __future__ import annotations

from patchwright_runner.egress.allowlist import Allowlist, EntryError, Pattern
from patchwright_runner.egress.announcement import announcement
from patchwright_runner.egress.environment import proxied
from patchwright_runner.egress.hosts import HostError
from patchwright_runner.egress.ledger import Ledger
from patchwright_runner.egress.limits import EgressLimits
from patchwright_runner.egress.proxy import Egress
from patchwright_runner.egress.reports import Allowed, Ended, Purpose, Refused, Report

__all__ = [
    "Allowed",
    "Allowlist",
    "Egress",
    "EgressLimits",
    "Ended",
    "EntryError",
    "HostError",
    "Ledger",
    "Pattern",
    "Purpose",
    "Refused",
    "Report",
    "announcement",
    "proxied",
]
