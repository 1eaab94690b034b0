"""The keys by which the services are known to NATS: a seed file each, made once."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import nkeys

from patchwright_common.permissions import variable
from patchwright_common.requests import IDENTITIES

CONFIGURATION = Path(__file__).parents[3] / "deploy" / "nats" / "server.conf"


class Identities:
    """Seed files `<name>.nk` in a folder, for their owner alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self) -> None:
        """Make what is missing; a key that is there stays."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in IDENTITIES:
            seed = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER)
            with contextlib.suppress(FileExistsError):
                _write_new(self.seed(name), seed)

    def seed(self, name: str) -> Path:
        """The file with the identity's private key."""
        return self._folder / f"{name}.nk"

    def public(self) -> dict[str, str]:
        """What nats-server has to know, as its environment. Raises OSError, ValueError."""
        return {variable(name): self.public_key(name) for name in IDENTITIES}

    def public_key(self, name: str) -> str:
        """The identity's name at NATS."""
        pair = nkeys.from_seed(bytearray(self.seed(name).read_bytes().strip()))
        try:
            return str(pair.public_key.decode())
        finally:
            pair.wipe()


def _write_new(path: Path, seed: bytes) -> None:
    """Whole or not at all: a start that is cut off leaves no key that does not fit."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(seed + b"\n")
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
