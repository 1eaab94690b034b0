"""The register in the vault: who is refused, what is forgotten, what is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from patchwright_common import requests
from patchwright_common.bus import flush
from patchwright_common.credentials import TokenRequest, Vault
from patchwright_common.flow import PW_DELIVERIES

from .looking import everything_stored
from .serving import Serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def pass_on(vault: Serving, act: Callable[[], Any], *, copies: int = 1) -> None:
    """Do something at GitHub; its webhooks reach the stream as ingest would store them."""
    before = len(await vault.github.settled())
    await act()
    for delivery in (await vault.github.settled())[before:]:
        for _ in range(copies):
            await vault.deliver(
                delivery["event"],
                delivery["action"],
                delivery["body"].encode(),
                delivery_id=delivery["guid"],
            )


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def webhooks(vault: Serving) -> None:
    """Nobody answers there; the log has what was sent."""
    await vault.github.change_app(vault.app.id, webhook_url="http://127.0.0.1:9/hooks")
    await vault.github.settled()


async def refused(vault: Serving, caller: str, request: TokenRequest) -> str:
    """The reason, once there is one."""
    for _ in range(100):
        reply = await vault.ask(caller, "token", request)
        if reply.error:
            assert reply.permanent
            return reply.error
        await asyncio.sleep(0.05)
    raise AssertionError("it goes on handing out tokens")


async def records(vault: Serving) -> list[str]:
    found = json.loads((await Vault(vault.bus, "setup").ask("list")).value or "")
    return [record["name"] for record in found]


async def test_suspended_installation_gets_no_token_until_that_ends(
    vault: Serving, ours: TokenRequest
) -> None:
    first = await vault.token("runner", ours)
    await pass_on(vault, lambda: vault.github.suspend(ours.installation_id), copies=2)
    for caller in ("runner", "publisher", "triage"):
        assert "suspended" in await refused(vault, caller, ours)
    ahead = ours.model_copy(update={"job_id": ""})
    assert "suspended" in await refused(vault, "triage", ahead)
    await pass_on(vault, lambda: vault.github.unsuspend(ours.installation_id))
    for _ in range(100):
        reply = await vault.ask("runner", "token", ours)
        if reply.value:
            break
        await asyncio.sleep(0.05)
    assert reply.value
    assert reply.value != first


async def test_deleted_installation_leaves_no_tokens_and_no_account(
    vault: Serving, ours: TokenRequest
) -> None:
    await vault.token("runner", ours)
    name = f"installation.{ours.installation_id}"
    created = (await vault.github.settled())[-1]
    await vault.deliver("installation", "created", created["body"].encode())
    assert name in await records_with(vault, name)
    await pass_on(vault, lambda: vault.github.uninstall(ours.installation_id), copies=2)
    assert "not installed" in await refused(vault, "runner", ours)
    await vault.deliver("installation", "created", created["body"].encode())
    await asyncio.sleep(0.5)
    assert "not installed" in await refused(vault, "runner", ours)
    # What is left is the id with its end, so that nothing late brings it back.
    assert name in await records(vault)


async def test_deletion_of_what_the_register_does_not_have_ends_its_tokens_all_the_same(
    vault: Serving, ours: TokenRequest
) -> None:
    await vault.token("runner", ours)
    created = (await vault.github.settled())[-1]
    await pass_on(vault, lambda: vault.github.uninstall(ours.installation_id))
    assert "not installed" in await refused(vault, "runner", ours)
    await vault.deliver("installation", "created", created["body"].encode())
    await vault.vault.line(f"GitHub knows no installation {ours.installation_id}")
    assert "not installed" in await refused(vault, "runner", ours)
    assert f"installation.{ours.installation_id}" not in await records(vault)


async def test_installation_that_is_not_in_the_register_is_served(
    vault: Serving, ours: TokenRequest
) -> None:
    assert f"installation.{ours.installation_id}" not in await records(vault)
    assert await vault.token("runner", ours)


async def test_removed_repository_has_its_tokens_taken_out_of_circulation(
    vault: Serving,
) -> None:
    one, other = await vault.install("one", "other")
    tokens = [await vault.token("runner", wanted) for wanted in (one, other)]
    name = await vault.name_of(one, tokens[0])
    removing = lambda: vault.github.remove_repositories(one.installation_id, [name])  # noqa: E731
    await pass_on(vault, removing)
    assert "does not cover" in await refused(vault, "runner", one)
    assert await vault.token("runner", other) == tokens[1]


async def test_forged_suspension_costs_a_token_and_locks_nobody_out(
    vault: Serving, ours: TokenRequest
) -> None:
    """GitHub is the truth. This one is large besides, so that it lies in the object store."""
    first = await vault.token("runner", ours)
    body = json.dumps(
        {
            "action": "suspend",
            "installation": {
                "id": ours.installation_id,
                "account": {"login": "ada"},
                "suspended_at": "2026-11-23T10:00:00Z",
            },
            "repositories": [{"id": number, "name": "n" * 200} for number in range(8000)],
        }
    ).encode()
    assert len(body) > 2**20
    reference = await vault.bus.put(PW_DELIVERIES, body)
    await vault.deliver("installation", "suspend", b"", **{"Patchwright-Body-Sha256": reference})
    for _ in range(100):
        if (again := await vault.token("runner", ours)) != first:
            break
        await asyncio.sleep(0.05)
    assert again != first


async def test_change_is_announced_without_a_value(vault: Serving, ours: TokenRequest) -> None:
    notes = await vault.bus.client.subscribe(requests.CHANGED)
    await flush(vault.bus.client)
    await pass_on(vault, lambda: vault.github.suspend(ours.installation_id))
    note = await notes.next_msg(timeout=5)
    assert note.data == f"installation.{ours.installation_id}".encode()
    await notes.unsubscribe()


async def test_records_are_sealed_like_everything(vault: Serving, ours: TokenRequest) -> None:
    account, name = f"canary-{uuid4().hex}", f"installation.{ours.installation_id}"
    payload = {"installation": {"id": ours.installation_id, "account": {"login": account}}}
    sequence = (await vault.bus.js.stream_info("KV_PW_VAULT")).state.last_seq
    await vault.deliver("installation", "created", json.dumps(payload).encode())
    for _ in range(100):
        if name in await records(vault):
            break
        await asyncio.sleep(0.05)
    message = await vault.bus.js.get_last_msg("KV_PW_VAULT", f"$KV.PW_VAULT.{name}")
    assert (message.seq or 0) > sequence
    assert account.encode() not in (message.data or b"")
    assert account.encode() in await everything_stored(vault.bus)  # the delivery has it


async def test_webhook_that_is_none_of_an_installation_leaves_a_line_and_nothing_else(
    vault: Serving, ours: TokenRequest
) -> None:
    """A comment's deletion, say, with its header exchanged: its signature is good."""
    before, records_before = await letters(vault), await records(vault)
    relabelled = {
        "action": "deleted",
        "issue": {"number": 1},
        "comment": {"id": 3},
        "repository": {"id": ours.repository_id},
        "installation": {"id": ours.installation_id, "node_id": "M"},
    }
    token = await vault.token("runner", ours)
    await vault.deliver("installation", "deleted", json.dumps(relabelled).encode())
    await vault.vault.line("ignored what came as an installation's webhook")
    await asyncio.sleep(0.5)
    assert await vault.token("runner", ours) == token
    assert (await letters(vault), await records(vault)) == (before, records_before)


async def test_installation_that_github_does_not_know_gets_no_record(
    vault: Serving, ours: TokenRequest
) -> None:
    before = await letters(vault)
    for number in range(10_000_000, 10_000_005):
        await vault.deliver("installation", "created", webhook(number))
        await vault.vault.line(f"GitHub knows no installation {number}")
    await vault.deliver("installation", "created", webhook(ours.installation_id))
    name = f"installation.{ours.installation_id}"
    assert name in await records_with(vault, name)
    assert not [name for name in await records(vault) if name.startswith("installation.1000000")]
    assert await letters(vault) == before


async def test_new_installation_waits_while_github_cannot_be_asked(
    vault: Serving, ours: TokenRequest
) -> None:
    path, name = (
        f"/app/installations/{ours.installation_id}",
        f"installation.{ours.installation_id}",
    )
    await vault.github.fault("GET", path, status=502, times=2)
    await vault.deliver("installation", "created", webhook(ours.installation_id))
    assert name in await records_with(vault, name)
    assert len(await vault.github.requests("GET", path)) == 3


async def test_forged_deletion_leaves_no_token_behind_at_the_jobs_end(
    vault: Serving, ours: TokenRequest
) -> None:
    token = await vault.token("publisher", ours)
    path, name = f"/repositories/{ours.repository_id}", f"installation.{ours.installation_id}"
    await vault.deliver("installation", "deleted", webhook(ours.installation_id))
    assert name in await records_with(vault, name)
    assert await vault.status("GET", path, token) == 200
    await vault.finish(ours.job_id)
    for _ in range(200):
        if await vault.status("GET", path, token) != 200:
            break
        await asyncio.sleep(0.05)
    assert await vault.status("GET", path, token) == 401


def webhook(installation_id: int) -> bytes:
    """As like one as anybody can make it."""
    return json.dumps({"installation": {"id": installation_id, "account": {"login": "a"}}}).encode()


async def records_with(vault: Serving, name: str) -> list[str]:
    """The names, once that one is there."""
    for _ in range(200):
        if name in (found := await records(vault)):
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"no {name}")


async def letters(vault: Serving) -> int:
    return (await vault.bus.js.stream_info("PW_DLQ")).state.messages
