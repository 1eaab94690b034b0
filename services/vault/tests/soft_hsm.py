"""SoftHSM: a PKCS#11 token whose keys are files, behind the same interface as an HSM's."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pkcs11
from pydantic import SecretStr

from patchwright_vault.keys.hsm import Pkcs11Keys, TokenSettings
from patchwright_vault.keys.thread import Thread

MISSING = (
    "SoftHSM is missing, and the vault's PKCS#11 keys are tested on it: apt-get install softhsm2"
)
LIBRARIES = ("/usr/lib/softhsm", "/usr/lib64/softhsm", "/usr/lib/*/softhsm", "/opt/*/lib/softhsm")
PIN = "pin-4711"

HOLD_LOCKS = """
import fcntl, pathlib, sys
held = [path.open("r+") for path in pathlib.Path(sys.argv[1]).rglob("*") if path.is_file()]
for file in held:
    fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


USE = """
import asyncio, pathlib, sys
from pydantic import SecretStr
from patchwright_vault.keys.hsm import Pkcs11Keys, TokenSettings
from patchwright_vault.keys.thread import Thread

async def use():
    settings = TokenSettings(pathlib.Path(sys.argv[1]), sys.argv[2], SecretStr(sys.argv[3]))
    keys = Pkcs11Keys(settings, Thread("the token"))
    await getattr(keys, sys.argv[4])()
    version, wrapped = await keys.wrap(b"data key", b"")
    print(version, wrapped.hex())

asyncio.run(use())
"""


@dataclass(frozen=True)
class SoftHsm:
    """Where it lies, and the variable that tells its library so."""

    module: Path
    folder: Path
    thread: Thread

    @classmethod
    def set_up(cls, folder: Path) -> SoftHsm:
        """Fails, and does not skip, where it is not installed."""
        found = [
            library
            for pattern in LIBRARIES
            for library in Path("/").glob(f"{pattern[1:]}/libsofthsm2.so")
        ]
        assert found, MISSING
        assert shutil.which("softhsm2-util"), MISSING
        (folder / "tokens").mkdir()
        hsm = cls(found[0], folder, Thread("the token"))
        Path(hsm.environment["SOFTHSM2_CONF"]).write_text(
            f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n"
            "log.level = ERROR\nslots.removable = false\n"
        )
        return hsm

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}

    def token(self) -> TokenSettings:
        """A new one, without keys."""
        label = f"token-{uuid4().hex[:8]}"
        pins = ("--pin", PIN, "--so-pin", "so-pin-0815")
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, *pins],
            check=True,
            capture_output=True,
            env=self.environment,
        )
        self.forget()  # it lists the tokens once
        return TokenSettings(self.module, label, SecretStr(PIN))

    def keys(self, token: TokenSettings, *, time_limit: float = 10) -> Pkcs11Keys:
        """Another vault's, but for the process."""
        return Pkcs11Keys(token, self.thread, time_limit=time_limit)

    def forget(self) -> None:
        """End every session and login, as when a token is taken out and put back."""
        pkcs11.lib(str(self.module)).reinitialize()

    async def elsewhere(self, token: TokenSettings, what: str) -> tuple[int, bytes]:
        """`what` in another process; what that one then wrapped."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", USE, str(self.module), token.token, PIN, what),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        version, wrapped = output.decode().split()
        return int(version), bytes.fromhex(wrapped)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Another process has the token's locks: every call waits for as long as this lasts."""
        with subprocess.Popen(
            [sys.executable, "-c", HOLD_LOCKS, str(self.folder / "tokens")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdout
            assert holder.stdout.readline() == "held\n"
            try:
                yield
            finally:
                holder.communicate()
