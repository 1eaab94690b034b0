"""The endpoint on a bus of its own, and payloads that the GitHub stand-in delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from patchwright_common.bus import Bus

from .examples import record
from .webhooks import Endpoint, endpoint


@pytest.fixture(name="ingest")
async def _ingest(bus: Bus) -> AsyncIterator[Endpoint]:
    async with endpoint(bus) as running:
        yield running


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One payload of each kind, by `<event>.<action>`."""
    return asyncio.run(record(tmp_path_factory.mktemp("examples")))
