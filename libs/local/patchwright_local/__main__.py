"""`python -m patchwright_local` is the command `patchwright`."""

from __future__ import annotations

from patchwright_local.cli import app

app()
