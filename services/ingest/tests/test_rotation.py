"""A rotation of the webhook secret, all of it real: GitHub, the vault, ingest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import nats
import pytest

from patchwright_common.bus import Bus
from patchwright_common.credentials import Vault
from patchwright_common.permissions import inbox
from patchwright_common.requests import SETUP

from .chain import Chain, Place, chain
from .webhooks import ISSUE, headers, signature, stored


@pytest.fixture(name="running")
async def _running(tmp_path: Path) -> AsyncIterator[Chain]:
    async with chain(tmp_path) as made:
        yield made


async def rotated(running: Chain, verb: str) -> None:
    """As the operator's command asks for it."""
    client = await nats.connect(running.nats.url, inbox_prefix=inbox(SETUP).encode())
    try:
        await Vault(Bus(client), SETUP).ask(verb, {"what": "webhook-secret"})
    finally:
        await client.close()


async def status(running: Chain, secret: str) -> int:
    """Of a delivery signed with that secret."""
    given = headers(x_hub_signature_256=signature(ISSUE, secret), x_github_delivery=str(uuid4()))
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"http://127.0.0.1:{running.port}/webhooks/github"
        return (await http.post(url, content=ISSUE, headers=given)).status_code


async def count(running: Chain, place: Place) -> int:
    """Deliveries about new issues there that were taken in."""
    await running.github.settled()
    wanted = f"pw.github.issues.opened.{place.id}"
    return [message.subject for message in await stored(running.bus)].count(wanted)


async def test_no_delivery_is_refused_while_the_secret_is_rotated(running: Chain) -> None:
    old = running.app.webhook_secret
    place = await running.repository()
    opened = 0
    rotating = asyncio.create_task(rotated(running, "rotate"))
    while not rotating.done():
        await running.github.open_issue(place.name, "Ring", token=running.tokens["write"])
        opened += 1
        await asyncio.sleep(0.2)
    await rotating
    assert opened > 3
    assert await count(running, place) == opened
    # The former one verifies on, for what GitHub signed before and sends again.
    assert await status(running, old) == 202
    await rotated(running, "retire")
    async with asyncio.timeout(10):
        while await status(running, old) != 401:
            await asyncio.sleep(0.05)
    await running.github.open_issue(place.name, "Ring", token=running.tokens["write"])
    assert await count(running, place) == opened + 1
