"""Fixtures for every suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.nats import NatsServer, bus, nats_server
from patchwright_common.bus import Bus


@pytest.fixture(name="nats")
async def _nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A real server of the test's own."""
    async with nats_server(tmp_path / "nats") as server:
        yield server


@pytest.fixture(name="bus")
async def _bus(nats: NatsServer) -> AsyncIterator[Bus]:
    """A connection to it."""
    async with bus(nats.url) as connection:
        yield connection
