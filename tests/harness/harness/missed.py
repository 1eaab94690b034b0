"""What an operator does about deliveries that ingest did not take: has GitHub send them again.

The one place for it in the tests, so that it is easy to leave to ingest itself.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import jwt

PATIENCE = 12.0
"""Seconds after which a delivery that was sent again has an answer: GitHub gives up after 10."""
TIMEOUT = 30.0


class Missed:
    """The App's own view of its deliveries; `demo` is the file with the App's key."""

    def __init__(self, api_url: str, demo: Path) -> None:
        made = json.loads(demo.read_text())
        self._app_id, self._key = str(made["app_id"]), str(made["private_key"])
        fresh = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.AsyncClient(
            base_url=api_url, timeout=TIMEOUT, trust_env=False, limits=fresh
        )
        self._asked: dict[str, float] = {}
        self.count = 0
        """How many were sent again."""

    async def aclose(self) -> None:
        await self._http.aclose()

    async def again(self, order: random.Random | None = None) -> int:
        """Have everything sent again that nobody took until now; how many that were."""
        taken = {row["guid"] async for row in self._listed("status=success&redelivery=true")}
        first = {row["guid"]: row async for row in self._listed("status=failure")}
        missed = [row for guid, row in first.items() if guid not in taken and self._due(guid)]
        if order:
            order.shuffle(missed)
        await self.send(row["id"] for row in missed)
        self.count += len(missed)
        return len(missed)

    async def send(self, ids: Iterable[int]) -> None:
        """The same bytes under the same GUID, once more each."""
        for delivery in ids:
            path = f"/app/hook/deliveries/{delivery}/attempts"
            (await self._http.post(path, headers=self._headers())).raise_for_status()

    async def recent(self) -> list[dict[str, Any]]:
        """The newest hundred."""
        answer = await self._http.get("/app/hook/deliveries?per_page=100", headers=self._headers())
        rows: list[dict[str, Any]] = answer.raise_for_status().json()
        return rows

    def _due(self, guid: str) -> bool:
        now = time.monotonic()
        if now - self._asked.get(guid, -PATIENCE) < PATIENCE:
            return False
        self._asked[guid] = now
        return True

    async def _listed(self, query: str) -> AsyncIterator[dict[str, Any]]:
        url: str | None = f"/app/hook/deliveries?per_page=100&{query}"
        while url:
            answer = (await self._http.get(url, headers=self._headers())).raise_for_status()
            for row in answer.json():
                yield row
            url = answer.links.get("next", {}).get("url")

    def _headers(self) -> dict[str, str]:
        now = int(time.time())
        claims = {"iat": now - 60, "exp": now + 300, "iss": self._app_id}
        token = jwt.encode(claims, self._key, algorithm="RS256")
        return {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
