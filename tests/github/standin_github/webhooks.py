"""Webhook deliveries: signed, handed over once, logged. Like GitHub, it never tries again."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import httpx

from standin_github.records import App, Delivery
from standin_github.state import State
from standin_github.urls import Urls

DELIVERY_TIMEOUT = 10.0
"""Seconds: https://docs.github.com/webhooks/testing-and-troubleshooting-webhooks"""
CONCURRENT = 32
RESPONSE_KEPT = 100_000
"""Bytes of an answer that stay in the log."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened; the ids are for the delivery log."""

    name: str
    payload: Mapping[str, Any]
    installation_id: int | None = None
    repository_id: int | None = None


class Webhooks:
    """Owns the connections to the receivers: use as a context, which ends what is under way."""

    def __init__(self, state: State, urls: Urls, timeout: float = DELIVERY_TIMEOUT) -> None:
        self._state = state
        self._urls = urls
        self._timeout = timeout
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        # trust_env: a proxy of the machine has no business between two local processes.
        self._client = httpx.AsyncClient(timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    @property
    def pending(self) -> int:
        return len(self._tasks)

    def send(self, app: App, event: Event) -> None:
        """Hand over in the background; an App without a webhook address hears nothing."""
        if not app.webhook_url:
            return
        body = json.dumps(event.payload, separators=(",", ":"), ensure_ascii=False)
        action = event.payload.get("action")
        self._start(
            app,
            Delivery(
                id=self._state.new_id(),
                app_id=app.id,
                guid=str(uuid.uuid4()),
                event=event.name,
                action=action,
                installation_id=event.installation_id,
                repository_id=event.repository_id,
                redelivery=False,
                url=app.webhook_url,
                body=body,
                request_headers={},
                delivered_at=time.time(),
            ),
        )

    def redeliver(self, app: App, original: Delivery) -> Delivery:
        """The same bytes under the same GUID, as another entry of the log."""
        again = replace(
            original,
            id=self._state.new_id(),
            redelivery=True,
            url=app.webhook_url,
            delivered_at=time.time(),
            done=False,
            duration=0.0,
            status="pending",
            status_code=0,
            response_headers={},
            response_body="",
        )
        self._start(app, again)
        return again

    def _start(self, app: App, delivery: Delivery) -> None:
        delivery.request_headers = self._headers(app, delivery)
        self._state.add_delivery(delivery)
        task = asyncio.create_task(self._deliver(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _headers(self, app: App, delivery: Delivery) -> dict[str, str]:
        headers = {
            "Accept": "*/*",
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/5tand1n",
            "X-GitHub-Delivery": delivery.guid,
            "X-GitHub-Enterprise-Host": self._urls.host,
            "X-GitHub-Event": delivery.event,
            "X-GitHub-Hook-ID": str(app.hook_id),
            "X-GitHub-Hook-Installation-Target-ID": str(app.id),
            "X-GitHub-Hook-Installation-Target-Type": "integration",
        }
        if app.webhook_secret:
            headers |= _signatures(app.webhook_secret, delivery.body.encode())
        return headers

    async def _deliver(self, delivery: Delivery) -> None:
        async with self._slots:
            started = time.monotonic()
            try:
                async with asyncio.timeout(self._timeout):
                    await self._post(delivery)
            except (TimeoutError, httpx.TimeoutException):
                delivery.status, delivery.status_code = "timed out", 0
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                delivery.status, delivery.status_code = "failed to connect to host", 0
                delivery.response_body = str(error)
            finally:
                delivery.duration = round(time.monotonic() - started, 3)
                delivery.done = True

    async def _post(self, delivery: Delivery) -> None:
        if self._client is None:
            raise RuntimeError("Webhooks is used outside its context")
        response = await self._client.post(
            delivery.url, content=delivery.body.encode(), headers=delivery.request_headers
        )
        delivery.status_code = response.status_code
        delivery.status = (
            "OK" if response.is_success else f"Invalid HTTP Response: {response.status_code}"
        )
        delivery.response_headers = dict(response.headers)
        delivery.response_body = response.text[:RESPONSE_KEPT]


def _signatures(secret: str, body: bytes) -> dict[str, str]:
    return {
        f"X-Hub-Signature{suffix}": f"{name}={hmac.new(secret.encode(), body, name).hexdigest()}"
        for suffix, name in (("", "sha1"), ("-256", "sha256"))
    }
