"""Rotation of the webhook secret: what GitHub signs with verifies at every moment."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.programs import Program, program
from patchwright_common import requests
from patchwright_common.bus import flush
from patchwright_common.credentials import Reply, Vault
from patchwright_common.errors import Permanent, Retry
from patchwright_vault.webhook_secrets import Entry, Secrets

from .looking import everything_stored
from .serving import READY, WEBHOOK_SECRET, Serving, serving

PATCH = ("PATCH", "/app/hook/config")


# --- the record ------------------------------------------------------------------------

NEW, OLD = "n" * 64, "old"


def test_bare_record_is_read_as_the_one_secret() -> None:
    for bare in ("old", '{"a": "brace"}', "{"):
        [entry] = Secrets.read(bare.encode()).entries
        assert (entry.secret, entry.at_github, entry.until) == (bare, True, 0.0)


def test_record_comes_back_as_it_was_written() -> None:
    held = Secrets(entries=(Entry(secret=OLD),)).begun(NEW, 5.0)
    assert Secrets.read(held.written()) == held


def test_begun_twice_is_begun_once() -> None:
    begun = Secrets(entries=(Entry(secret=OLD),)).begun(NEW, 5.0)
    assert begun.begun("another", 6.0) == begun
    assert [entry.secret for entry in begun.valid(10.0**10)] == [NEW, OLD]


def test_old_secret_ends_only_after_github_has_the_new_one() -> None:
    begun = Secrets(entries=(Entry(secret=OLD),)).begun(NEW, 5.0)
    done = begun.finished(NEW, 10.0, 100.0)
    assert [entry.secret for entry in done.valid(109.9)] == [NEW, OLD]
    assert [entry.secret for entry in done.valid(110.0)] == [NEW]
    assert done.finished(NEW, 50.0, 100.0) == done
    assert begun.finished("of another vault", 10.0, 100.0) == begun


def test_second_rotation_does_not_prolong_what_is_ending() -> None:
    held = Secrets(entries=(Entry(secret=OLD),)).begun(NEW, 0.0).finished(NEW, 0.0, 100.0)
    again = held.begun("c", 50.0).finished("c", 50.0, 100.0)
    assert [entry.until for entry in again.entries] == [0.0, 150.0, 100.0]


def test_expired_and_retired_secrets_leave_their_digests() -> None:
    held = Secrets(entries=(Entry(secret=OLD),)).begun(NEW, 0.0).finished(NEW, 0.0, 100.0)
    for left in (held.without_expired(100.0), held.alone()):
        assert [entry.secret for entry in left.entries] == [NEW]
        assert left.knows(OLD)
        assert left.knows(NEW)
        assert not left.knows("other")
        assert OLD.encode() not in left.written()


def test_retiring_in_the_middle_of_a_rotation_is_refused() -> None:
    with pytest.raises(Permanent, match="not finished"):
        Secrets(entries=(Entry(secret=OLD),)).begun(NEW, 0.0).alone()


# --- the vault -------------------------------------------------------------------------


@asynccontextmanager
async def rotating(folder: Path, **more: str) -> AsyncIterator[Serving]:
    async with serving(folder, **more) as running:
        await running.github.change_app(running.app.id, webhook_secret=WEBHOOK_SECRET)
        yield running


@pytest.fixture(name="vault")
async def _vault(tmp_path: Path) -> AsyncIterator[Serving]:
    async with rotating(tmp_path, PATCHWRIGHT_WEBHOOK_SECRET_LEAD="0.3") as running:
        yield running


async def valid(vault: Serving) -> list[str]:
    found = await Vault(vault.bus, "ingest").webhook_secrets()
    return [one.secret.get_secret_value() for one in found]


async def rotate(vault: Serving) -> Reply:
    return await vault.ask("setup", "rotate", json.dumps({"what": "webhook-secret"}))


async def retire(vault: Serving) -> Reply:
    return await vault.ask("setup", "retire", json.dumps({"what": "webhook-secret"}))


async def at_github(vault: Serving) -> str:
    """What GitHub signs with: the one of all that verify, or that was before, that it holds."""
    await vault.github.change_app(vault.app.id, webhook_url="http://127.0.0.1:9/")
    await vault.github.change_app(vault.app.id, webhook_url="http://127.0.0.1:9/x")
    newest = (await vault.github.settled())[-1]
    for secret in {*await valid(vault), WEBHOOK_SECRET}:
        mac = hmac.new(secret.encode(), newest["body"].encode(), "sha256").hexdigest()
        if newest["request_headers"]["X-Hub-Signature-256"] == f"sha256={mac}":
            return secret
    raise AssertionError("GitHub signs with something that does not verify")


async def test_rotation_gives_github_a_new_secret_and_keeps_the_old_one_for_a_while(
    vault: Serving,
) -> None:
    assert await at_github(vault) == WEBHOOK_SECRET
    reply = await rotate(vault)
    assert reply.value, reply.error
    new, old = await valid(vault)
    assert old == WEBHOOK_SECRET
    assert len(new) == 64
    assert await at_github(vault) == new
    assert new not in reply.value
    assert WEBHOOK_SECRET not in reply.value


async def test_ingest_is_told_before_github_has_the_new_secret(vault: Serving) -> None:
    notes = await vault.bus.client.subscribe(requests.CHANGED)
    await flush(vault.bus.client)
    task = asyncio.create_task(rotate(vault))
    note = await notes.next_msg(timeout=5)
    assert note.data == b"webhook-secret"
    assert len(await valid(vault)) == 2
    assert not await vault.github.requests(*PATCH)
    assert (await task).value
    await notes.unsubscribe()


async def test_retiring_ends_the_overlap(vault: Serving) -> None:
    await rotate(vault)
    [new, _] = await valid(vault)
    assert (await retire(vault)).value
    assert await valid(vault) == [new]
    assert (await retire(vault)).value  # again is harmless
    assert await valid(vault) == [new]


async def test_former_secret_expires_by_itself_and_ingest_is_told(tmp_path: Path) -> None:
    more = {
        "PATCHWRIGHT_WEBHOOK_SECRET_LEAD": "0.1",
        "PATCHWRIGHT_WEBHOOK_SECRET_OVERLAP": "1.5",
    }
    async with rotating(tmp_path, **more) as vault:
        await rotate(vault)
        reply = await vault.ask("ingest", "webhook-secret")
        assert len(json.loads(reply.value or "")) == 2
        assert 0 < reply.expires_at - time.time() <= 1.5
        ends = [one["until"] for one in json.loads(reply.value or "")]
        assert ends == [0, reply.expires_at]
        notes = await vault.bus.client.subscribe(requests.CHANGED)
        assert (await notes.next_msg(timeout=5)).data == b"webhook-secret"
        assert time.time() >= reply.expires_at
        assert WEBHOOK_SECRET not in await valid(vault)
        again = await vault.ask("ingest", "webhook-secret")
        assert again.expires_at == 0
        await vault.vault.line("a former webhook secret has expired")


@pytest.mark.parametrize("fault", [{"status": 422}, {"status": 404}, {"status": 502},
                                   {"drop": True}, {"drop": True, "after": True}])  # fmt: skip
async def test_refusal_of_github_loses_nothing_and_the_same_command_goes_on(
    vault: Serving, fault: dict[str, Any]
) -> None:
    await vault.github.fault(*PATCH, **fault)
    reply = await rotate(vault)
    assert reply.error
    new, old = await valid(vault)
    assert old == WEBHOOK_SECRET
    assert await at_github(vault) in (new, old)
    assert "not finished" in (await retire(vault)).error
    assert (await rotate(vault)).value
    assert await valid(vault) == [new, old]
    assert await at_github(vault) == new


async def killed_while(vault: Serving, program_: Program, reached: str) -> None:
    """Begin a rotation, and kill the vault when its log has the line."""
    task = asyncio.create_task(rotate(vault))
    await program_.line(reached)
    program_.process.kill()
    await program_.process.wait()
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize("step", ["stored", "sent", "given"])
async def test_rotation_that_was_killed_goes_on_with_the_same_secret(
    tmp_path: Path, step: str
) -> None:
    """Between any two steps what GitHub signs with verifies, and none is made in vain."""
    async with rotating(tmp_path) as vault:
        if step == "stored":  # and the lead not over
            await killed_while(vault, vault.vault, "stored beside the old one")
        elif step == "sent":  # GitHub has it, and the vault does not know
            await vault.github.fault(*PATCH, after=True, delay=4.0)
            task = asyncio.create_task(rotate(vault))
            while not await vault.github.requests(*PATCH):
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
            vault.vault.process.kill()
            task.cancel()
            await asyncio.wait({task})
        else:
            await killed_while(vault, vault.vault, "GitHub has the new webhook secret")
        async with program("patchwright-vault", environment=vault.environment) as second:
            await second.line(READY)
            new, old = await valid(vault)
            assert old == WEBHOOK_SECRET
            assert await at_github(vault) == (old if step == "stored" else new)
            assert (await rotate(vault)).value
            if step == "given":  # it may have been stored that it was done: then it is a new one
                assert await at_github(vault) == (await valid(vault))[0]
            else:
                assert await valid(vault) == [new, old]
                assert await at_github(vault) == new


async def test_two_rotations_at_once_agree_on_one_secret(vault: Serving) -> None:
    async with program("patchwright-vault", environment=vault.environment) as second:
        await second.line(READY)
        replies = await asyncio.gather(*(rotate(vault) for _ in range(6)))
        assert all(reply.value for reply in replies)
        secrets = await valid(vault)
        assert secrets[-1] == WEBHOOK_SECRET
        assert await at_github(vault) == secrets[0]


async def test_environment_with_a_rotated_secret_does_not_bring_it_back(vault: Serving) -> None:
    await rotate(vault)
    [new, _] = await valid(vault)
    assert await vault.vault.stop() == 0
    for _ in range(2):
        async with program("patchwright-vault", environment=vault.environment) as again:
            await again.line(READY)
            assert (await valid(vault))[0] == new
            await retire(vault)
            assert await valid(vault) == [new]
            assert await again.stop() == 0


async def test_rotation_without_a_secret_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, PATCHWRIGHT_WEBHOOK_SECRET="") as vault:
        reply = await rotate(vault)
        assert reply.permanent
        assert "holds no webhook-secret" in reply.error
        with pytest.raises((Permanent, Retry)):
            await valid(vault)


async def test_secrets_are_in_no_log_and_no_stream(vault: Serving) -> None:
    await rotate(vault)
    secrets = await valid(vault)
    assert await vault.vault.stop() == 0
    said = "\n".join(vault.vault.lines).encode()
    stored = await everything_stored(vault.bus)
    assert b"a new webhook secret is stored" in said
    for secret in secrets:
        assert secret.encode() not in said
        assert secret.encode() not in stored
