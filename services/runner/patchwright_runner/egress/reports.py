"""What the audit tells of a job's way out, before it is an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Purpose = Literal["set-up", "agent"]
"""Which part of the job reaches out."""


@dataclass(slots=True)
class Contact:
    """An allowed host and what went to and fro, in bytes."""

    purpose: Purpose
    host: str
    port: int
    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(slots=True)
class Refused:
    """A host that was refused, or that could not be read (then it is what was sent)."""

    purpose: Purpose
    host: str
    port: int
    """0 where none was understood."""
    reason: str
    """Of the first time."""
    times: int = 1


@dataclass(frozen=True, slots=True)
class Allowed:
    """A host was allowed for the first time; nothing was sent to it yet."""

    purpose: Purpose
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The job is over. `unlisted` counts refusals of hosts beyond those that are named."""

    allowed: tuple[Contact, ...]
    refused: tuple[Refused, ...]
    unlisted: int


Report = Allowed | Refused | Ended
