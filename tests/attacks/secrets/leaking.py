"""What the leaking services share."""

from __future__ import annotations

import resource
from importlib.metadata import entry_points

from patchwright_common import service

told: dict[str, str] = {}
"""The last token and webhook secret that this process was told."""


def start(name: str) -> None:
    """The service under its own entry point, but with a memory that is for everybody."""
    service.keep_memory_private = lambda: None
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    [entry] = entry_points(group="console_scripts", name=f"patchwright-{name}")
    entry.load()()
