"""The services learn from the vault which App they are: the real programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harness.nats import NatsServer
from harness.programs import Program, program
from harness.vault import ScriptedVault, scripted_vault
from patchwright_common.app_facts import App
from patchwright_common.bus import Bus
from patchwright_common.credentials import AppFacts, Reply

SERVICES = ("triage", "runner", "publisher")
READY = r'"text": "ready'
API = "https://github.example/api/v3"
WAITING = "waiting for the App: "

Start = Callable[..., "asynccontextmanager[Program]"]


@pytest.fixture(name="vault")
async def _vault(bus: Bus) -> AsyncIterator[ScriptedVault]:
    async with scripted_vault(bus) as running:
        yield running


@pytest.fixture(params=SERVICES, name="service")
def _service(request: pytest.FixtureRequest, nats: NatsServer, tmp_path: Path) -> Start:
    """Starts one of the three; `given` are further variables."""

    @asynccontextmanager
    async def start(**given: str) -> AsyncIterator[Program]:
        name = str(request.param)
        environment = nats.environment(name) | {"PATCHWRIGHT_DATA": str(tmp_path)} | given
        async with program(f"patchwright-{name}", environment=environment) as running:
            yield running
        assert not any("Traceback" in line for line in running.lines)

    return start


async def test_service_is_ready_when_the_vault_knows_the_app(
    service: Start, vault: ScriptedVault
) -> None:
    vault.replies["app"] = Reply(error="the vault holds no App yet")
    async with service() as running:
        await running.line(WAITING + "the vault holds no App yet")
        assert not any(READY in line for line in running.lines)
        vault.app("doorbell", API)
        await running.line(READY)
        await running.line(f"the App is doorbell on {API}")
        assert await running.stop() == 0


async def test_another_app_ends_the_service_cleanly_so_that_it_starts_anew(
    service: Start, vault: ScriptedVault
) -> None:
    vault.app("doorbell", API)
    async with service() as running:
        await running.line(READY)
        vault.app("gong", API)
        await vault.note("github-app")
        assert await asyncio.wait_for(running.process.wait(), 20) == 0
        await running.line(f"the App is gong on {API} now: stopping")


async def test_same_facts_told_again_end_nothing(service: Start, vault: ScriptedVault) -> None:
    vault.app("doorbell", API)
    async with service() as running:
        await listening(running, vault)
        # Told anew, under another id, not at all, and gone.
        asked = len(vault.asked)
        for change in (
            lambda: vault.app("doorbell", API),
            lambda: vault.app("doorbell", API, app_id="2"),
            lambda: vault.replies.update(app=Reply(error="away")),
            lambda: vault.replies.update(app=Reply(error="No App.", permanent=True)),
        ):
            change()
            await vault.note("github-app")
            asked += 1
            await reached(lambda: len(vault.asked) >= asked)  # noqa: B023
        vault.app("gong", API)
        await vault.note("webhook-secret")
        await asyncio.sleep(0.3)
        assert running.process.returncode is None
        await vault.note("github-app")
        assert await asyncio.wait_for(running.process.wait(), 20) == 0


async def test_given_values_win_and_leave_nothing_to_ask(
    service: Start, vault: ScriptedVault
) -> None:
    both = {"PATCHWRIGHT_APP_SLUG": "mine", "PATCHWRIGHT_GITHUB_API_URL": API}
    async with service(**both) as running:
        await running.line(READY)
        assert "app" not in vault.asked
        assert await running.stop() == 0


async def test_given_name_is_kept_whatever_the_vault_says(
    service: Start, vault: ScriptedVault
) -> None:
    vault.app("doorbell", API)
    async with service(PATCHWRIGHT_APP_SLUG="mine") as running:
        await listening(running, vault)
        await running.line(f"the App is mine on {API}")
        vault.app("gong", API)
        await vault.note("github-app")
        await reached(lambda: len(vault.asked) >= 3)
        assert await running.stop() == 0
        assert not any("stopping" in line for line in running.lines)


async def test_note_that_was_lost_while_nats_was_away_is_made_up_for(
    service: Start, vault: ScriptedVault, nats: NatsServer
) -> None:
    vault.app("doorbell", API)
    async with service() as running:
        await running.line(READY)
        await nats.stop()
        vault.app("gong", API)
        await nats.start()
        assert await asyncio.wait_for(running.process.wait(), 30) == 0


def test_app_that_came_from_variables_without_a_name_has_the_defaults() -> None:
    known = App("", "").completed(AppFacts(app_id="1", slug="", api_url=""))
    assert known == App("patchwright", "https://api.github.com")


async def listening(running: Program, vault: ScriptedVault) -> None:
    """Ready, and through with its first look, from which on it hears notes."""
    await running.line(READY)
    await reached(lambda: vault.asked.count("app") >= 2)


async def reached(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():
            await asyncio.sleep(0.02)
