"""The server as it is deployed."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import httpx

from patchwright_local.identities import Identities
from patchwright_local.nats_nodes import Nodes
from patchwright_local.ports import free_ports
from patchwright_local.processes import Supervisor


async def test_what_is_acknowledged_is_on_the_disk_and_not_only_in_memory(tmp_path: Path) -> None:
    """Each write is synced: a power cut takes the memory of the whole machine."""
    port, monitor = free_ports(2)
    identities = Identities(tmp_path / "identities")
    identities.make()
    environment = {**os.environ, **identities.public()}
    [server] = Nodes(port, 1).processes(tmp_path / "store", environment)
    server = replace(server, command=(*server.command, "--http_port", str(monitor)))
    supervisor = Supervisor(lambda _name, _line: None, tmp_path / "logs")
    async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False) as http:
        try:
            await supervisor.start(server)
            answer = await http.get(f"http://127.0.0.1:{monitor}/varz")
        finally:
            await supervisor.stop()
    assert answer.json()["jetstream"]["config"]["sync_always"] is True
