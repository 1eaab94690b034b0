"""Which secrets verify, and from when on: the real ingest with a vault that a test commands."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest

from harness.nats import NatsServer
from harness.nats import bus as connect
from harness.programs import Program, program
from harness.vault import ScriptedVault, scripted_vault
from patchwright_common.credentials import Reply

from .chain import LISTENS, READY
from .webhooks import ISSUE, headers, signature, stored

OLD, NEW, FORGED = (secrets.token_hex(20) for _ in range(3))
ENDED = '[{"secret": "one-that-ended-long-ago", "until": 1}]'
PATIENCE = 15.0


@dataclass
class Ingest:
    """The running program."""

    program: Program
    vault: ScriptedVault
    http: httpx.AsyncClient

    async def status(self, secret: str) -> int:
        """Of a new delivery signed with that secret."""
        given = headers(x_hub_signature_256=signature(ISSUE, secret))
        given["X-GitHub-Delivery"] = str(uuid4())
        return (await self.http.post("/webhooks/github", content=ISSUE, headers=given)).status_code

    async def becomes(self, secret: str, status: int) -> None:
        """Wait until such deliveries are answered so."""
        await self.until(lambda: self.status(secret), status)

    async def until(self, look: Callable[[], object], wanted: object) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            found = look()
            found = await found if asyncio.iscoroutine(found) else found
            if found == wanted:
                return
            assert time.monotonic() < deadline, f"still {found}, not {wanted}"
            await asyncio.sleep(0.05)

    def asks(self) -> int:
        return self.vault.asked.count("webhook-secret")


@asynccontextmanager
async def ingest_program(nats: NatsServer, vault: ScriptedVault) -> AsyncIterator[Ingest]:
    environment = nats.environment("ingest") | {
        "PATCHWRIGHT_INGEST_PORT": "0",
        "PATCHWRIGHT_UNSIGNED_PER_SECOND": "0",
    }
    async with program("patchwright-ingest", environment=environment) as running:
        port = (await running.line(LISTENS))[1]
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False
        ) as http:
            yield Ingest(running, vault, http)
        assert await running.stop() == 0
    said = "\n".join(running.lines)
    assert "Traceback" not in said
    assert not any(secret in said for secret in (OLD, NEW, FORGED))


@pytest.fixture(name="ingest")
async def _ingest(nats: NatsServer) -> AsyncIterator[Ingest]:
    """It knows the old secret."""
    async with connect(nats.url) as bus, scripted_vault(bus) as vault:
        vault.secrets(OLD)
        async with ingest_program(nats, vault) as running:
            await running.program.line(READY)
            yield running


async def test_both_verify_during_the_overlap_and_the_old_one_fails_after_it(
    ingest: Ingest,
) -> None:
    assert await ingest.status(OLD) == 202
    ingest.vault.secrets(NEW, OLD)
    await ingest.vault.note("webhook-secret")
    await ingest.program.line("verify now: 2")
    assert [await ingest.status(secret) for secret in (OLD, NEW, FORGED)] == [202, 202, 401]
    ingest.vault.secrets(NEW)
    await ingest.vault.note("webhook-secret")
    await ingest.becomes(OLD, 401)
    assert await ingest.status(NEW) == 202


async def test_former_secret_ends_at_its_time_while_the_vault_is_away(ingest: Ingest) -> None:
    ingest.vault.secrets(NEW, OLD, ends={OLD: time.time() + 4})
    await ingest.vault.note("webhook-secret")
    await ingest.program.line("verify now: 2")
    del ingest.vault.replies["webhook-secret"]
    assert await ingest.status(OLD) == 202
    await ingest.becomes(OLD, 401)
    assert await ingest.status(NEW) == 202


async def test_last_secret_that_has_ended_leaves_none(ingest: Ingest) -> None:
    ingest.vault.secrets(OLD, ends={OLD: time.time() + 1})
    await ingest.vault.note("webhook-secret")
    await ingest.becomes(OLD, 503)
    assert (await ingest.http.get("/readyz")).status_code == 503
    ingest.vault.secrets(NEW)
    await ingest.vault.note("webhook-secret")
    await ingest.becomes(NEW, 202)


async def test_secret_that_nobody_told_of_verifies_at_its_first_delivery(ingest: Ingest) -> None:
    """The note was lost: GitHub's first delivery with the new secret is not."""
    ingest.vault.secrets(NEW, OLD)
    assert await ingest.status(NEW) == 202


async def test_flood_of_bad_signatures_does_not_flood_the_vault(ingest: Ingest) -> None:
    before = ingest.asks()
    for _ in range(5):
        answers = await asyncio.gather(*(ingest.status(FORGED) for _ in range(40)))
        assert set(answers) == {401}
    assert ingest.asks() == before + 1


async def test_note_is_heard_in_the_middle_of_a_flood(ingest: Ingest) -> None:
    """Bad signatures use up the questions that they may cause, and no others."""
    assert await ingest.status(FORGED) == 401
    ingest.vault.secrets(NEW)
    await ingest.vault.note("webhook-secret")
    await ingest.becomes(NEW, 202)
    assert await ingest.status(OLD) == 401


async def test_silent_vault_holds_up_the_answer_to_a_bad_signature_for_a_second_only(
    ingest: Ingest, nats: NatsServer
) -> None:
    ingest.vault.holding.clear()
    started = time.monotonic()
    assert await ingest.status(FORGED) == 401
    assert time.monotonic() - started < 3.0
    assert await ingest.status(OLD) == 202


async def test_answer_that_was_overtaken_by_a_newer_one_is_not_believed(
    ingest: Ingest, nats: NatsServer
) -> None:
    ingest.vault.holding.clear()
    asks = ingest.asks()
    # Asked before the rotation, and answered after it.
    assert await ingest.status(FORGED) == 401
    await ingest.until(ingest.asks, asks + 1)
    late, ingest.vault.holding = ingest.vault.holding, asyncio.Event()
    ingest.vault.holding.set()
    assert late is not ingest.vault.holding
    ingest.vault.secrets(NEW)
    await ingest.vault.note("webhook-secret")
    await ingest.becomes(OLD, 401)
    late.set()
    await asyncio.sleep(0.5)
    assert [await ingest.status(secret) for secret in (NEW, OLD)] == [202, 401]


async def test_known_secrets_stay_while_the_vault_is_away(ingest: Ingest) -> None:
    ingest.vault.replies["webhook-secret"] = Reply(error="NATS is away")
    await ingest.vault.note("webhook-secret")
    await ingest.program.line("the known webhook secrets stay for now: NATS is away")
    assert [await ingest.status(secret) for secret in (OLD, FORGED)] == [202, 401]


async def test_note_that_passed_while_nats_was_away_is_made_up_for(
    ingest: Ingest, nats: NatsServer
) -> None:
    await nats.stop()
    ingest.vault.secrets(NEW)
    await nats.start()
    await ingest.becomes(OLD, 401)
    await ingest.becomes(NEW, 202)


async def test_deleted_secret_verifies_nothing_more_until_there_is_another(
    ingest: Ingest,
) -> None:
    refusal = "The vault holds no webhook-secret."
    ingest.vault.replies["webhook-secret"] = Reply(error=refusal, permanent=True)
    await ingest.vault.note("webhook-secret")
    await ingest.becomes(OLD, 503)
    assert (await ingest.http.get("/readyz")).status_code == 503
    ingest.vault.secrets(NEW)
    await ingest.becomes(NEW, 202)
    assert await ingest.status(OLD) == 401


async def test_other_records_are_no_reason_to_ask(ingest: Ingest) -> None:
    before = ingest.asks()
    await ingest.vault.note("model-key")
    ingest.vault.secrets(NEW)
    await ingest.vault.note("webhook-secret")
    await ingest.until(lambda: sum("verify now" in line for line in ingest.program.lines), 2)
    assert ingest.asks() == before + 1


@pytest.mark.parametrize("value", ["[]", '[""]', "{", '{"a": 1}', "7", '[{"secret": ""}]', ENDED])
async def test_secret_with_which_anybody_could_sign_is_none(nats: NatsServer, value: str) -> None:
    async with connect(nats.url) as bus, scripted_vault(bus) as vault:
        vault.replies["webhook-secret"] = Reply(value=value)
        async with ingest_program(nats, vault) as ingest:
            await ingest.program.line("waiting for the webhook secret: ")
            assert await ingest.status("") == 503
            assert (await ingest.http.get("/readyz")).status_code == 503
            vault.secrets(NEW, "")
            await ingest.program.line(READY)
            assert [await ingest.status(secret) for secret in (NEW, "")] == [202, 401]
            assert len(await stored(bus)) == 1
