"""Asking the vault: its answers become values or the errors that choose the delivery."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.msg import Msg
from pydantic import SecretStr

from harness.nats import NatsServer
from harness.nats import bus as connect
from patchwright_common import wire
from patchwright_common.bus import Bus, flush
from patchwright_common.credentials import (
    Reply,
    Request,
    TokenRequest,
    Vault,
    WebhookSecret,
    sealed_reply,
)
from patchwright_common.errors import Permanent, Retry

REQUEST = TokenRequest(installation_id=3, repository_id=7, job_id="7-1-i-1")
SECRET = "ghs_made_up"


@asynccontextmanager
async def answering(bus: Bus, reply: Reply | bytes) -> AsyncIterator[list[tuple[str, Request]]]:
    """Somebody on the other side of a real server; bytes are sent as they are."""
    asked: list[tuple[str, Request]] = []

    async def answer(message: Msg) -> None:
        request = Request.model_validate_json(message.data)
        asked.append((message.subject, request))
        caller, verb = message.subject.split(".")[3:]
        sealed = reply if isinstance(reply, bytes) else sealed_reply(reply, request, caller, verb)
        await message.respond(sealed)

    subscription = await bus.client.subscribe("pw.rpc.vault.>", cb=answer)
    yield asked
    await subscription.unsubscribe()


async def test_token_is_asked_under_the_callers_name(bus: Bus) -> None:
    reply = Reply(value=SECRET, expires_at=time.time() + 3600)
    async with answering(bus, reply) as asked:
        token = await Vault(bus, "runner").token(REQUEST)
    assert token.get_secret_value() == SECRET
    assert SECRET not in repr(token)
    [(subject, request)] = asked
    assert subject == "pw.rpc.vault.runner.token"
    assert TokenRequest.model_validate_json(request.body) == REQUEST
    assert request.job_id == REQUEST.job_id


async def test_each_secret_has_its_verb(bus: Bus) -> None:
    vault = Vault(bus, "x")
    async with answering(bus, Reply(value=SECRET)) as asked:
        assert (await vault.model_key()).get_secret_value() == SECRET
        assert await vault.mark("7-1-i-1") == SECRET
    assert [s.rpartition(".")[2] for s, _ in asked] == ["model-key", "mark"]


@pytest.mark.parametrize(
    ("value", "ends"),
    [
        ('[{"secret": "new", "until": 0}, {"secret": "old", "until": 7.5}]', [0, 7.5]),
        ('["new", "old"]', [0, 0]),
    ],
    ids=["with ends", "of an earlier release"],
)
async def test_webhook_secrets_are_a_list(bus: Bus, value: str, ends: list[float]) -> None:
    async with answering(bus, Reply(value=value)):
        found = await Vault(bus, "ingest").webhook_secrets()
    assert [one.secret.get_secret_value() for one in found] == ["new", "old"]
    assert [one.until for one in found] == ends
    assert "old" not in repr(found)


@pytest.mark.parametrize(("until", "now", "good"), [(0, 9, True), (9, 8.9, True), (9, 9, False)])
def test_webhook_secret_verifies_until_its_end(until: float, now: float, good: bool) -> None:
    secret = WebhookSecret(secret=SecretStr(SECRET), until=until)
    assert secret.verifies(now) is good


@pytest.mark.parametrize("until", ["NaN", "Infinity", "-1", "null", '"ghs_made_up"'])
async def test_end_that_is_none_is_not_taken_for_no_end(bus: Bus, until: str) -> None:
    value = f'[{{"secret": "{SECRET}", "until": {until}}}]'
    async with answering(bus, Reply(value=value)):
        with pytest.raises(Retry, match="could not be read") as caught:
            await Vault(bus, "ingest").webhook_secrets()
    assert SECRET not in str(caught.value)


async def test_secret_on_its_way_in_is_readable_by_the_vault_alone(bus: Bus) -> None:
    vault, own = wire.Keypair(), wire.Keypair
    async with answering(bus, Reply(value=vault.public.hex())) as asked:
        await Vault(bus, "setup").tell("put", {"name": "model-key", "value": SECRET})
    _, request = asked[1]
    assert SECRET not in request.model_dump_json()
    sealed = bytes.fromhex(request.sealed)
    context = request.context("ask", "setup", "put")
    assert json.loads(vault.open(sealed, context))["value"] == SECRET
    for key, other in ((own(), context), (vault, request.context("ask", "setup", "delete"))):
        with pytest.raises(wire.UnreadableError):
            key.open(sealed, other)


async def test_reader_of_the_whole_bus_learns_nothing(bus: Bus, nats: NatsServer) -> None:
    async with connect(nats.url) as spy:
        everything = await spy.client.subscribe(">")
        await flush(spy.client)
        async with answering(bus, Reply(value=SECRET)):
            await Vault(bus, "x").model_key()
        seen = [(await everything.next_msg(timeout=5)).data for _ in range(2)]
        await flush(spy.client)
        assert everything.pending_msgs == 0
    assert not any(SECRET.encode() in data for data in seen)


@pytest.mark.parametrize("change", ["job_id", "nonce", "caller", "verb"])
async def test_answer_to_something_else_is_not_taken(bus: Bus, change: str) -> None:
    """Somebody in the middle hands over an answer that was sealed for another question."""

    async def answer(message: Msg) -> None:
        request = Request.model_validate_json(message.data)
        names = {"caller": "x", "verb": "model-key"}
        if change in names:
            names[change] = "other"
        else:
            request = request.model_copy(update={change: "another-one-of-them"})
        await message.respond(sealed_reply(Reply(value=SECRET), request, **names))

    await bus.client.subscribe("pw.rpc.vault.>", cb=answer)
    with pytest.raises(Retry, match="could not be read"):
        await Vault(bus, "x").model_key()


async def test_refusal_is_permanent(bus: Bus) -> None:
    async with answering(bus, Reply(error="x may not ask.", permanent=True)):
        with pytest.raises(Permanent, match="may not ask"):
            await Vault(bus, "x").model_key()


async def test_failure_of_the_vault_is_a_retry_at_its_time(bus: Bus) -> None:
    async with answering(bus, Reply(error="GitHub is away", retry_after=42.0)):
        with pytest.raises(Retry, match="GitHub is away") as caught:
            await Vault(bus, "x").token(REQUEST)
    assert caught.value.after == 42.0


@pytest.mark.parametrize("reply", [b"", b"ghs_made_up", b'{"value": {"ghs_made_up": 1}}'])
async def test_answer_that_cannot_be_read_is_a_retry_and_unquoted(bus: Bus, reply: bytes) -> None:
    async with answering(bus, reply):
        with pytest.raises(Retry) as caught:
            await Vault(bus, "x").model_key()
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_answer_without_a_value_is_a_retry(bus: Bus) -> None:
    async with answering(bus, Reply()):
        with pytest.raises(Retry, match="without a value"):
            await Vault(bus, "x").model_key()


async def test_token_that_is_about_to_expire_is_not_used(bus: Bus) -> None:
    async with answering(bus, Reply(value=SECRET, expires_at=time.time() + 10)):
        with pytest.raises(Retry, match="about to expire"):
            await Vault(bus, "x").token(REQUEST)


async def test_absent_vault_is_a_retry(bus: Bus) -> None:
    with pytest.raises(Retry, match="no answer"):
        await Vault(bus, "x").model_key()


def test_reply_does_not_show_its_value() -> None:
    assert SECRET not in repr(Reply(value=SECRET)) + str(Reply(value=SECRET))
