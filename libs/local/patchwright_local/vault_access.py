"""The vault as an operator reaches it: of the stack that runs here, or of one elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from patchwright_common.bus import Bus
from patchwright_common.credentials import Vault
from patchwright_common.errors import Permanent
from patchwright_common.requests import SETUP
from patchwright_local import state
from patchwright_local.connection import connected


class VaultAccess(BaseSettings):
    """Where to look; with a URL the stack that runs here does not matter."""

    model_config = SettingsConfigDict(
        env_prefix="PATCHWRIGHT_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    home: Path = Field(default=Path(".patchwright"), description="Data of the local stack.")
    nats_url: str = Field(default="", description="Another NATS than that of the local stack.")
    nats_nkey_file: Path | None = Field(
        default=None, description="The key of the identity `setup` there: a seed file."
    )

    def way(self) -> tuple[str, Path | None]:
        """NATS's address and the key for it. Raises `Permanent` when there is none."""
        if self.nats_url:
            file = self.nats_nkey_file
            # A variable that is set but empty is as if not there.
            return self.nats_url, None if file in (None, Path()) else file.expanduser()
        stack = state.running(state.Folder(self.home.absolute()))
        if stack is None:
            raise Permanent(
                "No stack runs here, so there is no vault to ask.",
                advice="Start it with `just up`, or set PATCHWRIGHT_NATS_URL and "
                "PATCHWRIGHT_NATS_NKEY_FILE to reach another one.",
            )
        return stack.nats_url, stack.nkey(SETUP)


@asynccontextmanager
async def administered(access: VaultAccess) -> AsyncIterator[Vault]:
    """The vault, asked as `setup`. Raises `Permanent`, and what nats-py raises."""
    url, key = access.way()
    if key is not None and not key.is_file():
        raise Permanent(f"There is no key for NATS at {key}.")
    async with connected(url, key, identity=SETUP) as client:
        yield Vault(Bus(client), SETUP)
