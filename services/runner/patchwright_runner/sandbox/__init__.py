"""The box that the agent works in: one protocol, two backends, one program inside."""

from __future__ import annotations

from patchwright_runner.sandbox.protocol import (
    AGENT_ID,
    HOME,
    WORKSPACE,
    Availability,
    Backend,
    BoxLost,
    BoxSpec,
    Entry,
    Limits,
    Result,
    Sandbox,
    ToolError,
)

__all__ = [
    "AGENT_ID",
    "HOME",
    "WORKSPACE",
    "Availability",
    "Backend",
    "BoxLost",
    "BoxSpec",
    "Entry",
    "Limits",
    "Result",
    "Sandbox",
    "ToolError",
]
