"""A real vault, and the commands as an operator types them in a terminal elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from harness.nats import NatsServer
from harness.programs import program
from patchwright_common.requests import SETUP

SECRETS = "from patchwright_local.secrets import app; app()"
SETUP_UNATTENDED = """
import asyncio, sys
from patchwright_local.unattended import Given, set_up
sys.exit(not asyncio.run(set_up(Given(), print)))
"""
"""The commands without all the others of `patchwright`, which take seconds to import."""
READY = r'"text": "ready'


def rsa_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass(frozen=True)
class Said:
    """What a command left in the terminal."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Terminal:
    """Where commands are run; nothing of this process's environment is in it."""

    folder: Path
    environment: dict[str, str]

    async def secrets(self, *words: str, stdin: str = "") -> Said:
        """`just secrets …`."""
        return await self.run(sys.executable, "-c", SECRETS, *words, stdin=stdin)

    async def setup(self, **more: str) -> Said:
        """`just setup --non-interactive`; `more` are further variables."""
        return await self.run(sys.executable, "-c", SETUP_UNATTENDED, **more)

    async def run(self, *words: str, stdin: str = "", **more: str) -> Said:
        """Any program."""
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "COLUMNS": "200", **self.environment, **more},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate(stdin.encode())
        return Said(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def operating(nats: NatsServer, folder: Path, **more: str) -> AsyncIterator[Terminal]:
    """`more` are further variables of the vault."""
    environment = nats.environment("vault") | {
        "PATCHWRIGHT_VAULT_KEY_FILE": str(folder / "vault.key")
    }
    async with program("patchwright-vault", environment=environment | more) as vault:
        await vault.line(READY)
        yield Terminal(folder, nats.environment(SETUP))
