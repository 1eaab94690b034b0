"""The pages on a clock of the test's own, with a vault's double behind a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from starlette.applications import Starlette

from patchwright_common.bus import Bus
from patchwright_common.credentials import Vault
from patchwright_setup.app import create_app
from patchwright_setup.door import Door
from patchwright_setup.page import Site, environment
from patchwright_setup.vault import SetupVault

from .double import VaultDouble, vault_double
from .visitor import ORIGIN, Visitor


@dataclass
class Pages:
    """`now` is the door's clock in seconds; `finished` counts how often the end was reached."""

    vault: VaultDouble
    now: float = 1000.0
    finished: int = 0
    door: Door = field(init=False)
    app: Starlette = field(init=False)
    visitor: Visitor = field(init=False)

    def __post_init__(self) -> None:
        self.door = Door(lambda: self.now)

    async def finish(self) -> None:
        self.finished += 1

    async def review(self) -> str:
        """Come in, fill the first form, and stand before the way to GitHub; its state."""
        await self.visitor.enter(self.door.new_link())
        await self.visitor.get("/app")
        answer = await self.visitor.post("/app", **WANTED)
        assert answer.status_code == 200, answer.text
        return self.visitor.state()


WANTED = {
    "owner": "organization",
    "organization": "engines",
    "name": "Patchwright Test",
    "github": "https://ghe.example.com",
    "webhook_url": "https://hooks.example.com",
}


@pytest.fixture
async def pages(bus: Bus) -> AsyncIterator[Pages]:
    async with vault_double(bus) as double:
        made = Pages(double)
        site = Site(
            public_url=ORIGIN,
            github_url="https://github.com",
            webhook_url="",
            stays=False,
            door=made.door,
            vault=SetupVault(Vault(bus, "setup")),
            templates=environment(),
            finish=made.finish,
        )
        made.app = create_app(site, listening="127.0.0.1:8083")
        made.visitor = Visitor.of(made.app)
        yield made
        await made.visitor.client.aclose()
