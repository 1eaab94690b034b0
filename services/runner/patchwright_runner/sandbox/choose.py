"""Picks the backend that this machine can run."""

from __future__ import annotations

from collections.abc import Sequence

from patchwright_common.errors import PatchwrightError
from patchwright_runner.sandbox.protocol import Backend


class NoSandbox(PatchwrightError):
    """No backend works here: the runner must not start. The text says what to install."""


async def choose(wanted: str, backends: Sequence[Backend]) -> Backend:
    """The backend named `wanted`, or with "auto" the first one that works, in the given order."""
    candidates = [backend for backend in backends if wanted in ("auto", backend.name)]
    if not candidates:
        known = ", ".join(["auto", *(backend.name for backend in backends)])
        raise NoSandbox(f"There is no sandbox called {wanted!r}: choose one of {known}.")
    reasons = []
    for backend in candidates:
        availability = await backend.available()
        if availability.ok:
            return backend
        reasons.append(f"{backend.name}: {availability.detail}")
    raise NoSandbox(
        f"No sandbox works on this machine ({'; '.join(reasons)}). "
        "Install bubblewrap, or Docker and its image (`just image`)."
    )
