"""The local stack with this process as its supervisor, so that a test can stop a service alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness.stack import ONE_PERSON, RunningStack
from patchwright_local import state
from patchwright_local.processes import Supervisor
from patchwright_local.settings import LocalSettings
from patchwright_local.stack import LocalStack, Options

PARTS = ("nats", "ingest", "github", "model", "traces")


@asynccontextmanager
async def stack_inside(
    root: Path, *, sandbox: str = "auto"
) -> AsyncIterator[tuple[Supervisor, RunningStack]]:
    """Stopped whole at the end. The services' logs are in the folder `home` under `root`."""
    folder = state.Folder(root / "home")
    folder.make()
    ports = {f"{part}_port": 0 for part in PARTS}
    settings = LocalSettings.model_validate({"home": folder.root, "sandbox": sandbox, **ports})
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), **ONE_PERSON}
    stack = LocalStack(settings, folder, _silent, environment=environment, options=Options())
    try:
        yield stack.supervisor, RunningStack(await stack.start(), folder)
    finally:
        await stack.supervisor.stop()


def _silent(_name: str, _line: str) -> None:
    """The lines are in the logs."""
