"""Where the parts of the local stack listen, checked before anything starts."""

from __future__ import annotations

import contextlib
import random
import socket
from dataclasses import dataclass

from patchwright_local.processes import StartError
from patchwright_local.settings import LocalSettings

HOST = "127.0.0.1"
UNASSIGNED = range(20_000, 32_000)
"""Free ports are taken from below those that the kernel gives to outgoing connections."""


@dataclass(frozen=True)
class Ports:
    """Where everything listens on loopback."""

    nats: int
    ingest: int
    github: int
    model: int
    traces: int
    otlp: int
    """Where spans go: the tracing UI's own port, unless that is Jaeger."""

    @classmethod
    def of(cls, settings: LocalSettings, *, jaeger: bool) -> Ports:
        """The wanted ports, checked to be free. Raises `StartError` naming what to set."""
        wanted = {
            "nats": settings.nats_port,
            "ingest": settings.ingest_port,
            "github": settings.github_port,
            "model": settings.model_port,
            "traces": settings.traces_port,
        }
        if jaeger:
            wanted["otlp"] = settings.otlp_port
        with contextlib.ExitStack() as held:
            # Held together, or two of them could be given the same free port.
            free = {
                name: _bound(held.enter_context(socket.socket()), name, port)
                for name, port in wanted.items()
            }
        return cls(**{"otlp": free["traces"], **free})


def free_ports(count: int) -> list[int]:
    """So many more that nobody listens on. Raises `StartError`."""
    with contextlib.ExitStack() as held:
        return [_bound(held.enter_context(socket.socket()), "nats", 0) for _ in range(count)]


def _bound(probe: socket.socket, name: str, port: int) -> int:
    """Bind to `port`, or to any free one for 0, and return which it was."""
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for candidate in [port] if port else random.sample(UNASSIGNED, k=50):
        try:
            probe.bind((HOST, candidate))
            probe.listen()
        except OSError:
            continue
        return candidate
    variable = f"PATCHWRIGHT_{name.upper()}_PORT"
    raise StartError(
        f"Port {port} ({name}) is taken: stop what listens there, or choose another with "
        f"{variable}=…, where 0 takes a free one."
    )
