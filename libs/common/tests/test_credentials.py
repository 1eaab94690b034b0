"""Asking the vault: its answers become values or the errors that choose the delivery."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.msg import Msg

from patchwright_common.bus import Bus
from patchwright_common.credentials import Reply, TokenRequest, Vault
from patchwright_common.errors import Permanent, Retry

REQUEST = TokenRequest(installation_id=3, repository_id=7, job_id="7-1-i-1")
SECRET = "ghs_made_up"


@asynccontextmanager
async def answering(bus: Bus, reply: bytes) -> AsyncIterator[list[Msg]]:
    """Somebody on the other side of a real server."""
    asked: list[Msg] = []

    async def answer(message: Msg) -> None:
        asked.append(message)
        await message.respond(reply)

    subscription = await bus.client.subscribe("pw.rpc.vault.>", cb=answer)
    yield asked
    await subscription.unsubscribe()


def said(reply: Reply) -> bytes:
    return reply.model_dump_json().encode()


async def test_token_is_asked_under_the_callers_name(bus: Bus) -> None:
    reply = said(Reply(value=SECRET, expires_at=time.time() + 3600))
    async with answering(bus, reply) as asked:
        token = await Vault(bus, "runner").token(REQUEST)
    assert token.get_secret_value() == SECRET
    assert SECRET not in repr(token)
    assert asked[0].subject == "pw.rpc.vault.runner.token"
    assert TokenRequest.model_validate_json(asked[0].data) == REQUEST


async def test_each_secret_has_its_verb(bus: Bus) -> None:
    async with answering(bus, said(Reply(value=SECRET))) as asked:
        vault = Vault(bus, "x")
        values = [await vault.webhook_secret(), await vault.model_key()]
        assert await vault.mark("7-1-i-1") == SECRET
    assert [v.get_secret_value() for v in values] == [SECRET, SECRET]
    assert [m.subject.rpartition(".")[2] for m in asked] == ["webhook-secret", "model-key", "mark"]


async def test_refusal_is_permanent(bus: Bus) -> None:
    async with answering(bus, said(Reply(error="x may not ask.", permanent=True))):
        with pytest.raises(Permanent, match="may not ask"):
            await Vault(bus, "x").model_key()


async def test_failure_of_the_vault_is_a_retry_at_its_time(bus: Bus) -> None:
    async with answering(bus, said(Reply(error="GitHub is away", retry_after=42.0))):
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
    async with answering(bus, said(Reply())):
        with pytest.raises(Retry, match="without a value"):
            await Vault(bus, "x").model_key()


async def test_token_that_is_about_to_expire_is_not_used(bus: Bus) -> None:
    async with answering(bus, said(Reply(value=SECRET, expires_at=time.time() + 10))):
        with pytest.raises(Retry, match="about to expire"):
            await Vault(bus, "x").token(REQUEST)


async def test_absent_vault_is_a_retry(bus: Bus) -> None:
    with pytest.raises(Retry, match="no answer"):
        await Vault(bus, "x").model_key()


def test_reply_does_not_show_its_value() -> None:
    assert SECRET not in repr(Reply(value=SECRET)) + str(Reply(value=SECRET))
