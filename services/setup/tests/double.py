"""A vault's double on a real bus, for what the real one does only when something breaks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nats.aio.msg import Msg

from patchwright_common import wire
from patchwright_common.bus import Bus, flush
from patchwright_common.credentials import Reply, Request, sealed_reply

FACTS = {
    "app_id": "77",
    "slug": "patchwright-x",
    "api_url": "https://ghe.example.com/api/v3",
    "html_url": "https://ghe.example.com/github-apps/patchwright-x",
    "owner": "ada",
}
FINE = json.dumps({"ok": True, "detail": "It works.", "advice": ""})


@dataclass
class VaultDouble:
    """Answers as it was told; `asked` has each verb with its opened body, `sealed` or not."""

    replies: dict[str, list[Reply]] = field(default_factory=dict)
    """By verb: the last one stays."""
    asked: list[tuple[str, dict[str, Any], bool]] = field(default_factory=list)
    keys: wire.Keypair = field(default_factory=wire.Keypair)

    def answer(self, verb: str, *replies: Reply | str) -> None:
        self.replies[verb] = [Reply(value=r) if isinstance(r, str) else r for r in replies]

    def holds(self, *names: str) -> None:
        rows = [
            {"name": name, "version": 1, "key_version": 1, "changed_at": 1_790_000_000.5}
            for name in names
        ]
        self.answer("list", json.dumps(rows))

    def told(self, verb: str) -> list[dict[str, Any]]:
        return [body for asked, body, _ in self.asked if asked == verb]

    def reply(self, verb: str) -> Reply:
        waiting = self.replies[verb]
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


@asynccontextmanager
async def vault_double(bus: Bus) -> AsyncIterator[VaultDouble]:
    """Holds nothing at first; every check is fine."""
    double = VaultDouble()
    double.holds()
    double.answer("key", double.keys.public.hex())
    double.answer("app", json.dumps(FACTS))
    double.answer("convert", json.dumps(FACTS))
    double.answer("put", "stored")
    double.answer("check", FINE)

    async def receive(message: Msg) -> None:
        request = Request.model_validate_json(message.data)
        caller, verb = message.subject.split(".")[3:]
        assert caller == "setup"
        body = request.body.encode()
        if request.sealed:
            context = request.context("ask", caller, verb)
            body = double.keys.open(bytes.fromhex(request.sealed), context)
        double.asked.append((verb, json.loads(body), bool(request.sealed)))
        await message.respond(sealed_reply(double.reply(verb), request, caller, verb))

    subscription = await bus.client.subscribe("pw.rpc.vault.>", cb=receive)
    await flush(bus.client)
    yield double
    await subscription.unsubscribe()
