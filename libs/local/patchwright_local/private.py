"""What is for its owner alone: files, and variables that only the vault may see."""

from __future__ import annotations

import os
from pathlib import Path

_SECRET = (
    "ANTHROPIC_API_KEY",
    "PATCHWRIGHT_GITHUB_APP_ID",
    "PATCHWRIGHT_GITHUB_PRIVATE_KEY",
    "PATCHWRIGHT_VAULT_",
    "PATCHWRIGHT_WEBHOOK_SECRET",
)


def is_secret(variable: str) -> bool:
    """Whether an environment variable is for the vault's process and no other."""
    return variable.startswith(_SECRET)


def write_private(path: Path, text: str) -> None:
    """Mode 0600 from the first byte on, also where there is a file already."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
