"""Whatever is sent to the viewer: an answer, and never its own failure."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from harness.fuzz import strange
from patchwright_traces.app import Settings, create_app


@pytest.mark.parametrize("seed", range(4))
async def test_strange_request_has_an_answer(tmp_path: Path, seed: int) -> None:
    app = create_app(Settings(tmp_path / "traces.db"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://traces") as client,
    ):
        for asked in strange(app, seed, 250):
            answer = await client.request(
                asked.method, asked.url, headers=asked.headers, content=asked.body
            )
            assert answer.status_code < 500, asked
