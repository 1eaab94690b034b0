"""Every request to the vault that it must refuse, and each of its chores that handles secrets."""

from __future__ import annotations

import json
from collections.abc import Iterable

from harness.stack import RunningStack
from patchwright_common import requests
from patchwright_common.bus import Bus
from patchwright_common.credentials import Request, TokenRequest, Vault

from .needles import Canary

NONCE = "n" * 22
KEY = "ab" * 32
CHORES = (
    *(("check", what) for what in ("webhook", "token", "model")),
    *(("rotate", what) for what in ("webhook-secret", "key")),
    ("retire", "key"),
)


async def refused(stack: RunningStack, job_id: str, canaries: Iterable[Canary]) -> None:
    """As the runner: for others' jobs and repositories, in forms that cannot be read."""
    async with stack.nats("runner") as client:
        bus = Bus(client)
        vault = Vault(bus, "runner")
        other = TokenRequest(installation_id=1, repository_id=1, job_id=job_id)
        await _must_fail(vault, "token", other.model_dump_json(), job_id)
        await _must_fail(vault, "token", other.model_dump_json(), "")
        await _must_fail(vault, "token", "{", job_id)
        await _must_fail(vault, "model-key", "{}", "no-such-job")
        subject = requests.subject("runner", "token")
        for canary in canaries:
            # A program that mixes its fields up: nothing of it may be quoted.
            value = canary.text
            await _must_fail(vault, "token", json.dumps({"installation_id": value}), job_id)
            for body in ({"key": value}, {"key": KEY, "nonce": NONCE, "sealed": value}, value):
                await client.publish(subject, json.dumps(body).encode())
        await client.publish(subject, Request(key=KEY, nonce=NONCE).model_dump_json().encode())
        await client.flush()


async def chores(stack: RunningStack, canaries: Iterable[Canary]) -> None:
    """As an operator: wrong names and values, checks, and rotations of what can be rotated."""
    async with stack.nats("setup") as client:
        vault = Vault(Bus(client), "setup")
        for canary in canaries:
            value = canary.text
            await _must_fail(vault, "put", json.dumps({"name": "model-key", "value": value}), "")
            await _must_fail_sealed(vault, "put", {"name": value, "value": "x"})
            await _must_fail_sealed(vault, "put", {"name": "github-app", "value": value})
            await _must_fail_sealed(vault, "convert", {"code": value, "api_url": value})
        for verb, what in CHORES:
            reply = await vault.exchange(verb, json.dumps({"what": what}))
            assert not reply.error, f"{verb} {what}: {reply.error}"


async def _must_fail(vault: Vault, verb: str, body: str, job_id: str) -> None:
    reply = await vault.exchange(verb, body, job_id=job_id)
    assert reply.error, f"the vault answered a bad request for {verb}"


async def _must_fail_sealed(vault: Vault, verb: str, body: dict[str, str]) -> None:
    key = await vault.ask("key")
    reply = await vault.exchange(verb, json.dumps(body), seal_to=bytes.fromhex(key.value or ""))
    assert reply.error, f"the vault took a bad {verb}"
