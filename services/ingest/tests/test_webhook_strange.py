"""Whatever is sent to any of ingest's paths: an answer with a status that is ours to give."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from harness.fuzz import strange
from patchwright_common.bus import Bus
from patchwright_ingest.app import Ingest

from .webhooks import SECRET, UNLIMITED, headers, stored


class Known:
    """The webhook's secret."""

    def known(self) -> list[SecretStr]:
        return [SecretStr(SECRET)]

    async def doubt(self) -> bool:
        return False


@pytest.mark.parametrize("seed", range(4))
async def test_strange_request_has_an_answer_and_stores_nothing(bus: Bus, seed: int) -> None:
    app = Ingest(bus, Known(), limits=UNLIMITED).app()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://ingest"
    ) as client:
        for asked in strange(app, seed, 250):
            answer = await client.request(
                asked.method, asked.url, headers=asked.headers, content=asked.body
            )
            assert answer.status_code < 500, asked
    assert await stored(bus) == []


@pytest.mark.parametrize("seed", range(4))
async def test_strange_body_that_is_signed_has_an_answer_too(bus: Bus, seed: int) -> None:
    app = Ingest(bus, Known(), limits=UNLIMITED).app()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://ingest"
    ) as client:
        for asked in strange(app, seed, 100):
            answer = await client.post(
                "/webhooks/github", headers=headers(asked.body), content=asked.body
            )
            assert answer.status_code in (202, 400), asked
