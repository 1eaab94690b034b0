"""The server delivers what it has stored to any subject that a puller names, and answers there.

So a message on the vault's subjects need not be a request, and an answer's subject need
not be an inbox: https://docs.nats.io/nats-concepts/jetstream/consumers#pull-consumers
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats as nats_py
import pytest
from nats.aio.client import Client

from harness.nats import NatsServer
from harness.programs import Program, program
from patchwright_common import requests, wire
from patchwright_common.bus import Bus, flush
from patchwright_common.credentials import Request, Vault
from patchwright_common.permissions import inbox
from patchwright_vault.handlers import caller_of

MODEL_KEY = "sk-ant-not-for-everybody"
NEXT = json.dumps({"batch": 1, "expires": 2_000_000_000}).encode()


@pytest.fixture
async def vault(nats: NatsServer, tmp_path: Path) -> AsyncIterator[Program]:
    environment = nats.environment("vault") | {
        "PATCHWRIGHT_VAULT_KEY_FILE": str(tmp_path / "vault.key"),
        "ANTHROPIC_API_KEY": MODEL_KEY,
    }
    async with program("patchwright-vault", environment=environment) as running:
        await running.line('"text": "ready')
        yield running


@asynccontextmanager
async def known_as(nats: NatsServer, identity: str) -> AsyncIterator[Client]:
    client = await nats_py.connect(
        nats.address,
        nkeys_seed=str(nats.identities.seed(identity)),
        inbox_prefix=inbox(identity),
    )
    yield client
    await client.close()


async def records(nats: NatsServer) -> dict[str, Any]:
    async with known_as(nats, "vault") as client:
        bucket = await client.jetstream().key_value("PW_VAULT")
        names = ("model-key", "mark-key", "transport-key")
        return {name: (await bucket.get(name)).value for name in names}


def request(**fields: Any) -> bytes:
    asked = Request(key=wire.Keypair().public.hex(), nonce="a" * 20, body=json.dumps(fields))
    return asked.model_dump_json().encode()


async def still_served(nats: NatsServer) -> str:
    async with known_as(nats, "runner") as client:
        return (await Vault(Bus(client), "runner").model_key()).get_secret_value()


async def test_answer_is_not_written_over_a_record(nats: NatsServer, vault: Program) -> None:
    before = await records(nats)
    async with known_as(nats, "ingest") as ingest:
        for name in before:
            for body in (request(), b"junk"):
                await ingest.publish(
                    requests.subject("ingest", "webhook-secret"),
                    body,
                    reply=f"$KV.PW_VAULT.{name}",
                )
        await ingest.flush()
        await vault.line("ignored what came as a request")
    await asyncio.sleep(0.5)
    assert await records(nats) == before
    assert await still_served(nats) == MODEL_KEY


async def test_stored_message_does_not_ask_in_anothers_name(
    nats: NatsServer, vault: Program
) -> None:
    """Ingest stores it, triage has it delivered: its subject would name `setup`."""
    before = await records(nats)
    async with known_as(nats, "ingest") as ingest, known_as(nats, "triage") as triage:
        await ingest.jetstream().publish("pw.github.issues.setup.1", request(name="model-key"))
        await triage.publish(
            "$JS.API.CONSUMER.MSG.NEXT.PW_GITHUB.triage-delivery-received",
            NEXT,
            reply=f"{requests.PREFIX}.x.delete",
        )
        await triage.flush()
        await vault.line("ignored what came as a request")
    assert await records(nats) == before


@pytest.mark.parametrize(
    ("subject", "reply", "caller"),
    [
        ("pw.rpc.vault.runner.token", "_INBOX_runner.a.b", "runner"),
        ("pw.rpc.vault.setup.token", "_INBOX_setup.a", "setup"),
        # As an operator could have it, whose stream catches the vault's acknowledgements.
        (
            "pw.github.installation.runner.1",
            "$JS.ACK.PW_GITHUB.vault-delivery-received.1.1.1.1.0",
            None,
        ),
        ("pw.github.installation.runner.1", "_INBOX_runner.a", None),
        ("pw.rpc.vault.runner.mark", "_INBOX_runner.a", None),
        ("pw.rpc.vault.nobody.token", "_INBOX_runner.a", "nobody"),
        ("pw.rpc.vault.a.b.token", "_INBOX_runner.a", None),
        ("pw.rpc.vault.runner.token", "", None),
        ("pw.rpc.vault.runner.token", "$KV.PW_VAULT.model-key", None),
        ("pw.rpc.vault.runner.token", "$JS.ACK.PW_EVENTS.vault-job-finished.1.1.1.1.0", None),
        ("pw.rpc.vault.runner.token", "_INBOX_runnerx.a", None),
    ],
)
def test_caller_is_who_published_there(subject: str, reply: str, caller: str | None) -> None:
    assert caller_of(subject, reply, "token") == caller


async def test_nobody_but_the_vault_ends_a_jobs_tokens(nats: NatsServer, vault: Program) -> None:
    """The runner has one of its own messages delivered where vaults tell each other."""
    async with known_as(nats, "runner") as runner, known_as(nats, "vault") as other:
        heard: asyncio.Queue[str] = asyncio.Queue()

        async def note(message: Any) -> None:
            heard.put_nowait(message.subject)

        await other.subscribe(requests.ENDED, cb=note)
        await flush(other)
        await runner.jetstream().publish("pw.evt.job.readied.x", b"1008-1-issue-1")
        await runner.publish(
            "$JS.API.CONSUMER.MSG.NEXT.PW_EVENTS.runner-job-readied", NEXT, reply=requests.ENDED
        )
        await runner.flush()
        # It does arrive, under the subject that it was stored with.
        assert await asyncio.wait_for(heard.get(), 5) != requests.ENDED
