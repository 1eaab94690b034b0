"""Keys that come with the environment. Only their operator can add or remove one."""

from __future__ import annotations

from pydantic import SecretStr

from patchwright_common.errors import Permanent
from patchwright_vault.keys.ring import parse

VARIABLE = "PATCHWRIGHT_VAULT_KEYS"


class EnvironmentKeys:
    """`keys` as `ring.py` reads them: `2:hex,1:hex`, the first is current."""

    where = VARIABLE

    def __init__(self, keys: SecretStr) -> None:
        self._ring = parse(keys.get_secret_value(), VARIABLE)

    async def begin(self) -> None:
        """There is a key, or it would not have been made."""

    async def versions(self) -> tuple[int, ...]:
        """As at the start of this process."""
        return self._ring.versions

    async def wrap(self, data_key: bytes, context: bytes) -> tuple[int, bytes]:
        """With the first key."""
        return self._ring.wrap(data_key, context)

    async def unwrap(self, version: int, wrapped: bytes, context: bytes) -> bytes:
        """With any of them."""
        return self._ring.unwrap(version, wrapped, context)

    async def rotate(self) -> int:
        """Refused."""
        new = max(self._ring.versions) + 1
        raise Permanent(
            f"The vault's keys come from {VARIABLE}, where only you can add one. "
            "Nothing was changed.",
            advice=f"Make a key (`openssl rand -hex 32`), add `{new}:<the key>` at the end of "
            f"{VARIABLE} and restart every vault; then move it to the front and restart every "
            "vault; then rotate again, which seals every record with it.",
        )

    async def retire(self, version: int) -> None:
        """Refused: there is nothing here that could be destroyed."""
        if version not in self._ring.versions:
            return
        self._ring.without(version)
        raise Permanent(
            f"No record uses key version {version} any more, but it comes from {VARIABLE}, where "
            "only you can remove it. Nothing was changed.",
            advice=f"Remove `{version}:…` from {VARIABLE} and restart every vault.",
        )

    async def legacy(self) -> bytes | None:
        """Version 1, if it is here."""
        return self._ring.keys.get(1)
