"""The vault serves only where the server keeps the services apart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from harness.nats import NatsServer
from harness.programs import program
from patchwright_common.bus import Bus

from .looking import writes

PROGRAM = "patchwright-vault"


def own(folder: Path) -> dict[str, str]:
    return {"PATCHWRIGHT_VAULT_KEY_FILE": str(folder / "vault.key")}


async def test_vault_serves_under_its_own_identity_and_logs_no_refusal(
    nats: NatsServer, tmp_path: Path
) -> None:
    environment = nats.environment("vault") | own(tmp_path)
    async with program(PROGRAM, environment=environment) as vault:
        await vault.line('"text": "ready')
        assert "refused" not in "\n".join(vault.lines)
        assert await vault.stop() == 0


@pytest.mark.timeout(60)
async def test_vault_does_not_serve_where_everybody_may_do_everything(
    nats: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    environment = {"PATCHWRIGHT_NATS_URL": nats.url} | own(tmp_path)
    environment["ANTHROPIC_API_KEY"] = "sk-not-stored"
    async with program(PROGRAM, environment=environment) as vault:
        assert await asyncio.wait_for(vault.process.wait(), 20) == 1
        await vault.line("NATS does not keep the services apart.*deploy/nats/server.conf")
    assert await writes(bus) == 0
