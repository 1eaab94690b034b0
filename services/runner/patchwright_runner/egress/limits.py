"""What the way out may be used for."""

from __future__ import annotations

from dataclasses import dataclass

MEGABYTE = 1000**2


@dataclass(frozen=True, slots=True)
class EgressLimits:
    """Bounds of one job's way out. Times are in seconds, sizes in bytes."""

    up_bytes: int = 10 * MEGABYTE
    """All that leaves, handshakes and requests included. Small, because whoever takes packages
    from a registry can also upload to it."""
    down_bytes: int = 4000 * MEGABYTE
    connections: int = 64
    """At once, for each of the two purposes."""
    hosts: int = 100
    """That are allowed and contacted, and as many refused ones that are named in the audit."""
    head_bytes: int = 16 * 1024
    """Of a request or a response."""
    opening_seconds: float = 10.0
    """For a request to be there, and then for the start of TLS."""
    connect_seconds: float = 10.0
    """For name and connection together, and for the audit to be stored."""
    idle_seconds: float = 60.0
    connection_seconds: float = 1800.0
    """For one connection in all."""
