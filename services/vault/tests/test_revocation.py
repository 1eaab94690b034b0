"""Tokens end with their job, and with their vault; no other job's do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pydantic import SecretStr

from harness.programs import program
from patchwright_common import requests
from patchwright_common.credentials import TokenRequest, digest
from patchwright_vault.revocation import LINGER

from .serving import READY, Serving, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
GRACE = 1.5


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="vault")
async def _vault(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    folder = tmp_path_factory.mktemp("vault")
    async with serving(folder) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sweeping(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """With a grace that a test can wait for."""
    folder = tmp_path_factory.mktemp("sweeping")
    async with serving(folder, PATCHWRIGHT_TOKEN_GRACE=str(GRACE)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def ours(vault: Serving) -> TokenRequest:
    [made] = await vault.install("ours")
    return made


async def is_good(vault: Serving, request: TokenRequest, token: str) -> bool:
    path = f"/repositories/{request.repository_id}"
    return await vault.status("GET", path, token) == 200


async def ended(vault: Serving, request: TokenRequest, token: str, *, within: float) -> bool:
    """Whether GitHub refuses it soon."""
    deadline = asyncio.get_running_loop().time() + within
    while asyncio.get_running_loop().time() < deadline:
        if not await is_good(vault, request, token):
            return True
        await asyncio.sleep(0.05)
    return False


async def revocations(vault: Serving) -> int:
    return len(await vault.github.requests("DELETE", "/installation/token"))


async def test_end_of_a_job_revokes_its_tokens_and_no_others(
    vault: Serving, ours: TokenRequest
) -> None:
    other = await vault.job(ours)
    mine = [await vault.token(caller, ours) for caller in ("triage", "runner", "publisher")]
    theirs = [await vault.token(caller, other) for caller in ("runner", "publisher")]
    await vault.finish(ours.job_id)
    for token in mine:
        assert await ended(vault, ours, token, within=10)
    await asyncio.sleep(1)
    assert all([await is_good(vault, other, token) for token in theirs])


async def test_token_that_was_replaced_is_revoked_too(vault: Serving, ours: TokenRequest) -> None:
    first = await vault.token("runner", ours)
    named = ours.model_copy(update={"refused": digest(SecretStr(first))})
    second = await vault.token("runner", named)
    assert second != first
    assert await is_good(vault, ours, first)
    await vault.finish(ours.job_id)
    for token in (first, second):
        assert await ended(vault, ours, token, within=10)


async def test_straggler_of_an_ended_job_gets_a_token_that_is_revoked_after_a_grace(
    sweeping: Serving,
) -> None:
    vault = sweeping
    [ours] = await vault.install("ours")
    early = await vault.token("publisher", ours)
    await vault.finish(ours.job_id)
    assert await ended(vault, ours, early, within=10)
    late = await vault.token("publisher", ours)
    await asyncio.sleep(GRACE / 3)
    assert await is_good(vault, ours, late)
    assert await ended(vault, ours, late, within=4 * GRACE)


async def test_end_that_no_event_told_of_is_found_by_the_sweep(
    sweeping: Serving,
) -> None:
    """The publisher was killed between the outcome and the event, or a vault missed the note."""
    vault = sweeping
    [ours] = await vault.install("ours")
    token = await vault.token("runner", ours)
    await asyncio.sleep(2 * GRACE)
    assert await is_good(vault, ours, token)
    await vault.report(ours.job_id)
    assert await ended(vault, ours, token, within=4 * GRACE)


@pytest.mark.parametrize("fault", [{"status": 502}, {"drop": True}, {"status": 403}])
async def test_revocation_is_tried_again_while_github_is_away(
    vault: Serving, ours: TokenRequest, fault: dict[str, object]
) -> None:
    token = await vault.token("runner", ours)
    await vault.github.fault("DELETE", "/installation/token", times=2, **fault)  # type: ignore[arg-type]
    await vault.finish(ours.job_id)
    assert await ended(vault, ours, token, within=15)


async def test_token_that_is_gone_already_counts_as_revoked(
    vault: Serving, ours: TokenRequest
) -> None:
    token = await vault.token("runner", ours)
    await vault.github.api("DELETE", "/installation/token", token=token)
    before = await revocations(vault)
    await vault.finish(ours.job_id)
    await asyncio.sleep(LINGER + 4)
    assert await revocations(vault) == before + 1


async def test_each_vault_revokes_what_it_minted(vault: Serving, ours: TokenRequest) -> None:
    """One gets the event; the note lets the others know."""
    async with program("patchwright-vault", environment=vault.environment) as second:
        await second.line(READY)
        tokens: dict[str, TokenRequest] = {}
        jobs = [await vault.job(ours) for _ in range(12)]
        for job in jobs:
            tokens[await vault.token("runner", job)] = job
        for job in jobs:
            await vault.finish(job.job_id)
        for token, job in tokens.items():
            assert await ended(vault, job, token, within=10)
        assert any("revoked a token" in line for line in second.lines)
        assert await second.stop() == 0


async def test_note_that_names_no_job_is_passed_over(vault: Serving, ours: TokenRequest) -> None:
    token = await vault.token("triage", ours.model_copy(update={"job_id": ""}))
    for body in (b"", b"none.>", b"\xff", b"a" * 100):
        await vault.bus.client.publish(requests.ENDED, body)
    await vault.bus.client.flush()
    await asyncio.sleep(0.3)
    assert await is_good(vault, ours, token)


async def test_vault_that_stops_revokes_what_it_holds(vault: Serving, ours: TokenRequest) -> None:
    """The vault is gone after this one."""
    tokens = [await vault.token(caller, ours) for caller in ("runner", "publisher")]
    tokens.append(await vault.token("triage", ours.model_copy(update={"job_id": ""})))
    assert await vault.vault.stop() == 0
    assert not any([await is_good(vault, ours, token) for token in tokens])
    assert "Traceback" not in "\n".join(vault.vault.lines)


async def test_vault_stops_in_time_when_github_hangs(vault: Serving, ours: TokenRequest) -> None:
    await vault.vault.stop()
    async with program("patchwright-vault", environment=vault.environment) as second:
        await second.line(READY)
        for _ in range(3):
            await vault.token("runner", await vault.job(ours))
        await vault.github.fault("DELETE", "/installation/token", times=99, delay=60)
        assert await second.stop(timeout=18) == 0
        await second.line("3 tokens were not revoked")
    await vault.github.clear_faults()
