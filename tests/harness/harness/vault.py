"""A vault that answers what a test tells it to, on a real server, sealed like the real one's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from nats.aio.msg import Msg

from patchwright_common import requests
from patchwright_common.bus import Bus, flush
from patchwright_common.credentials import AppFacts, Reply, Request, sealed_reply


@dataclass
class ScriptedVault:
    """`replies` by verb; a verb without one is never answered. `asked` holds the verbs so far.

    A reply may be worked out from the request's body.

    While `holding` is clear, answers that were worked out wait.
    """

    bus: Bus
    replies: dict[str, Reply | Callable[[str], Reply]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def secrets(self, *secrets: str, ends: Mapping[str, float] | None = None) -> None:
        """The webhook secrets from now on, newest first; `ends` are seconds since the epoch."""
        known = ends or {}
        found = [{"secret": secret, "until": known.get(secret, 0.0)} for secret in secrets]
        self.replies["webhook-secret"] = Reply(value=json.dumps(found))

    def app(self, slug: str, api_url: str, *, app_id: str = "1") -> None:
        """The App from now on."""
        facts = AppFacts(app_id=app_id, slug=slug, api_url=api_url)
        self.replies["app"] = Reply(value=facts.model_dump_json())

    async def note(self, record: str) -> None:
        """Say that a record changed."""
        await self.bus.client.publish(requests.CHANGED, record.encode())
        await self.bus.client.flush()

    async def receive(self, message: Msg) -> None:
        """Take one question; the answer is that of this moment, however late it is sent."""
        request = Request.model_validate_json(message.data)
        caller, verb = message.subject.split(".")[3:]
        self.asked.append(verb)
        reply = self.replies.get(verb)
        if reply is None:
            return
        if not isinstance(reply, Reply):
            reply = reply(request.body)
        answering = asyncio.create_task(self._answer(message, reply, request, caller, verb))
        self._under_way.add(answering)
        answering.add_done_callback(self._under_way.discard)

    async def _answer(
        self, message: Msg, reply: Reply, request: Request, caller: str, verb: str
    ) -> None:
        await self.holding.wait()
        await message.respond(sealed_reply(reply, request, caller, verb))

    async def stop(self) -> None:
        """Answer nothing more."""
        for answering in list(self._under_way):
            answering.cancel()


@asynccontextmanager
async def scripted_vault(bus: Bus) -> AsyncIterator[ScriptedVault]:
    """One that answers nothing yet."""
    vault = ScriptedVault(bus)
    vault.holding.set()
    subscription = await bus.client.subscribe(f"{requests.PREFIX}.>", cb=vault.receive)
    await flush(bus.client)
    try:
        yield vault
    finally:
        await vault.stop()
        if not bus.client.is_closed:
            await subscription.unsubscribe()
